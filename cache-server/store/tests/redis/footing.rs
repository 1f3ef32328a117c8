//! What the tests stand on.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ashlar_model::cas::{ActionKey, CasDigest, DigestFunction};
use ashlar_model::executor::BoxFuture;
use ashlar_store::blob_store::{ByteRange, ByteStream};
use ashlar_store::counters::Counters;
use ashlar_store::lease::{Acquired, Grant, LeaseKey, Limits};
use ashlar_store::memory::MemoryStore;
use ashlar_store::objects::index::BlobIndex as _;
use ashlar_store::objects::name;
use ashlar_store::redis::{Redis, RedisIndex, RedisLeases, RedisResults, RedisSettings};
use ashlar_store::{BlobStore, Fault, LeaseStore as _, Possession};
use ashlar_test_support::redis::{RedisCluster, RedisServer};
use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

/// How long anything may take until it is so.
const PATIENCE: Duration = Duration::from_secs(40);

/// How long results live in most tests.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// A Redis of an address, as the settings have it after `change`.
pub(crate) fn redis_with(url: &str, change: impl FnOnce(&mut RedisSettings)) -> Arc<Redis> {
    let mut settings = RedisSettings::new(url);
    change(&mut settings);
    Redis::new(settings, Arc::new(Counters::default())).unwrap()
}

/// A Redis of an address.
pub(crate) fn redis(url: &str) -> Arc<Redis> {
    redis_with(url, |_| {})
}

/// A server of one's own, and a Redis of it.
pub(crate) fn single() -> (RedisServer, Arc<Redis>) {
    let server = RedisServer::start();
    let redis = redis(&server.url());
    (server, redis)
}

/// A cluster that all who ask at the same time share, and a Redis of it with a prefix of its own.
pub(crate) async fn shared_cluster() -> (Arc<RedisCluster>, Arc<Redis>) {
    static CLUSTER: Mutex<Weak<RedisCluster>> = Mutex::const_new(Weak::new());
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut shared = CLUSTER.lock().await;
    let cluster = shared.upgrade().unwrap_or_else(|| {
        let cluster = Arc::new(RedisCluster::start());
        *shared = Arc::downgrade(&cluster);
        cluster
    });
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let redis = redis_with(&cluster.url(), |settings| {
        settings.prefix = format!("test{number}");
    });
    (cluster, redis)
}

/// Results that live long.
pub(crate) fn results(redis: &Arc<Redis>) -> Arc<RedisResults> {
    Arc::new(RedisResults::new(redis.clone(), LONG))
}

/// Leases within the usual limits.
pub(crate) fn leases(redis: &Arc<Redis>) -> Arc<RedisLeases> {
    Arc::new(RedisLeases::new(redis.clone(), Limits::default(), LONG))
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn eventually<T>(
    what: &str,
    mut check: impl AsyncFnMut() -> Option<T>,
) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = check().await {
                return found;
            }
            assert!(Instant::now() < deadline, "{caller}: in vain for {what}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// An action's name in an instance.
pub(crate) fn key_in(instance: &str, text: &str) -> ActionKey {
    ActionKey {
        instance: instance.to_owned(),
        action: CasDigest::of(DigestFunction::Blake3, text.as_bytes()),
    }
}

/// An action's name.
pub(crate) fn key(text: &str) -> ActionKey {
    key_in("", text)
}

/// The lease of an action.
pub(crate) fn lease_of(key: &ActionKey) -> LeaseKey {
    LeaseKey {
        instance: key.instance.clone(),
        key: key.action.hash_hex(),
    }
}

/// A result.
pub(crate) fn result(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// A lease that nobody else may have.
pub(crate) async fn granted(leases: &RedisLeases, key: &LeaseKey) -> Grant {
    match leases.acquire(key, "anna", Duration::from_secs(60)).await {
        Ok(Acquired::Granted(grant)) => grant,
        other => panic!("{other:?}"),
    }
}

/// Blobs in memory that are in an index as if they were in an object store.
#[derive(Debug)]
pub(crate) struct Indexed {
    blobs: MemoryStore,
    index: RedisIndex,
}

impl Indexed {
    pub(crate) fn new(redis: Arc<Redis>) -> Arc<Self> {
        Arc::new(Self {
            blobs: MemoryStore::new(1 << 30),
            index: RedisIndex::new(redis),
        })
    }
}

impl BlobStore for Indexed {
    fn missing<'a>(
        &'a self,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        self.blobs.missing(blobs)
    }

    fn read<'a>(
        &'a self,
        blob: &'a CasDigest,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<ByteStream, Fault>> {
        self.blobs.read(blob, range)
    }

    fn write<'a>(
        &'a self,
        blob: &'a CasDigest,
        bytes: ByteStream,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            self.blobs.write(blob, bytes).await?;
            let pack = name::new_pack()?;
            self.index.add(&pack, blob.size, &[(*blob, 0)]).await
        })
    }
}

impl Possession for Indexed {
    fn held<'a>(
        &'a self,
        namespaces: &'a [String],
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<bool>, Fault>> {
        self.index.held(namespaces, blobs)
    }

    fn note<'a>(
        &'a self,
        namespace: &'a str,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<(), Fault>> {
        self.index.note(namespace, blobs)
    }

    fn bytes<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Result<u64, Fault>> {
        self.index.bytes(namespace)
    }

    fn largest(&self, most: usize) -> BoxFuture<'_, Result<Vec<(String, u64)>, Fault>> {
        self.index.largest(most)
    }

    fn implies_presence(&self) -> bool {
        self.index.implies_presence()
    }
}
