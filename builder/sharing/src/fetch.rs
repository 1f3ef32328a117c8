//! Fetches layers of other machines: trees, then their chunks, several batches at a time, which are
//! put together while they arrive.
//!
//! ```text
//!   trees ─▶ headers:  batches, some ahead ─▶ ┐
//!        └─▶ contents: batches, some ahead ─▶ ┴▶ the layer's tar (a thread of its own)
//! ```

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ashlar_exec::executor::SharedLayerFetcher;
use ashlar_exec::layer::split::{Beside, ChunkSource, Part, ReceiveError, receive};
use ashlar_model::cas::{CasDigest, SharedLayer};
use ashlar_model::executor::{BoxFuture, StepError};
use ashlar_model::layer::LayerRecord;
use ashlar_store::fault::{Fault, FaultKind};
use ashlar_store::home::Home;
use ashlar_store::task::{Task, spawn};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, channel};
use tracing::Instrument as _;

use crate::breaker::{Trouble, Use};
use crate::cache::Cache;
use crate::lookup::{tell_lost, tell_wrong};
use crate::tree::{ChunkList, LONGEST_TREE};

/// Bytes that are asked for at a time.
const BATCH: u64 = 512 << 10;
/// Chunks that are asked for at a time.
const BATCH_CHUNKS: usize = 128;
/// Batches of contents that are under way for a layer.
const CONTENTS_AHEAD: usize = 16;
/// Batches of headers that are under way for a layer.
const HEADERS_AHEAD: usize = 4;
/// Layers that are fetched at once.
const LAYERS: usize = 3;
/// How often a batch is asked for.
const ATTEMPTS: u32 = 2;
/// The pause before a batch is asked for again.
const PAUSE: Duration = Duration::from_millis(200);

/// Opens a cache by its name, for layers of results that came from there before.
pub type CacheOpener = Arc<dyn Fn(&str) -> Option<Arc<Cache>> + Send + Sync>;

/// Fetches layers from the caches of a build.
pub struct LayerFetcher {
    home: Home,
    caches: Vec<Arc<Cache>>,
    opener: Option<CacheOpener>,
    /// Caches that are not those of the build.
    others: Mutex<Vec<Arc<Cache>>>,
    turns: Semaphore,
}

impl fmt::Debug for LayerFetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerFetcher")
            .field("caches", &self.caches)
            .finish_non_exhaustive()
    }
}

impl LayerFetcher {
    /// Fetches from these caches into this store, and from others that have a layer if there is an
    /// `opener`.
    pub fn new(home: Home, caches: Vec<Arc<Cache>>, opener: Option<CacheOpener>) -> Self {
        Self {
            home,
            caches,
            opener,
            others: Mutex::default(),
            turns: Semaphore::new(LAYERS),
        }
    }

    /// The cache of this name, if it may be read.
    fn cache(&self, name: &str) -> Option<Arc<Cache>> {
        let named = |cache: &&Arc<Cache>| cache.name() == name;
        let found = match self.caches.iter().find(named) {
            Some(known) => Arc::clone(known),
            None => {
                let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
                match others.iter().find(named) {
                    Some(known) => Arc::clone(known),
                    None => {
                        let opened = self.opener.as_ref()?(name)?;
                        others.push(Arc::clone(&opened));
                        opened
                    }
                }
            }
        };
        found.is_usable(Use::Read).then_some(found)
    }

    async fn fetch(
        &self,
        layer: &LayerRecord,
        copies: &[SharedLayer],
        mut beside: Option<Beside>,
    ) -> Result<(), StepError> {
        // The semaphore is never closed.
        let turn = self.turns.acquire().await;
        let _turn = turn.map_err(|_| StepError::Cancelled)?;
        for copy in copies {
            let Some(cache) = self.cache(&copy.cache) else {
                continue;
            };
            let Some(chunks) = chunks_of(&cache, &copy.trees).await else {
                continue;
            };
            match self.receive(&cache, layer, &chunks, beside.take()).await? {
                Ok(()) => return Ok(()),
                // What goes wrong on the way was told where it went wrong.
                Err(ReceiveError::Source(_)) => {}
                Err(ReceiveError::Wrong(wrong)) => {
                    tell_wrong(&cache, &format!("a layer: {wrong}"));
                }
                Err(ReceiveError::Store(error)) => {
                    return Err(StepError::Environment {
                        message: format!("cannot store a layer of the cache {}", cache.name()),
                        hint: error.hint(),
                        source: Some(error.into()),
                    });
                }
                Err(other) => {
                    let text = format!("a layer of it cannot be used: {other}");
                    cache.breaker().tell(Trouble::Here, &text);
                }
            }
        }
        Ok(())
    }

    /// Puts a layer together.
    async fn receive(
        &self,
        cache: &Arc<Cache>,
        layer: &LayerRecord,
        chunks: &ChunkList,
        beside: Option<Beside>,
    ) -> Result<Result<(), ReceiveError>, StepError> {
        let mut source = Arriving::new(cache, chunks);
        let (home, layer) = (self.home.clone(), layer.clone());
        let work = tokio::task::spawn_blocking(move || receive(&home, &layer, &mut source, beside));
        work.await.map_err(|_| StepError::Cancelled)
    }
}

impl SharedLayerFetcher for LayerFetcher {
    fn fetch_layer<'a>(
        &'a self,
        layer: &'a LayerRecord,
        copies: &'a [SharedLayer],
        beside: Option<Beside>,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        let bytes = layer.tar_size.and_then(|bytes| i64::try_from(bytes).ok());
        let span = tracing::info_span!("fetch", layer = %layer.id, bytes);
        Box::pin(self.fetch(layer, copies, beside).instrument(span))
    }
}

/// The chunks of a layer in a cache; `None` if they cannot be told, of which the user knows then.
pub async fn chunks_of(cache: &Cache, trees: &[CasDigest]) -> Option<ChunkList> {
    if trees.iter().any(|tree| tree.size > LONGEST_TREE) {
        tell_wrong(cache, "a tree is longer than any");
        return None;
    }
    let function = trees.first()?.function;
    let read = read_batch(cache, trees).await.ok()?;
    match ChunkList::read(&read, function) {
        Ok(chunks) => Some(chunks),
        Err(error) => {
            tell_wrong(cache, &error.to_string());
            None
        }
    }
}

/// Reads some blobs, all or none of them. What is wrong with the cache is told.
pub(crate) async fn read_batch(cache: &Cache, blobs: &[CasDigest]) -> Result<Vec<Bytes>, Fault> {
    let bytes = blobs.iter().map(|blob| blob.size).sum();
    let mut attempt = 0;
    loop {
        attempt += 1;
        let asked = cache.transfer(Use::Read, bytes, |service| async move {
            let read = service.blobs.read_many(blobs).await;
            let read: Vec<Bytes> = read.into_iter().collect::<Result<_, _>>()?;
            Ok(read)
        });
        let fault = match asked.await {
            None => Fault::new(FaultKind::Unavailable, "the cache is not asked any more"),
            Some(Ok(read)) => {
                let wrong = blobs
                    .iter()
                    .zip(&read)
                    .find(|(blob, bytes)| CasDigest::of(blob.function, bytes) != **blob);
                match wrong {
                    None => return Ok(read),
                    Some((blob, _)) => {
                        tell_wrong(cache, &format!("bytes that are not those of {blob}"));
                        return Err(Fault::new(FaultKind::Invalid, "wrong bytes"));
                    }
                }
            }
            Some(Err(fault)) => fault,
        };
        if fault.kind == FaultKind::NotFound {
            tell_lost(cache);
        }
        let again = fault.kind == FaultKind::Unavailable
            && attempt < ATTEMPTS
            && cache.is_usable(Use::Read);
        if !again {
            return Err(fault);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A chunk that has arrived; `None` after the last.
type Arrival = io::Result<Option<Bytes>>;

/// Fetches chunks ahead of whoever takes them. Dropping the task calls it off.
fn arriving(
    cache: &Arc<Cache>,
    chunks: &[CasDigest],
    ahead: usize,
) -> (Receiver<Arrival>, Task<()>) {
    let (sender, receiver) = channel(BATCH_CHUNKS);
    let cache = Arc::clone(cache);
    let batches = batches(chunks);
    let task = spawn(async move {
        let read = |batch: Vec<CasDigest>| {
            let cache = Arc::clone(&cache);
            async move { read_batch(&cache, &batch).await }
        };
        let mut read = stream::iter(batches).map(read).buffered(ahead);
        while let Some(batch) = read.next().await {
            match batch {
                Ok(batch) => {
                    for chunk in batch {
                        if sender.send(Ok(Some(chunk))).await.is_err() {
                            return;
                        }
                    }
                }
                Err(fault) => {
                    drop(sender.send(Err(io::Error::other(fault))).await);
                    return;
                }
            }
        }
        drop(sender.send(Ok(None)).await);
    });
    (receiver, task)
}

/// Chunks in the pieces in which they are asked for.
fn batches(chunks: &[CasDigest]) -> Vec<Vec<CasDigest>> {
    let mut batches: Vec<Vec<CasDigest>> = Vec::new();
    let mut bytes = 0;
    for chunk in chunks {
        let fits = bytes + chunk.size <= BATCH;
        match batches.last_mut() {
            Some(batch) if fits && batch.len() < BATCH_CHUNKS => batch.push(*chunk),
            _ => {
                batches.push(vec![*chunk]);
                bytes = 0;
            }
        }
        bytes += chunk.size;
    }
    batches
}

/// Chunks on their way, for the thread that puts them together. Dropping it calls them off.
#[derive(Debug)]
pub(crate) struct Arriving {
    headers: Receiver<Arrival>,
    contents: Receiver<Arrival>,
    _tasks: [Task<()>; 2],
}

impl Arriving {
    /// Fetches the chunks of a layer.
    pub(crate) fn new(cache: &Arc<Cache>, chunks: &ChunkList) -> Self {
        let (headers, of_headers) = arriving(cache, &chunks.headers, HEADERS_AHEAD);
        let (contents, of_contents) = arriving(cache, &chunks.contents, CONTENTS_AHEAD);
        Self {
            headers,
            contents,
            _tasks: [of_headers, of_contents],
        }
    }
}

impl ChunkSource for Arriving {
    fn next(&mut self, part: Part) -> io::Result<Option<Bytes>> {
        let receiver = match part {
            Part::Headers => &mut self.headers,
            Part::Contents => &mut self.contents,
        };
        receiver
            .blocking_recv()
            .unwrap_or_else(|| Err(io::ErrorKind::Interrupted.into()))
    }
}

#[cfg(test)]
mod tests {
    use ashlar_model::cas::DigestFunction;

    use super::*;

    #[test]
    fn batches_hold_all_chunks_in_order_and_are_not_too_large() {
        let sized = |number: usize, size: u64| CasDigest {
            function: DigestFunction::Sha256,
            hash: [u8::try_from(number % 256).unwrap(); 32],
            size,
        };
        for size in [1, 1000, BATCH / 3, BATCH, 2 * BATCH] {
            let chunks: Vec<CasDigest> = (0..300).map(|number| sized(number, size)).collect();
            let batches = batches(&chunks);
            assert_eq!(batches.concat(), chunks);
            for batch in &batches {
                let bytes: u64 = batch.iter().map(|chunk| chunk.size).sum();
                assert!(bytes <= BATCH || batch.len() == 1, "{bytes}");
                assert!(batch.len() <= BATCH_CHUNKS);
            }
            assert!(batches.len() <= 300);
        }
    }
}
