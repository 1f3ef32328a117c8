//! Blobs in an object store, over an index in memory. `tests/objects.rs` has them over real S3.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use ashlar_model::cas::DigestFunction;
use futures::StreamExt as _;
use futures::future::join_all;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use object_store::{ObjectStore, ObjectStoreExt as _};

use super::memory_index::MemoryIndex;
use super::reindex::reindex;
use super::upkeep::{LookedOver, ObjectUpkeep, Round, Spared, UpkeepSettings};
use super::*;
use crate::blob_store::once;
use crate::clock::{self, Clock};
use crate::conformance;
use crate::counters::Counters;
use crate::fault::FaultKind;
use crate::lease::local::LocalLeases;
use crate::memory::MemoryStore;

fn over(store: Arc<dyn ObjectStore>) -> Arc<ObjectBlobs> {
    let bucket = Bucket::new(store, Arc::default());
    let index = Arc::new(MemoryIndex::new(clock::system()));
    Arc::new(ObjectBlobs::new(bucket, index, MEMORY))
}

async fn in_memory() -> ((), Arc<ObjectBlobs>) {
    ((), over(Arc::new(InMemory::new())))
}

async fn in_files() -> (tempfile::TempDir, Arc<ObjectBlobs>) {
    let directory = tempfile::tempdir().unwrap();
    let store = LocalFileSystem::new_with_prefix(directory.path()).unwrap();
    (directory, over(Arc::new(store)))
}

conformance::blob_store_tests!(memory, in_memory());
conformance::blob_store_tests!(files, in_files());

/// A store in memory, with a clock that is set by hand.
struct Bench {
    store: Arc<InMemory>,
    index: Arc<MemoryIndex>,
    objects: Arc<ObjectBlobs>,
    counters: Arc<Counters>,
    now: Arc<Mutex<SystemTime>>,
    clock: Clock,
}

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

impl Bench {
    fn new() -> Self {
        let now = Arc::new(Mutex::new(clock::system()()));
        let hand = now.clone();
        let clock: Clock = Arc::new(move || *hand.lock().unwrap());
        let (store, counters) = (Arc::new(InMemory::new()), Arc::<Counters>::default());
        let index = Arc::new(MemoryIndex::new(clock.clone()));
        let bucket = Bucket::new(store.clone(), counters.clone());
        Self {
            objects: Arc::new(ObjectBlobs::new(bucket, index.clone(), MEMORY)),
            store,
            index,
            counters,
            now,
            clock,
        }
    }

    fn pass(&self, time: Duration) {
        *self.now.lock().unwrap() += time;
    }

    fn upkeep(&self, settings: UpkeepSettings, spared: Option<Arc<dyn Spared>>) -> ObjectUpkeep {
        let leases = LocalLeases::new(0, Arc::new(MemoryStore::new(1000)));
        ObjectUpkeep::new(
            self.objects.clone(),
            Arc::new(leases),
            spared,
            self.clock.clone(),
            settings,
        )
    }

    /// The objects in the store.
    async fn names(&self) -> Vec<String> {
        let listed = self.store.list(None);
        let names = listed.map(|meta| meta.unwrap().location.to_string());
        let mut names: Vec<String> = names.collect().await;
        names.sort();
        names
    }

    async fn write(&self, seed: u8, length: usize) -> CasDigest {
        let (blob, bytes) = blob(seed, length);
        self.objects.write(&blob, once(bytes)).await.unwrap();
        blob
    }

    async fn read(&self, blob: &CasDigest) -> Result<Bytes, Fault> {
        collect(self.objects.read(blob, ByteRange::WHOLE).await?, blob.size).await
    }

    async fn assert_gone(&self, blob: &CasDigest) {
        let fault = self.read(blob).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::NotFound, "{fault}");
        assert_eq!(self.objects.missing(&[*blob]).await.unwrap(), [*blob]);
    }
}

fn settings() -> UpkeepSettings {
    UpkeepSettings {
        // This index notes every use.
        fresh_for: 10 * MINUTE,
        ..UpkeepSettings::default()
    }
}

fn blob(seed: u8, length: usize) -> (CasDigest, Bytes) {
    let bytes = Bytes::from(vec![seed; length]);
    (CasDigest::of(DigestFunction::Blake3, &bytes), bytes)
}

const LARGE: usize = 3 << 20;

#[tokio::test]
async fn small_blobs_that_come_together_share_packs() {
    let inner = Arc::new(InMemory::new());
    let slow = ThrottleConfig {
        wait_put_per_call: Duration::from_millis(30),
        ..ThrottleConfig::default()
    };
    let counters = Arc::<Counters>::default();
    let bucket = Bucket::new(
        Arc::new(ThrottledStore::new(inner.clone(), slow)),
        counters.clone(),
    );
    let index = Arc::new(MemoryIndex::new(clock::system()));
    let objects = ObjectBlobs::new(bucket, index, MEMORY);
    let blobs: Vec<_> = (0..200).map(|n| blob(n, 1000)).collect();
    let written = blobs
        .iter()
        .map(|(blob, bytes)| objects.write(blob, once(bytes.clone())));
    assert!(join_all(written).await.iter().all(Result::is_ok));
    let packs = counters.packs.written.get();
    assert!((1..=10).contains(&packs), "{packs} packs for 200 blobs");
    assert_eq!(counters.packs.written_blobs.get(), 200);
    assert_eq!(inner.list(None).count().await as u64, packs);
    let digests: Vec<_> = blobs.iter().map(|(blob, _)| *blob).collect();
    let read = objects.read_many(&digests).await;
    let gets = counters.objects.snapshot();
    let gets = gets.iter().find(|one| one.operation == "get").unwrap();
    assert!(read.iter().all(Result::is_ok));
    assert_eq!(gets.buckets.iter().sum::<u64>(), packs, "one for each pack");
}

#[tokio::test]
async fn a_blob_whose_object_is_gone_is_forgotten() {
    let bench = Bench::new();
    let blobs = [bench.write(1, 1000).await, bench.write(2, LARGE).await];
    for name in bench.names().await {
        bench.store.delete(&Path::from(name)).await.unwrap();
    }
    assert_eq!(bench.objects.missing(&blobs).await.unwrap(), []);
    let before = bench.objects.removals().load(Ordering::Acquire);
    for blob in blobs {
        bench.assert_gone(&blob).await;
    }
    assert!(bench.objects.removals().load(Ordering::Acquire) > before);
    assert_eq!(bench.counters.packs.read_repairs.get(), 2);
    // Whoever writes it again makes it whole.
    bench.write(1, 1000).await;
    bench.read(&blobs[0]).await.unwrap();
}

#[tokio::test]
async fn a_look_finds_all_that_is_gone_at_once() {
    let bench = Bench::new();
    let mut blobs = Vec::new();
    for seed in 0..6 {
        blobs.push(bench.write(seed, 1000).await);
    }
    let large = bench.write(6, 3 << 20).await;
    blobs.push(large);
    let places = bench.index.find(&blobs).await.unwrap();
    let objects: Vec<String> = places.into_iter().map(|one| one.unwrap().object).collect();
    for gone in [0, 3, 6] {
        let path = Path::from(objects[gone].as_str());
        bench.store.delete(&path).await.unwrap();
    }
    // One that was cut off is as good as gone.
    let path = Path::from(objects[5].as_str());
    let short = bench.store.get(&path).await.unwrap().bytes().await.unwrap();
    let short = short.slice(..900);
    bench.store.put(&path, short.into()).await.unwrap();
    assert_eq!(bench.objects.missing(&blobs).await.unwrap(), []);
    let expected = [0, 3, 5, 6].map(|at| blobs[at]);
    assert_eq!(bench.objects.look(&blobs).await.unwrap(), expected);
    // It is known from now on, and can be written again.
    assert_eq!(bench.objects.missing(&blobs).await.unwrap(), expected);
    bench.write(0, 1000).await;
    bench.read(&blobs[0]).await.unwrap();
    assert_eq!(
        bench.objects.look(&blobs).await.unwrap(),
        [3, 5, 6].map(|at| blobs[at])
    );
}

#[tokio::test]
async fn a_blob_with_wrong_bytes_is_forgotten_and_its_neighbours_are_not() {
    let bench = Bench::new();
    let group: Vec<_> = (1..4).map(|seed| blob(seed, 1000)).collect();
    let written = bench.objects.write_many(group.clone()).await;
    assert!(written.iter().all(Result::is_ok));
    let large = bench.write(9, LARGE).await;
    for name in bench.names().await {
        let path = Path::from(name);
        let whole = bench.store.get(&path).await.unwrap().bytes().await.unwrap();
        let mut damaged = whole.to_vec();
        damaged[1500] ^= 1;
        bench.store.put(&path, damaged.into()).await.unwrap();
    }
    let digests: Vec<_> = group.iter().map(|(blob, _)| *blob).collect();
    let read = bench.objects.read_many(&digests).await;
    let kinds: Vec<_> = read
        .iter()
        .map(|one| one.as_ref().err().map(|f| f.kind))
        .collect();
    assert_eq!(kinds, [None, Some(FaultKind::NotFound), None]);
    assert_eq!(
        bench.objects.missing(&digests).await.unwrap(),
        digests[1..2]
    );
    bench.assert_gone(&large).await;
}

#[tokio::test]
async fn an_object_that_was_cut_off_does_no_harm() {
    let bench = Bench::new();
    let blobs = [bench.write(1, 1000).await, bench.write(2, LARGE).await];
    for name in bench.names().await {
        bench
            .store
            .put(&Path::from(name), Bytes::from_static(b"short").into())
            .await
            .unwrap();
    }
    for blob in blobs {
        bench.assert_gone(&blob).await;
    }
}

#[tokio::test]
async fn the_least_recently_used_is_evicted_and_deleted_after_its_time_of_grace() {
    let bench = Bench::new();
    let mut blobs = Vec::new();
    for seed in 0..10 {
        blobs.push(bench.write(seed, LARGE).await);
        bench.pass(MINUTE);
    }
    // The oldest is used again.
    bench.objects.missing(&blobs[..1]).await.unwrap();
    bench.pass(11 * MINUTE);
    let settings = UpkeepSettings {
        limit: Some(10 * LARGE as u64),
        ..settings()
    };
    let upkeep = bench.upkeep(settings, None);
    let round = upkeep.round().await.unwrap();
    // From 100% down to 85%.
    assert_eq!(round.condemned, 2);
    assert_eq!(upkeep.evicted_blobs(), 2);
    let missing = bench.objects.missing(&blobs).await.unwrap();
    assert_eq!(missing, blobs[1..3]);
    assert_eq!(bench.names().await.len(), 10, "they are still there");
    bench.pass(9 * MINUTE);
    assert_eq!(upkeep.round().await.unwrap(), Round::default());
    bench.pass(2 * MINUTE);
    assert_eq!(upkeep.round().await.unwrap().deleted, 2);
    assert_eq!(bench.names().await.len(), 8);
    assert_eq!(upkeep.round().await.unwrap(), Round::default());
    assert_eq!(bench.index.totals().await.unwrap().objects, 8);
}

#[tokio::test]
async fn what_was_used_within_the_time_of_grace_is_never_evicted() {
    let bench = Bench::new();
    let old = bench.write(1, LARGE).await;
    bench.pass(20 * MINUTE);
    let fresh = bench.write(2, LARGE).await;
    let settings = UpkeepSettings {
        limit: Some(1000),
        unused_for: Some(MINUTE),
        ..settings()
    };
    let upkeep = bench.upkeep(settings, None);
    bench.pass(9 * MINUTE);
    assert_eq!(upkeep.round().await.unwrap().condemned, 1);
    assert_eq!(bench.objects.missing(&[old, fresh]).await.unwrap(), [old]);
}

#[tokio::test]
async fn what_nobody_used_for_long_is_evicted_without_any_limit() {
    let bench = Bench::new();
    let old = bench.write(1, 1000).await;
    bench.pass(DAY);
    let fresh = bench.write(2, 1000).await;
    bench.pass(DAY);
    let settings = UpkeepSettings {
        unused_for: Some(DAY + DAY / 2),
        ..settings()
    };
    let round = bench.upkeep(settings, None).round().await.unwrap();
    assert_eq!(round.condemned, 1);
    assert_eq!(bench.objects.missing(&[fresh, old]).await.unwrap(), [old]);
}

/// Uses some blobs.
#[derive(Debug)]
struct Uses(Arc<ObjectBlobs>, Vec<CasDigest>);

impl Spared for Uses {
    fn touch(&self) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async { self.0.missing(&self.1).await.map(drop) })
    }
}

#[tokio::test]
async fn what_is_to_be_spared_stays() {
    let bench = Bench::new();
    let blobs = [bench.write(1, LARGE).await, bench.write(2, LARGE).await];
    bench.pass(DAY);
    let settings = UpkeepSettings {
        limit: Some(100),
        ..settings()
    };
    let spared = Uses(bench.objects.clone(), blobs[..1].to_vec());
    let upkeep = bench.upkeep(settings, Some(Arc::new(spared)));
    assert_eq!(upkeep.round().await.unwrap().condemned, 1);
    assert_eq!(bench.objects.missing(&blobs).await.unwrap(), blobs[1..]);
}

#[tokio::test]
async fn a_pack_that_is_mostly_dead_is_written_anew() {
    let bench = Bench::new();
    let group: Vec<_> = (1..=10).map(|seed| blob(seed, 1000)).collect();
    let written = bench.objects.write_many(group.clone()).await;
    assert!(written.iter().all(Result::is_ok));
    let [pack] = &bench.names().await[..] else {
        panic!("one pack")
    };
    let digests: Vec<_> = group.iter().map(|(blob, _)| *blob).collect();
    let upkeep = bench.upkeep(settings(), None);
    let nothing = LookedOver {
        objects: 1,
        ..LookedOver::default()
    };
    assert_eq!(upkeep.look_over().await.unwrap(), nothing);
    bench.index.forget(pack, &digests[2..]).await.unwrap();
    let found = upkeep.look_over().await.unwrap();
    assert_eq!(found.rewritten, 1, "{found:?}");
    assert_eq!(bench.objects.missing(&digests).await.unwrap(), digests[2..]);
    bench.pass(11 * MINUTE);
    assert_eq!(upkeep.round().await.unwrap().deleted, 1);
    for (blob, bytes) in &group[..2] {
        assert_eq!(bench.read(blob).await.unwrap(), bytes);
    }
    // And one without any blob goes without being written anew.
    let [pack] = &bench.names().await[..] else {
        panic!("one pack")
    };
    bench.index.forget(pack, &digests).await.unwrap();
    assert_eq!(upkeep.look_over().await.unwrap().dead, 1);
}

#[tokio::test]
async fn old_objects_that_the_index_does_not_know_are_deleted() {
    let bench = Bench::new();
    let known = bench.write(1, 1000).await;
    let others = Path::from("packs/ours/not");
    let orphan = Path::from(name::new_pack().unwrap());
    for path in [&others, &orphan] {
        let bytes = Bytes::from_static(b"of a server that crashed");
        bench.store.put(path, bytes.into()).await.unwrap();
    }
    let upkeep = bench.upkeep(settings(), None);
    assert_eq!(upkeep.look_over().await.unwrap().orphans, 0, "it is young");
    bench.pass(DAY + MINUTE);
    let found = upkeep.look_over().await.unwrap();
    assert_eq!((found.orphans, found.objects), (1, 2), "{found:?}");
    assert!(bench.names().await.contains(&others.to_string()));
    bench.read(&known).await.unwrap();
}

#[tokio::test]
async fn an_index_that_was_lost_condemns_nothing_and_is_made_again() {
    let bench = Bench::new();
    let mut blobs = Vec::new();
    for seed in 1..5 {
        blobs.push(bench.write(seed, 1000).await);
    }
    blobs.push(bench.write(5, LARGE).await);
    let before = bench.index.totals().await.unwrap();
    bench.index.clear();
    bench.pass(2 * DAY);
    let upkeep = bench.upkeep(settings(), None);
    let found = upkeep.look_over().await.unwrap();
    assert!(found.index_is_lost && found.orphans == 0, "{found:?}");
    assert_eq!(bench.objects.missing(&blobs).await.unwrap(), blobs);
    let damaged = Path::from(name::new_pack().unwrap());
    let bytes = Bytes::from_static(b"no pack");
    bench.store.put(&damaged, bytes.into()).await.unwrap();
    let found = reindex(&bench.objects, (bench.clock)(), |_| {})
        .await
        .unwrap();
    assert_eq!((found.objects, found.blobs, found.damaged), (5, 5, 1));
    assert_eq!(bench.index.totals().await.unwrap(), before);
    for blob in blobs {
        bench.read(&blob).await.unwrap();
    }
}

#[tokio::test]
async fn readiness_is_a_write() {
    let bench = Bench::new();
    bench.objects.bucket().ready().await.unwrap();
    assert_eq!(bench.names().await, ["readiness"]);
    // It is no orphan, however old.
    bench.pass(3 * DAY);
    let upkeep = bench.upkeep(settings(), None);
    assert_eq!(upkeep.look_over().await.unwrap(), LookedOver::default());
}

#[tokio::test]
async fn one_server_at_a_time_looks_after_the_store() {
    let bench = Bench::new();
    bench.write(1, LARGE).await;
    bench.pass(DAY);
    let settings = UpkeepSettings {
        limit: Some(100),
        every: Duration::from_millis(1),
        ..settings()
    };
    let upkeep = bench.upkeep(settings, None);
    tokio::select! {
        () = upkeep.run() => {}
        () = async {
            while bench.counters.packs.condemned.get() == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        } => {}
    }
    assert_eq!(bench.counters.packs.condemned.get(), 1);
}
