//! A cache in memory that counts, fails and keeps leases.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ashlar_model::cas::{ActionKey, CasDigest, DigestFunction};
use ashlar_model::executor::BoxFuture;
use ashlar_store::action_cache::PutMode;
use ashlar_store::blob_store::{ByteRange, ByteStream};
use ashlar_store::fault::{Fault, FaultKind};
use ashlar_store::memory::MemoryStore;
use ashlar_store::{ActionCache, BlobStore};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use tokio::sync::watch;

use crate::service::{
    Acquired, Changes, Connect, Extension, Fence, Held, Lease, MountSnapshot, Page, Service, Usage,
};

/// How a server misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mood {
    /// It does not.
    #[default]
    Well,
    /// Nobody answers.
    Gone,
    /// Nobody ever answers.
    Silent,
    /// It takes no blobs, for it is full.
    Full,
    /// It takes nothing, for the token is wrong.
    ReadOnly,
    /// It gives nothing, for the token is wrong.
    Closed,
    /// It sends other bytes than those asked for.
    Lying,
    /// It is broken.
    Broken,
}

/// A cache in memory.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) name: String,
    function: DigestFunction,
    extended: bool,
    store: MemoryStore,
    mood: Mutex<Mood>,
    /// Whether it says that it has what it has lost, unless that is doubted.
    pub(super) vouches: AtomicBool,
    doubt: Arc<AtomicBool>,
    /// Blobs that it has lost.
    lost: Mutex<HashSet<CasDigest>>,
    leases: Mutex<HashMap<String, Slot>>,
    /// How long it says that leases have been held.
    pub(super) held_for: Mutex<Duration>,
    pub(super) connections: AtomicUsize,
    /// Blobs that were read and written, and their bytes.
    pub(super) read: AtomicU64,
    pub(super) read_bytes: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) written_bytes: AtomicU64,
    pub(super) asked: AtomicU64,
    /// Digests of all blobs that were ever written, with what they are.
    pub(super) blobs: Mutex<HashMap<CasDigest, Bytes>>,
}

#[derive(Debug)]
struct Slot {
    holder: Option<(String, String, Instant)>,
    fencing: u64,
    changes: watch::Sender<u64>,
}

/// How long a lease is held without renewal.
pub(super) const TTL: Duration = Duration::from_millis(600);

impl Server {
    pub(super) fn new(name: &str) -> Arc<Self> {
        Self::with(name, DigestFunction::Blake3, true)
    }

    /// One that knows nothing but REAPI.
    pub(super) fn plain(name: &str) -> Arc<Self> {
        Self::with(name, DigestFunction::Sha256, false)
    }

    fn with(name: &str, function: DigestFunction, extended: bool) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            function,
            extended,
            store: MemoryStore::new(1 << 30),
            mood: Mutex::default(),
            vouches: AtomicBool::new(false),
            doubt: Arc::default(),
            lost: Mutex::default(),
            leases: Mutex::default(),
            held_for: Mutex::default(),
            connections: AtomicUsize::new(0),
            read: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            written: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            blobs: Mutex::default(),
        })
    }

    pub(super) fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Loses every blob of so many bytes at least.
    pub(super) fn lose_large(&self, size: u64) -> usize {
        let blobs = self.blobs.lock().unwrap();
        let mut lost = self.lost.lock().unwrap();
        lost.extend(blobs.keys().filter(|blob| blob.size >= size));
        lost.len()
    }

    /// Loses a blob.
    pub(super) fn lose(&self, blob: CasDigest) {
        self.lost.lock().unwrap().insert(blob);
    }

    /// Has blobs again.
    pub(super) fn find(&self, blobs: &[CasDigest]) {
        let mut lost = self.lost.lock().unwrap();
        lost.retain(|blob| !blobs.contains(blob));
    }

    /// Whether a blob is lost, and it says so.
    fn owns_to_lack(&self, blob: &CasDigest) -> bool {
        let vouches = self.vouches.load(Ordering::SeqCst) && !self.doubt.load(Ordering::SeqCst);
        !vouches && self.lost.lock().unwrap().contains(blob)
    }

    /// What was read and written since the last look: blobs and bytes.
    pub(super) fn traffic(&self) -> [u64; 4] {
        [
            &self.read,
            &self.read_bytes,
            &self.written,
            &self.written_bytes,
        ]
        .map(|counter| counter.swap(0, Ordering::SeqCst))
    }

    async fn enter(&self, write: bool) -> Result<(), Fault> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Well | Mood::Lying => Ok(()),
            Mood::Gone => Err(Fault::new(FaultKind::Unavailable, "connection refused")),
            Mood::Silent => std::future::pending().await,
            Mood::Full if write => Err(Fault::new(FaultKind::Exhausted, "no space")),
            Mood::ReadOnly if write => Err(Fault::new(FaultKind::Denied, "no")),
            Mood::Full | Mood::ReadOnly => Ok(()),
            Mood::Closed => Err(Fault::new(FaultKind::Denied, "no")),
            Mood::Broken => Err(Fault::new(FaultKind::Internal, "disk error")),
        }
    }

    fn lies(&self) -> bool {
        *self.mood.lock().unwrap() == Mood::Lying
    }

    fn key(action: &CasDigest) -> ActionKey {
        ActionKey {
            instance: String::new(),
            action: *action,
        }
    }

    /// A result, unless something that it names is lost: only the trees' chunks are looked at.
    async fn complete(&self, action: &CasDigest) -> Result<Option<Bytes>, Fault> {
        use ashlar_proto::wire::reapi;
        use prost::Message as _;
        let found = self.store.get(&[Self::key(action)]).await?;
        let Some(bytes) = found.into_iter().next().flatten() else {
            return Ok(None);
        };
        let result = reapi::ActionResult::decode(bytes.clone()).unwrap();
        for directory in result.output_directories {
            let tree = ashlar_proto::convert::required_digest(
                directory.tree_digest.as_ref(),
                self.function,
                "tree",
            );
            let tree = tree.unwrap();
            let read = self.store.read_many(&[tree]).await.remove(0)?;
            let chunks = crate::tree::ChunkList::read(&[read], self.function);
            // A part of the trees of a layer cannot be read on its own, and tests have none.
            let chunks = chunks.unwrap();
            let mut all = chunks.contents.iter().chain(&chunks.headers);
            if self.owns_to_lack(&tree) || all.any(|chunk| self.owns_to_lack(chunk)) {
                return Ok(None);
            }
        }
        Ok(Some(bytes))
    }

    /// A result with the contents of the signature, if that is asked for. Records are fetched, as
    /// they are from a server whose answer would become too long.
    async fn with_files(&self, result: Bytes, paths: &[&str]) -> Bytes {
        use ashlar_proto::wire::reapi;
        use prost::Message as _;
        let path = crate::signature::SIGNATURE_PATH;
        let mut result = reapi::ActionResult::decode(result).unwrap();
        for file in &mut result.output_files {
            if file.path == path && paths.contains(&path) {
                let digest = file.digest.as_ref();
                let digest = ashlar_proto::convert::required_digest(digest, self.function, "file");
                let digest = digest.unwrap();
                let is_lost = self.lost.lock().unwrap().contains(&digest);
                if !is_lost {
                    file.contents = self.store.read_many(&[digest]).await.remove(0).unwrap();
                }
            }
        }
        result.encode_to_vec().into()
    }

    fn now(&self, key: &str) -> Option<Held> {
        let leases = self.leases.lock().unwrap();
        let (holder, _, until) = leases.get(key)?.holder.as_ref()?;
        let left = until.checked_duration_since(Instant::now())?;
        Some(Held {
            holder: holder.clone(),
            held_for: *self.held_for.lock().unwrap(),
            runs_out_in: left,
        })
    }
}

impl Connect for Arc<Server> {
    fn connect(&self) -> BoxFuture<'_, Result<Service, Fault>> {
        Box::pin(async move {
            self.connections.fetch_add(1, Ordering::SeqCst);
            let mood = *self.mood.lock().unwrap();
            match mood {
                Mood::Gone => return Err(Fault::new(FaultKind::Unavailable, "connection refused")),
                Mood::Silent => std::future::pending().await,
                _ => {}
            }
            Ok(Service {
                function: self.function,
                blobs: Arc::new(Self::clone(self)),
                actions: Arc::new(Wire(Self::clone(self))),
                extension: self
                    .extended
                    .then(|| Arc::new(Wire(Self::clone(self))) as Arc<dyn Extension>),
                closing: None,
                doubt: Arc::clone(&self.doubt),
            })
        })
    }
}

impl BlobStore for Server {
    fn missing<'a>(
        &'a self,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        Box::pin(async move {
            self.enter(false).await?;
            let missing: HashSet<CasDigest> =
                self.store.missing(blobs).await?.into_iter().collect();
            let gone = |blob: &&CasDigest| missing.contains(blob) || self.owns_to_lack(blob);
            Ok(blobs.iter().filter(gone).copied().collect())
        })
    }

    fn read<'a>(
        &'a self,
        blob: &'a CasDigest,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<ByteStream, Fault>> {
        Box::pin(async move {
            self.enter(false).await?;
            if self.lost.lock().unwrap().contains(blob) {
                return Err(Fault::new(FaultKind::NotFound, "it is gone"));
            }
            self.read.fetch_add(1, Ordering::SeqCst);
            self.read_bytes.fetch_add(blob.size, Ordering::SeqCst);
            let bytes = self.store.read(blob, range).await?;
            if self.lies() {
                let size = usize::try_from(blob.size).unwrap();
                return Ok(ashlar_store::blob_store::once(vec![b'!'; size].into()));
            }
            Ok(bytes)
        })
    }

    fn write<'a>(
        &'a self,
        blob: &'a CasDigest,
        bytes: ByteStream,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            self.enter(true).await?;
            self.written.fetch_add(1, Ordering::SeqCst);
            self.written_bytes.fetch_add(blob.size, Ordering::SeqCst);
            let bytes = ashlar_store::blob_store::collect(bytes, blob.size).await?;
            self.blobs.lock().unwrap().insert(*blob, bytes.clone());
            self.lost.lock().unwrap().remove(blob);
            let once = ashlar_store::blob_store::once(bytes);
            self.store.write(blob, once).await
        })
    }
}

#[derive(Debug)]
struct Wire(Arc<Server>);

impl ActionCache for Wire {
    fn get<'a>(
        &'a self,
        keys: &'a [ActionKey],
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, Fault>> {
        Box::pin(async move {
            self.0.enter(false).await?;
            let mut found = Vec::new();
            for key in keys {
                found.push(self.0.complete(&key.action).await?);
            }
            Ok(found)
        })
    }

    fn put<'a>(
        &'a self,
        key: &'a ActionKey,
        result: Bytes,
        mode: PutMode,
    ) -> BoxFuture<'a, Result<Bytes, Fault>> {
        Box::pin(async move {
            self.0.enter(true).await?;
            self.0.store.put(key, result, mode).await
        })
    }

    fn remove<'a>(&'a self, key: &'a ActionKey) -> BoxFuture<'a, Result<bool, Fault>> {
        self.0.store.remove(key)
    }

    fn swap<'a>(
        &'a self,
        key: &'a ActionKey,
        old: Option<&'a Bytes>,
        new: Bytes,
    ) -> BoxFuture<'a, Result<bool, Fault>> {
        self.0.store.swap(key, old, new)
    }
}

fn unsupported<T>() -> Result<T, Fault> {
    Err(Fault::new(FaultKind::Unsupported, "tests need none"))
}

impl Extension for Wire {
    fn probe<'a>(
        &'a self,
        actions: &'a [CasDigest],
        inline: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, Fault>> {
        Box::pin(async move {
            self.0.enter(false).await?;
            let mut found = Vec::new();
            for action in actions {
                let result = self.0.complete(action).await?;
                found.push(match result {
                    Some(result) => Some(self.0.with_files(result, inline).await),
                    None => None,
                });
            }
            Ok(found)
        })
    }

    fn commit<'a>(
        &'a self,
        action: &'a CasDigest,
        result: Bytes,
        fence: Option<&'a Fence>,
    ) -> BoxFuture<'a, Result<Bytes, Fault>> {
        Box::pin(async move {
            self.0.enter(true).await?;
            if let Some(fence) = fence {
                let leases = self.0.leases.lock().unwrap();
                let newest = leases.get(&fence.key).map_or(0, |slot| slot.fencing);
                if newest > fence.number {
                    return Err(Fault::new(FaultKind::Precondition, "the lease was lost"));
                }
            }
            let key = Server::key(action);
            if let Some(there) = self.0.complete(action).await? {
                return Ok(there);
            }
            let before = self.0.store.get(std::slice::from_ref(&key)).await?;
            self.0
                .store
                .put(&key, result.clone(), PutMode::Replace)
                .await?;
            if self.0.complete(action).await?.is_none() {
                match before.into_iter().next().flatten() {
                    Some(before) => drop(self.0.store.put(&key, before, PutMode::Replace).await?),
                    None => drop(self.0.store.remove(&key).await?),
                }
                return Err(Fault::new(FaultKind::Precondition, "blobs are missing"));
            }
            Ok(result)
        })
    }

    fn acquire<'a>(
        &'a self,
        key: &'a str,
        holder: &'a str,
        _ttl: Duration,
    ) -> BoxFuture<'a, Result<Acquired, Fault>> {
        Box::pin(async move {
            self.0.enter(false).await?;
            if let Some(held) = self.0.now(key) {
                return Ok(Acquired::Held(held));
            }
            let mut leases = self.0.leases.lock().unwrap();
            let slot = leases.entry(key.to_owned()).or_insert_with(|| Slot {
                holder: None,
                fencing: 0,
                changes: watch::Sender::new(0),
            });
            slot.fencing += 1;
            let token = slot.fencing.to_string();
            slot.holder = Some((holder.to_owned(), token.clone(), Instant::now() + TTL));
            Ok(Acquired::Granted(Lease {
                token,
                fencing_number: slot.fencing,
                ttl: TTL,
            }))
        })
    }

    fn renew<'a>(&'a self, key: &'a str, token: &'a str) -> BoxFuture<'a, Result<Duration, Fault>> {
        Box::pin(async move {
            self.0.enter(false).await?;
            let mut leases = self.0.leases.lock().unwrap();
            let slot = leases.get_mut(key).and_then(|slot| slot.holder.as_mut());
            match slot {
                Some((_, known, until)) if known == token && *until > Instant::now() => {
                    *until = Instant::now() + TTL;
                    Ok(TTL)
                }
                _ => Err(Fault::new(FaultKind::NotFound, "it ran out")),
            }
        })
    }

    fn release<'a>(&'a self, key: &'a str, token: &'a str) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            self.0.enter(false).await?;
            let mut leases = self.0.leases.lock().unwrap();
            if let Some(slot) = leases.get_mut(key)
                && slot
                    .holder
                    .as_ref()
                    .is_some_and(|(_, known, _)| known == token)
            {
                slot.holder = None;
                slot.changes.send_modify(|count| *count += 1);
            }
            Ok(())
        })
    }

    fn watch<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Changes, Fault>> {
        Box::pin(async move {
            self.0.enter(false).await?;
            let changes = {
                let leases = self.0.leases.lock().unwrap();
                leases.get(key).map(|slot| slot.changes.subscribe())
            };
            let Some(changes) = changes else {
                return Ok(stream::empty().boxed());
            };
            let (server, key) = (Arc::clone(&self.0), key.to_owned());
            let states = stream::unfold((changes, true), move |(mut changes, first)| {
                let (server, key) = (Arc::clone(&server), key.clone());
                async move {
                    if !first {
                        changes.changed().await.ok()?;
                    }
                    Some((Ok(server.now(&key)), (changes, false)))
                }
            });
            Ok(states.boxed())
        })
    }

    fn usage(&self) -> BoxFuture<'_, Result<Usage, Fault>> {
        Box::pin(async { unsupported() })
    }

    fn list<'a>(&'a self, _page: &'a str) -> BoxFuture<'a, Result<Page, Fault>> {
        Box::pin(async { unsupported() })
    }

    fn latest_mount<'a>(
        &'a self,
        _name: &'a str,
    ) -> BoxFuture<'a, Result<Option<MountSnapshot>, Fault>> {
        Box::pin(async { unsupported() })
    }

    fn save_mount<'a>(
        &'a self,
        _name: &'a str,
        _trees: &'a [CasDigest],
        _replaces: u64,
    ) -> BoxFuture<'a, Result<MountSnapshot, Fault>> {
        Box::pin(async { unsupported() })
    }
}
