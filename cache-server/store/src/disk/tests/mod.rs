//! Tests of the store as a whole: what every store must do, and what only this one promises.

mod crash;
mod damage;
mod full;
mod holders;
mod model;
mod order;

use std::time::{Duration, Instant, UNIX_EPOCH};

use ashlar_model::cas::{ActionKey, CasDigest, DigestFunction};
use bytes::Bytes;

use super::key::Key;
use super::*;
use crate::blob_store::{BlobStore as _, ByteRange, collect, once};
use crate::conformance;

fn fresh(settings: DiskSettings) -> (tempfile::TempDir, Arc<DiskStore>) {
    let directory = tempfile::tempdir().unwrap();
    let store = DiskStore::open(directory.path(), settings, crate::clock::system());
    (directory, Arc::new(store.unwrap()))
}

/// Packs and limits so small that all of them are met soon.
fn tiny() -> DiskSettings {
    DiskSettings {
        packed: 8 << 10,
        pack_size: 32 << 10,
        ..DiskSettings::default()
    }
}

conformance::blob_store_tests!(blobs, std::future::ready(fresh(DiskSettings::default())));
conformance::action_cache_tests!(results, std::future::ready(fresh(DiskSettings::default())));
conformance::exact_action_cache_tests!(exact, std::future::ready(fresh(DiskSettings::default())));
conformance::possession_tests!(
    possession,
    std::future::ready(fresh(DiskSettings::default()))
);
conformance::blob_store_tests!(tiny_blobs, std::future::ready(fresh(tiny())));
conformance::action_cache_tests!(tiny_results, std::future::ready(fresh(tiny())));

/// A directory in memory where the machine has one: for tests that write much, and of which none
/// is about what a disk does.
fn quick_directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// A clock that stands still until it is set.
#[derive(Debug, Clone, Default)]
struct Time(Arc<AtomicU64>);

impl Time {
    fn clock(&self) -> Clock {
        let seconds = Arc::clone(&self.0);
        Arc::new(move || UNIX_EPOCH + Duration::from_secs(seconds.load(Ordering::Relaxed)))
    }

    fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

/// Bytes that no two seeds have in common.
fn noise(seed: u64, length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes.into()
}

fn blob(seed: u64, length: usize) -> (CasDigest, Bytes) {
    let bytes = noise(seed, length);
    let function = if seed.is_multiple_of(3) {
        DigestFunction::Sha256
    } else {
        DigestFunction::Blake3
    };
    (CasDigest::of(function, &bytes), bytes)
}

fn action(seed: u64) -> ActionKey {
    ActionKey {
        instance: String::new(),
        action: CasDigest::of(DigestFunction::Blake3, &seed.to_le_bytes()),
    }
}

async fn put(store: &DiskStore, seed: u64, length: usize) -> CasDigest {
    let (digest, bytes) = blob(seed, length);
    store.write(&digest, once(bytes)).await.unwrap();
    digest
}

async fn get(store: &DiskStore, digest: &CasDigest) -> Result<Bytes, Fault> {
    collect(store.read(digest, ByteRange::WHOLE).await?, digest.size).await
}

async fn is_there(store: &DiskStore, digest: &CasDigest) -> bool {
    store.missing(&[*digest]).await.unwrap().is_empty()
}

/// Waits until something has happened in the background.
async fn eventually(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !happened().await {
        assert!(Instant::now() < patience, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn packs(root: &Path) -> Vec<std::path::PathBuf> {
    let mut packs: Vec<_> = std::fs::read_dir(root.join("packs"))
        .unwrap()
        .map(|item| item.unwrap().path())
        .collect();
    packs.sort();
    packs
}

fn disk_use(root: &Path) -> u64 {
    let mut sum = 0;
    for item in std::fs::read_dir(root).unwrap() {
        let item = item.unwrap();
        let metadata = item.metadata().unwrap();
        sum += if metadata.is_dir() {
            disk_use(&item.path())
        } else if item.file_name().to_string_lossy().starts_with("index") {
            0
        } else {
            metadata.len()
        };
    }
    sum
}
