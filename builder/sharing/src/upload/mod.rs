//! Sends results to one cache, behind the build.
//!
//! Of each layer only the chunks go that the cache lacks; blobs first, the result that names them
//! last. Each layer of a build is read once, however many results stand on it, and not at all if
//! the cache is known to have it. So much is under way at a time that memory stays bounded.
//!
//! | module | subject |
//! |---|---|
//! | `layer` | a layer's chunks |
//! | `result` | the result, under its keys |

mod layer;
mod result;

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ashlar_engine::share::MadeResult;
use ashlar_model::cas::{ActionKey, CasDigest, DigestFunction, SharedLayer};
use ashlar_model::digest::LayerId;
use ashlar_model::executor::{BoxFuture, StepError};
use ashlar_model::layer::{LayerOrigin, LayerRecord};
use ashlar_store::fault::FaultKind;
use ashlar_store::home::Home;
use futures::FutureExt as _;
use futures::future::{Shared, join_all};
use tokio::sync::Semaphore;

use crate::action::{StepAction, StepKey};
use crate::breaker::{Trouble, Use};
use crate::cache::{ANSWER, Cache};
use crate::fetch::chunks_of;
use crate::lookup::is_believed;
use crate::record::ResultLayer;
use crate::service::Fence;
use crate::signature::{SIGNATURE_PATH, Signer};
use result::{came_with_image, is_described, result_layer};

/// Layers that are sent at once.
const LAYERS: usize = 2;

/// Gives the tars of layers that were made here.
pub trait LayerTars: Send + Sync + std::fmt::Debug {
    /// The record of a layer with its diff ID, which is found out if it is not known. `below` are
    /// the layers that it stands on, bottom first.
    fn describe<'a>(
        &'a self,
        layer: LayerId,
        below: Vec<LayerId>,
    ) -> BoxFuture<'a, Result<LayerRecord, StepError>>;

    /// A layer's tar.
    fn open<'a>(
        &'a self,
        layer: LayerId,
        below: Vec<LayerId>,
    ) -> BoxFuture<'a, Result<Box<dyn Read + Send>, StepError>>;
}

/// What was sent, and what was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Bytes of chunks.
    pub bytes: u64,
    /// Chunks.
    pub chunks: u64,
    /// Results.
    pub results: u64,
}

/// Sends results to a cache.
#[derive(Debug)]
pub struct Uploader {
    home: Home,
    cache: Arc<Cache>,
    tars: Arc<dyn LayerTars>,
    signer: Option<Arc<Signer>>,
    turns: Semaphore,
    layers: Mutex<HashMap<LayerId, LayerUpload>>,
    /// Blobs that the cache has, as far as this build knows.
    known: Mutex<HashSet<CasDigest>>,
    /// Layers that could not be sent since their files are nowhere, and what was said of them.
    lost: Mutex<HashMap<LayerId, String>>,
    bytes: AtomicU64,
    chunks: AtomicU64,
    results: AtomicU64,
}

/// What has to be there of a layer that the cache is remembered to have, so that it is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// The trees that list its chunks. Whoever stores the result looks for these.
    Trees,
    /// All of it.
    Chunks,
}

/// The trees of a layer that the cache has; `None` if it could not be sent.
type LayerUpload = Shared<BoxFuture<'static, Option<Arc<[CasDigest]>>>>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Uploader {
    /// Sends what is in this store to a cache. Who signs, signs what this machine has made.
    pub fn new(
        home: Home,
        cache: Arc<Cache>,
        tars: Arc<dyn LayerTars>,
        signer: Option<Arc<Signer>>,
    ) -> Self {
        Self {
            home,
            cache,
            tars,
            signer,
            turns: Semaphore::new(LAYERS),
            layers: Mutex::default(),
            known: Mutex::default(),
            lost: Mutex::default(),
            bytes: AtomicU64::new(0),
            chunks: AtomicU64::new(0),
            results: AtomicU64::new(0),
        }
    }

    /// The cache.
    pub const fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// What was sent so far.
    pub fn sent(&self) -> Sent {
        Sent {
            bytes: self.bytes.load(Ordering::Relaxed),
            chunks: self.chunks.load(Ordering::Relaxed),
            results: self.results.load(Ordering::Relaxed),
        }
    }

    /// Sends a result, unless the cache has it already. Whether it has it now.
    pub async fn offer(self: &Arc<Self>, result: &MadeResult) -> bool {
        let cache = &self.cache;
        let instance = cache.instance();
        let key = StepKey::Definition(result.definition);
        let asked = cache.ask(Use::Write, ANSWER, |service| async move {
            let action = StepAction::of(&key, service.function);
            let extended = match &service.extension {
                Some(extension) => {
                    let found = extension.probe(&[action.digest], &[SIGNATURE_PATH]).await;
                    match found {
                        Err(fault) if fault.kind == FaultKind::Unsupported => None,
                        found => Some(found?),
                    }
                }
                None => None,
            };
            let found = match extended {
                Some(found) => found,
                None => {
                    let key = ActionKey {
                        instance: instance.to_owned(),
                        action: action.digest,
                    };
                    service.actions.get(&[key]).await?
                }
            };
            match found.into_iter().next().flatten() {
                Some(found) => is_believed(&service, cache, key, &found).await,
                None => Ok(false),
            }
        });
        match asked.await {
            Some(Ok(true)) => {
                self.note(result);
                true
            }
            Some(Ok(false)) => self.publish(result, false, None).await,
            Some(Err(_)) | None => false,
        }
    }

    /// Sends a result. With `replace`, it takes the place of what the cache has. Whether it has
    /// arrived.
    pub async fn publish(
        self: &Arc<Self>,
        result: &MadeResult,
        replace: bool,
        fence: Option<&Fence>,
    ) -> bool {
        let Some(function) = self.function().await else {
            return false;
        };
        // What takes the place of something stands for what was lost: there, much may be.
        let first = if replace { Trust::Chunks } else { Trust::Trees };
        for trust in [first, Trust::Chunks] {
            let Some((layers, reused)) = self.send_layers(result, function, trust).await else {
                return false;
            };
            match self.put(result, &layers, replace, fence).await {
                // Where nobody has checked, a look tells whether all is there.
                Some(Ok(checked)) => {
                    if checked || !reused || self.is_complete(result).await {
                        self.note(result);
                        self.results.fetch_add(1, Ordering::Relaxed);
                        return true;
                    }
                }
                // Something went away since it was sent or found there: all is looked at once more.
                Some(Err(fault)) if fault.kind == FaultKind::Precondition => {}
                Some(Err(_)) | None => return false,
            }
            self.forget(&result.stack);
        }
        false
    }

    fn note(&self, result: &MadeResult) {
        // Only time is lost if it cannot be noted.
        drop(
            self.home
                .note_result_in(self.cache.name(), &result.definition),
        );
    }

    /// Forgets what the cache was believed to have.
    fn forget(&self, layers: &[LayerId]) {
        locked(&self.known).clear();
        let mut uploads = locked(&self.layers);
        for layer in layers {
            uploads.remove(layer);
            drop(self.home.forget_copy(layer, self.cache.name()));
        }
    }

    /// The function agreed upon.
    async fn function(&self) -> Option<DigestFunction> {
        let asked = self.cache.ask(
            Use::Write,
            ANSWER,
            |service| async move { Ok(service.function) },
        );
        asked.await?.ok()
    }

    /// Sends the layers of a result. Gives what the record says of them and their trees, and
    /// whether any was believed to be there already.
    async fn send_layers(
        self: &Arc<Self>,
        result: &MadeResult,
        function: DigestFunction,
        trust: Trust,
    ) -> Option<(Vec<(ResultLayer, Vec<CasDigest>)>, bool)> {
        let mut records = Vec::with_capacity(result.stack.len());
        for (depth, layer) in result.stack.iter().enumerate() {
            let record = self.record(*layer, &result.stack[..depth]).await?;
            // An image was pulled here that has a layer of this step. Others could get it only
            // from where the image came from, which they may not know, nor be let into.
            let was_made = result.made.get(depth).copied().unwrap_or(false);
            if was_made && came_with_image(&record) {
                return None;
            }
            records.push(record);
        }
        let reused = self.reuse(&records, function, trust).await?;
        let trees = records.iter().enumerate().map(|(depth, record)| {
            let upload = (!came_with_image(record)).then(|| {
                let below = result.stack[..depth].to_vec();
                self.upload(record.id, below, function)
            });
            async move {
                match upload {
                    None => Some(Vec::new()),
                    Some(upload) => upload.await.map(|trees| trees.to_vec()),
                }
            }
        });
        let trees: Option<Vec<Vec<CasDigest>>> = join_all(trees).await.into_iter().collect();
        let layers = records.into_iter().zip(trees?);
        let layers = layers.map(|(record, trees)| Some((result_layer(&record, &trees)?, trees)));
        Some((layers.collect::<Option<_>>()?, reused))
    }

    /// A layer's record, with all that the shared record needs.
    async fn record(&self, layer: LayerId, below: &[LayerId]) -> Option<LayerRecord> {
        match self.home.layer(&layer) {
            Ok(Some(known)) if is_described(&known) => return Some(known),
            Ok(_) => {}
            Err(error) => {
                self.tell_here(&error.to_string());
                return None;
            }
        }
        match self.tars.describe(layer, below.to_vec()).await {
            Ok(record) if is_described(&record) => Some(record),
            Ok(_) => {
                self.tell_here("a layer has no diff ID");
                None
            }
            Err(error) => {
                self.note_unsent(&error);
                None
            }
        }
    }

    /// Notes why a layer cannot be sent. The user is not told of one that is lost: a build that
    /// misses it makes it anew, and sends that.
    fn note_unsent(&self, error: &StepError) {
        match error {
            StepError::Cancelled => {}
            StepError::LayersLost { layers } => {
                let mut lost = locked(&self.lost);
                lost.extend(layers.iter().map(|layer| (*layer, error.to_string())));
            }
            error => self.tell_here(&error.to_string()),
        }
    }

    /// Tells the user of layers that could not be sent, when it is known which of them were made
    /// anew. That a cache has lost them was told already.
    pub fn tell_lost(&self, is_excused: impl Fn(&LayerId) -> bool) {
        let lost = std::mem::take(&mut *locked(&self.lost));
        if let Some((_, why)) = lost.iter().find(|(layer, _)| !is_excused(layer)) {
            self.tell_here(why);
        }
    }

    fn tell_here(&self, why: &str) {
        let text = format!("a result cannot be sent to it: {why}");
        self.cache.breaker().tell(Trouble::Here, &text);
    }

    /// Takes layers for sent whose trees the cache is remembered to have, and still has. Whether
    /// there are any.
    async fn reuse(
        &self,
        records: &[LayerRecord],
        function: DigestFunction,
        trust: Trust,
    ) -> Option<bool> {
        let mut remembered = Vec::new();
        for record in records {
            if locked(&self.layers).contains_key(&record.id) {
                continue;
            }
            let copies = match &record.origin {
                LayerOrigin::Shared { copies } => copies.clone(),
                LayerOrigin::Image { .. } if came_with_image(record) => continue,
                LayerOrigin::Image { .. } | LayerOrigin::Step => {
                    self.home.copies_of(&record.id).unwrap_or_default()
                }
            };
            let usable = |copy: &SharedLayer| {
                copy.cache == self.cache.name()
                    && !copy.trees.is_empty()
                    && copy.trees.iter().all(|tree| tree.function == function)
            };
            if let Some(copy) = copies.into_iter().find(usable) {
                remembered.push((record.id, copy.trees));
            }
        }
        if remembered.is_empty() {
            return Some(false);
        }
        let mut wanted: HashSet<CasDigest> = remembered
            .iter()
            .flat_map(|(_, trees)| trees.iter().copied())
            .collect();
        if trust == Trust::Chunks {
            let chunks = remembered.iter().map(|(layer, trees)| async move {
                let chunks = chunks_of(&self.cache, trees).await?;
                let chunks = chunks.headers.iter().chain(&chunks.contents);
                Some((*layer, chunks.copied().collect::<HashSet<_>>()))
            });
            let chunks: HashMap<_, _> = join_all(chunks).await.into_iter().flatten().collect();
            // One whose trees cannot be read is sent.
            remembered.retain(|(layer, _)| chunks.contains_key(layer));
            wanted.extend(chunks.values().flatten());
            return self.note_sent(remembered, wanted, &chunks).await;
        }
        self.note_sent(remembered, wanted, &HashMap::new()).await
    }

    /// Takes those of some layers for sent of which the cache has the trees, and these chunks.
    async fn note_sent(
        &self,
        layers: Vec<(LayerId, Vec<CasDigest>)>,
        wanted: HashSet<CasDigest>,
        chunks: &HashMap<LayerId, HashSet<CasDigest>>,
    ) -> Option<bool> {
        let wanted: Vec<CasDigest> = wanted.into_iter().collect();
        let wanted = wanted.as_slice();
        let asked = self.cache.ask(Use::Write, ANSWER, |service| async move {
            service.blobs.missing(wanted).await
        });
        let missing: HashSet<CasDigest> = asked.await?.ok()?.into_iter().collect();
        let mut reused = false;
        for (layer, trees) in layers {
            let chunks = chunks.get(&layer).into_iter().flatten();
            if !trees
                .iter()
                .chain(chunks)
                .any(|blob| missing.contains(blob))
            {
                let done = std::future::ready(Some(trees.into())).boxed().shared();
                locked(&self.layers).entry(layer).or_insert(done);
                reused = true;
            }
        }
        Some(reused)
    }
}
