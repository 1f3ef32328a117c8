//! All of it, as the scheduler sees it: several caches, asked in order.
//!
//! Results are taken from the first cache that has them, and sent to all that may be written. One
//! cache keeps the leases: the first that may be both read and written, and knows them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ashlar_engine::share::{
    Belief, FoundLayer, Leave, MadeResult, Probed, ResultKey, SharedResults, StepLease, WaitingSink,
};
use ashlar_exec::executor::{CacheSnapshots, SharedLayerFetcher};
use ashlar_model::digest::{BlobDigest, ContentKey, DefinitionKey, InstructionKey, LayerId};
use ashlar_model::executor::BoxFuture;
use ashlar_model::mount::CacheMount;
use ashlar_store::home::Home;
use ashlar_store::home::results::{CacheName, Word};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::action::StepKey;
use crate::background::Background;
use crate::breaker::Use;
use crate::cache::Cache;
use crate::fetch::{CacheOpener, LayerFetcher};
use crate::lease::{HeldLease, Turn, turn};
use crate::lookup;
use crate::losses;
use crate::mounts::MountSharing;
use crate::service::Fence;
use crate::signature::{Policy, Signer, Subject};
use crate::upload::{LayerTars, Sent, Uploader};

/// What is signed here, and which signatures are demanded.
#[derive(Debug, Clone, Default)]
pub struct Proof {
    /// What is demanded of each cache.
    pub policy: Arc<Policy>,
    /// Who signs what is made here.
    pub signer: Option<Arc<Signer>>,
}

impl Proof {
    /// A cache of whose results is demanded what the policy says.
    pub fn demanded_of(&self, cache: Cache) -> Cache {
        let origin = cache.origin();
        let trust = self.policy.of(&origin.address, &origin.instance);
        cache.trusting(Arc::clone(trust))
    }
}

/// Gives what cache mounts hold.
pub trait MountTars: Send + Sync {
    /// The files of a mount as a tar; `None` if there are none, or somebody uses it.
    fn open<'a>(&'a self, mount: &'a CacheMount) -> BoxFuture<'a, Option<Box<dyn Read + Send>>>;
}

/// Results that are sent to a cache at once; their layers are fewer.
const RESULTS: usize = 8;

/// The caches of a build.
#[derive(Debug, Clone)]
pub struct Sharing {
    inner: Arc<Inner>,
}

struct Inner {
    home: Home,
    caches: Vec<Arc<Cache>>,
    /// Who asks for leases, as people read it.
    holder: String,
    /// What is demanded of results, also of those that came into the store before.
    policy: Arc<Policy>,
    signer: Option<Arc<Signer>>,
    fetcher: Arc<LayerFetcher>,
    mounts: Arc<MountSharing>,
    uploaders: OnceLock<Vec<Arc<Uploader>>>,
    background: Arc<Background>,
    /// Leases of steps that run here.
    leases: Mutex<HashMap<DefinitionKey, Fence>>,
    distrusted: Mutex<HashSet<LayerId>>,
    /// Results that have been taken over to be sent, and those that are done with.
    counts: Mutex<Counts>,
    /// The layers of results that could not be sent.
    unsent: Mutex<Vec<Vec<LayerId>>>,
    /// Whether the end of writing has begun.
    is_closing: AtomicBool,
    turns: Semaphore,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    taken: u64,
    done: u64,
    failed: u64,
}

/// How far sending has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Results that are to be sent: one for each cache.
    pub results: u64,
    /// Those that are done with.
    pub done: u64,
    /// Those that could not be sent.
    pub failed: u64,
    /// What went over the wire.
    pub sent: Sent,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharing")
            .field("caches", &self.caches)
            .finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sharing {
    /// Shares results of a store through these caches. Nothing is connected to yet. `holder` says
    /// who we are to those that wait for us; `opener` opens caches from which layers came before.
    pub fn new(
        home: Home,
        caches: Vec<Arc<Cache>>,
        opener: Option<CacheOpener>,
        holder: String,
        Proof { policy, signer }: Proof,
    ) -> Self {
        let fetcher = Arc::new(LayerFetcher::new(home.clone(), caches.clone(), opener));
        let mounts = Arc::new(MountSharing::new(&caches, signer.is_none()));
        let inner = Inner {
            home,
            mounts,
            caches,
            holder,
            policy,
            signer,
            fetcher,
            uploaders: OnceLock::new(),
            background: Arc::default(),
            leases: Mutex::default(),
            distrusted: Mutex::default(),
            counts: Mutex::default(),
            unsent: Mutex::default(),
            is_closing: AtomicBool::new(false),
            turns: Semaphore::new(RESULTS),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Sends layers from here. Without, nothing is sent.
    pub fn set_tars(&self, tars: &Arc<dyn LayerTars>) {
        let inner = &self.inner;
        let writable = inner.caches.iter().filter(|cache| cache.mode().writes());
        let uploaders = writable.map(|cache| {
            let (home, signer) = (inner.home.clone(), inner.signer.clone());
            let uploader = Uploader::new(home, Arc::clone(cache), Arc::clone(tars), signer);
            Arc::new(uploader)
        });
        // The first who says it is right.
        drop(inner.uploaders.set(uploaders.collect()));
    }

    /// Who fetches layers.
    pub fn fetcher(&self) -> Arc<dyn SharedLayerFetcher> {
        Arc::clone(&self.inner.fetcher) as _
    }

    /// The caches.
    pub fn caches(&self) -> &[Arc<Cache>] {
        &self.inner.caches
    }

    /// How far sending has come.
    pub fn progress(&self) -> Progress {
        let Counts {
            taken,
            done,
            failed,
        } = *locked(&self.inner.counts);
        // What names a lost layer was none, also if that is known only by now.
        let unsent = locked(&self.inner.unsent).clone();
        let unsent = unsent.iter().filter(|one| !self.inner.is_distrusted(one));
        let failed = failed + unsent.count() as u64;
        let mut sent = Sent::default();
        for uploader in self.inner.uploaders() {
            let more = uploader.sent();
            sent.bytes += more.bytes;
            sent.chunks += more.chunks;
            sent.results += more.results;
        }
        Progress {
            results: taken,
            done,
            failed,
            sent,
        }
    }

    /// Waits until all was sent and all leases were given back, no longer than `limit`. Whether
    /// nothing is left.
    pub async fn finish(&self, limit: Duration) -> bool {
        let begin = Instant::now();
        let inner = &self.inner;
        if !inner.background.finish(limit).await {
            return false;
        }
        if inner.is_closing.swap(true, Ordering::SeqCst) {
            return true;
        }
        let has_lost = inner.caches.iter().any(|cache| cache.has_lost());
        let is_excused = |layer: &LayerId| has_lost || inner.is_distrusted(&[*layer]);
        for uploader in inner.uploaders() {
            uploader.tell_lost(is_excused);
            let cache = Arc::clone(uploader.cache());
            if cache.has_to_be_closed() {
                let close = async move {
                    // The breaker has told what went wrong.
                    cache.close().await;
                };
                inner.background.start(&Handle::current(), close);
            }
        }
        let left = limit.saturating_sub(begin.elapsed());
        inner.background.finish(left).await
    }

    /// Who gives cache mounts what other machines saved of them.
    pub fn snapshots(&self) -> Arc<dyn CacheSnapshots> {
        Arc::clone(&self.inner.mounts) as _
    }

    /// Saves what cache mounts hold, behind whatever follows. `tars` gives the files of one, if it
    /// can be had; it is asked only for mounts that are to be shared.
    pub async fn save_mounts(&self, mounts: &[CacheMount], tars: &dyn MountTars) {
        let inner = &self.inner;
        for mount in mounts {
            for uploader in inner.uploaders() {
                let cache = uploader.cache();
                if !cache.shares_mount(&mount.id) || !cache.is_usable(Use::Write) {
                    continue;
                }
                let Some(tar) = tars.open(mount).await else {
                    continue;
                };
                locked(&inner.counts).taken += 1;
                let (inner, uploader) = (Arc::clone(inner), Arc::clone(uploader));
                let mount = mount.clone();
                let save = async move {
                    let saved = inner.mounts.save(&uploader, &mount, tar).await;
                    let mut counts = locked(&inner.counts);
                    counts.done += 1;
                    counts.failed += u64::from(!saved);
                };
                self.inner.background.start(&Handle::current(), save);
            }
        }
    }

    /// Whether anything is demanded of results, also where there is no cache.
    pub fn demands_proof(&self) -> bool {
        self.inner.policy.demands_anything()
    }

    /// Tells the user which results were passed over.
    pub fn tell_refused(&self) {
        for cache in &self.inner.caches {
            cache.tell_refused();
        }
    }

    /// Whether there is a cache that a build was told to fill with all its results.
    pub fn fills(&self) -> bool {
        let mut caches = self.inner.caches.iter();
        caches.any(|cache| cache.is_portable() && cache.mode().writes())
    }
}

impl Inner {
    fn uploaders(&self) -> &[Arc<Uploader>] {
        self.uploaders.get().map_or(&[], Vec::as_slice)
    }

    fn is_distrusted(&self, layers: &[LayerId]) -> bool {
        let distrusted = locked(&self.distrusted);
        layers.iter().any(|layer| distrusted.contains(layer))
    }

    fn readable(&self) -> impl Iterator<Item = &Arc<Cache>> {
        let mut caches = self.caches.iter();
        std::iter::from_fn(move || caches.find(|cache| cache.is_usable(Use::Read)))
    }

    async fn probe(
        self: &Arc<Self>,
        definitions: &[DefinitionKey],
        instructions: &[InstructionKey],
    ) -> Probed {
        let distrusted = |layers: &[LayerId]| self.is_distrusted(layers);
        let mut probed = Probed::default();
        let mut definitions = definitions.to_vec();
        let mut instructions = instructions.to_vec();
        for cache in self.readable() {
            let found =
                lookup::probe(&self.home, cache, &distrusted, &definitions, &instructions).await;
            definitions.retain(|key| !found.definitions.contains(key));
            instructions.retain(|key| !found.instructions.contains(key));
            self.hand_on(cache, &found.definitions);
            probed.definitions.extend(found.definitions);
            probed.instructions.extend(found.instructions);
            if definitions.is_empty() {
                break;
            }
        }
        probed
    }

    /// Sends what was found in one cache to those that a build was told to fill.
    fn hand_on(self: &Arc<Self>, from: &Arc<Cache>, found: &[DefinitionKey]) {
        let filled = |uploader: &&Arc<Uploader>| {
            uploader.cache().is_portable() && uploader.cache().name() != from.name()
        };
        let others: Vec<_> = self.uploaders().iter().filter(filled).cloned().collect();
        if others.is_empty() {
            return;
        }
        for definition in found {
            if let Ok(Some(result)) = self.home.result_by_definition(definition) {
                let result = MadeResult {
                    name: String::new(),
                    definition: *definition,
                    instruction: InstructionKey::from_bytes([0; 32]),
                    content: None,
                    stack: result.stack,
                    word: result.word,
                    // Whoever sent it has looked.
                    made: Vec::new(),
                    replaces: false,
                };
                self.send_to(others.clone(), result, None, true);
            }
        }
    }

    async fn by_content(&self, key: &ContentKey) -> Option<FoundLayer> {
        let distrusted = |layers: &[LayerId]| self.is_distrusted(layers);
        for cache in self.readable() {
            let found = lookup::by_content(&self.home, cache, &distrusted, key).await;
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// What to think of a result of the store that is somebody else's word.
    fn belief(&self, key: ResultKey<'_>, word: &Word) -> Belief {
        let of_cache = |cache: &CacheName| self.policy.of(&cache.address, &cache.instance);
        let signed = match word {
            Word::Own => return Belief::Proven,
            Word::Bare(cache) => {
                let refused = cache.as_ref().map_or_else(
                    || self.policy.demands_always(),
                    |cache| of_cache(cache).demands(),
                );
                return if refused {
                    Belief::Refused
                } else {
                    Belief::Taken
                };
            }
            Word::Signed(signed) => signed,
        };
        let trust = of_cache(&signed.cache);
        let subject = Subject {
            key: match key {
                ResultKey::Definition(key) => StepKey::Definition(*key),
                ResultKey::Content(key) => StepKey::Content(*key),
            },
            instance: &signed.cache.instance,
            record: BlobDigest::of(signed.record.as_bytes()),
        };
        match trust.check(&subject, Some(signed.envelope.as_bytes())) {
            Ok(Some(_)) => Belief::Proven,
            Ok(None) => Belief::Taken,
            Err(_) => Belief::Refused,
        }
    }

    /// Whether some cache has a result. It is in the local store then.
    async fn has(self: &Arc<Self>, definition: &DefinitionKey) -> bool {
        let probed = self.probe(std::slice::from_ref(definition), &[]).await;
        !probed.definitions.is_empty()
    }

    async fn leave(
        self: &Arc<Self>,
        definition: &DefinitionKey,
        name: &str,
        waiting: WaitingSink<'_>,
    ) -> Leave {
        // Whoever sends nothing would only keep others from it.
        let keeper = |cache: &&Arc<Cache>| {
            cache.is_usable(Use::Read) && cache.is_usable(Use::Write) && cache.keeps_leases()
        };
        let holder = format!("{}: {name}", self.holder);
        while let Some(cache) = self.caches.iter().find(keeper) {
            match turn(cache, &self.background, definition, &holder, waiting).await {
                Turn::Ours(lease) => {
                    if self.has(definition).await {
                        return Leave::Made;
                    }
                    return Leave::Run(Some(self.note_lease(*definition, lease)));
                }
                Turn::GivenBack => {
                    if self.has(definition).await {
                        return Leave::Made;
                    }
                }
                Turn::Nobody if cache.keeps_leases() => break,
                Turn::Nobody => {}
            }
        }
        Leave::Run(None)
    }

    fn note_lease(
        self: &Arc<Self>,
        definition: DefinitionKey,
        lease: HeldLease,
    ) -> Box<dyn StepLease> {
        locked(&self.leases).insert(definition, lease.fence());
        Box::new(NotedLease {
            inner: Arc::clone(self),
            definition,
            _lease: lease,
        })
    }

    /// Sends a result to all caches behind the build.
    fn send(
        self: &Arc<Self>,
        result: MadeResult,
        lease: Option<Box<dyn StepLease>>,
        is_offer: bool,
    ) {
        let writable = |uploader: &&Arc<Uploader>| uploader.cache().is_usable(Use::Write);
        let uploaders: Vec<_> = self.uploaders().iter().filter(writable).cloned().collect();
        self.send_to(uploaders, result, lease, is_offer);
    }

    fn send_to(
        self: &Arc<Self>,
        uploaders: Vec<Arc<Uploader>>,
        result: MadeResult,
        lease: Option<Box<dyn StepLease>>,
        is_offer: bool,
    ) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if uploaders.is_empty() {
            return;
        }
        locked(&self.counts).taken += uploaders.len() as u64;
        let inner = Arc::clone(self);
        // The lease is kept until the first cache, that which keeps leases, has the result.
        let work = async move {
            let fence = locked(&inner.leases).get(&result.definition).cloned();
            for uploader in uploaders {
                // The semaphore is never closed.
                let _turn = inner.turns.acquire().await;
                let replace = result.replaces || !locked(&inner.distrusted).is_empty();
                // What names a layer that was lost is none: the step that makes it anew gives another.
                let is_none = || inner.is_distrusted(&result.stack);
                let arrived = if is_none() {
                    false
                } else if is_offer {
                    uploader.offer(&result).await
                } else {
                    uploader.publish(&result, replace, fence.as_ref()).await
                };
                if !arrived {
                    locked(&inner.unsent).push(result.stack.clone());
                }
                locked(&inner.counts).done += 1;
            }
            drop(lease);
        };
        self.background.start(&runtime, work);
    }
}

/// A lease, and the note that we hold it.
#[derive(Debug)]
struct NotedLease {
    inner: Arc<Inner>,
    definition: DefinitionKey,
    _lease: HeldLease,
}

impl StepLease for NotedLease {}

impl Drop for NotedLease {
    fn drop(&mut self) {
        locked(&self.inner.leases).remove(&self.definition);
    }
}

impl SharedResults for Sharing {
    fn probe<'a>(
        &'a self,
        definitions: &'a [DefinitionKey],
        instructions: &'a [InstructionKey],
    ) -> BoxFuture<'a, Probed> {
        Box::pin(self.inner.probe(definitions, instructions))
    }

    fn by_content<'a>(&'a self, key: &'a ContentKey) -> BoxFuture<'a, Option<FoundLayer>> {
        Box::pin(self.inner.by_content(key))
    }

    fn belief(&self, key: ResultKey<'_>, word: &Word) -> Belief {
        self.inner.belief(key, word)
    }

    fn refusal(&self, definition: &DefinitionKey) -> Option<String> {
        let key = StepKey::Definition(*definition);
        let mut caches = self.inner.caches.iter();
        caches.find_map(|cache| {
            let refusal = cache.refusal(&key)?;
            Some(format!("{} has a result {refusal}", cache.name()))
        })
    }

    fn demands_proof(&self) -> bool {
        self.inner.policy.demands_anything()
    }

    fn leave<'a>(
        &'a self,
        definition: &'a DefinitionKey,
        name: &'a str,
        waiting: WaitingSink<'a>,
    ) -> BoxFuture<'a, Leave> {
        Box::pin(self.inner.leave(definition, name, waiting))
    }

    fn publish(&self, result: MadeResult, lease: Option<Box<dyn StepLease>>) {
        self.inner.send(result, lease, false);
    }

    fn wants(&self, definition: &DefinitionKey) -> bool {
        let home = &self.inner.home;
        let mut writable = self.inner.caches.iter().filter(|one| one.mode().writes());
        // A cache that is no server may have been replaced meanwhile.
        writable.any(|cache| cache.is_portable() || !home.is_result_in(cache.name(), definition))
    }

    fn offer(&self, result: MadeResult) {
        self.inner.send(result, None, true);
    }

    fn lost<'a>(&'a self, layers: &'a [LayerId]) -> BoxFuture<'a, Vec<LayerId>> {
        Box::pin(losses::lost(&self.inner.home, &self.inner.caches, layers))
    }

    fn distrust(&self, layers: &[LayerId]) {
        locked(&self.inner.distrusted).extend(layers);
    }
}
