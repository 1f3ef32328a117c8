//! The store against a model of itself: any order of doings, openings and losses of the index.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::action_cache::{ActionCache as _, PutMode};

#[derive(Debug, Clone)]
enum Doing {
    Write { seed: u64, length: usize },
    WriteMany { seeds: Vec<u64> },
    Read { seed: u64, length: usize },
    Put { key: u64, value: u64, absent: bool },
    Remove { key: u64 },
    Name { name: u8, value: u64, right: bool },
    Compact,
    Open,
    LoseIndex,
}

fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 1_usize..3000,
        2 => Just(8_usize << 10),
        2 => Just((8_usize << 10) + 1),
        1 => Just(300_000_usize),
    ]
}

fn doings() -> impl Strategy<Value = Doing> {
    prop_oneof![
        6 => (0_u64..12, lengths()).prop_map(|(seed, length)| Doing::Write { seed, length }),
        2 => prop::collection::vec(100_u64..200, 1..30).prop_map(|seeds| Doing::WriteMany { seeds }),
        3 => (0_u64..12, lengths()).prop_map(|(seed, length)| Doing::Read { seed, length }),
        6 => (0_u64..6, any::<u64>(), any::<bool>())
            .prop_map(|(key, value, absent)| Doing::Put { key, value, absent }),
        2 => (0_u64..6).prop_map(|key| Doing::Remove { key }),
        3 => (0_u8..3, any::<u64>(), any::<bool>())
            .prop_map(|(name, value, right)| Doing::Name { name, value, right }),
        2 => Just(Doing::Compact),
        1 => Just(Doing::Open),
        1 => Just(Doing::LoseIndex),
    ]
}

#[derive(Default)]
struct Model {
    blobs: HashMap<CasDigest, Bytes>,
    results: HashMap<u64, Bytes>,
    names: HashMap<u8, (Bytes, u64)>,
}

fn open(root: &Path) -> DiskStore {
    DiskStore::open(root, tiny(), crate::clock::system()).unwrap()
}

impl Model {
    async fn perform(&mut self, store: &DiskStore, doing: &Doing) {
        match doing {
            Doing::Write { seed, length } => {
                let (digest, bytes) = blob(*seed, *length);
                store.write(&digest, once(bytes.clone())).await.unwrap();
                self.blobs.insert(digest, bytes);
            }
            Doing::WriteMany { seeds } => {
                let many: Vec<_> = seeds.iter().map(|seed| blob(*seed, 700)).collect();
                for answer in store.write_many(many.clone()).await {
                    answer.unwrap();
                }
                self.blobs.extend(many);
            }
            Doing::Read { seed, length } => {
                let (digest, _) = blob(*seed, *length);
                let read = get(store, &digest).await;
                match self.blobs.get(&digest) {
                    Some(bytes) => assert!(read.unwrap() == *bytes),
                    None => assert_eq!(read.unwrap_err().kind, FaultKind::NotFound),
                }
            }
            Doing::Put { key, value, absent } => {
                let new = noise(*value, 300);
                let mode = if *absent {
                    PutMode::IfAbsent
                } else {
                    PutMode::Replace
                };
                let answer = store.put(&action(*key), new.clone(), mode).await.unwrap();
                let there = match self.results.get(key) {
                    Some(there) if *absent => there.clone(),
                    _ => new,
                };
                assert!(answer == there);
                self.results.insert(*key, there);
            }
            Doing::Remove { key } => {
                let removed = store.remove(&action(*key)).await.unwrap();
                assert_eq!(removed, self.results.remove(key).is_some());
            }
            Doing::Name { name, value, right } => {
                let last = self
                    .names
                    .get(name)
                    .map_or(0, |(_, generation)| *generation);
                let replaces = if *right { last } else { last + 1 };
                let new = noise(*value, 40);
                let name_text = name.to_string();
                let set = store.set_named(&name_text, new.clone(), replaces);
                let generation = set.await.unwrap();
                assert_eq!(generation.is_some(), *right);
                if let Some(generation) = generation {
                    assert!(generation > last);
                    self.names.insert(*name, (new, generation));
                }
            }
            Doing::Compact => {
                let (shared, writer) = (Arc::clone(&store.shared), store.writer.clone());
                blocking(move || compact::packs(&shared, &writer, 0))
                    .await
                    .unwrap();
            }
            Doing::Open | Doing::LoseIndex => {}
        }
    }

    async fn check(&self, store: &DiskStore) {
        let digests: Vec<_> = self.blobs.keys().copied().collect();
        assert_eq!(store.missing(&digests).await.unwrap(), []);
        let read = store.read_many(&digests).await;
        for (digest, bytes) in digests.iter().zip(read) {
            assert!(bytes.unwrap() == self.blobs[digest]);
        }
        for key in 0..6 {
            let result = store.get(&[action(key)]).await.unwrap().remove(0);
            assert!(result.as_ref() == self.results.get(&key), "result {key}");
        }
        for name in 0..3 {
            let named = store.named(&name.to_string()).await.unwrap();
            let named = named.map(|named| (named.value, named.generation));
            assert!(named.as_ref() == self.names.get(&name), "name {name}");
        }
        let usage = store.usage();
        assert_eq!(usage.blobs, self.blobs.len() as u64);
        assert_eq!(usage.results, self.results.len() as u64);
        let bytes: u64 = self.blobs.keys().map(|digest| digest.size).sum();
        assert_eq!(usage.blob_bytes, bytes);
    }
}

async fn run(doings: Vec<Doing>) {
    let directory = quick_directory();
    let mut store = open(directory.path());
    let mut model = Model::default();
    for doing in &doings {
        if matches!(doing, Doing::Open | Doing::LoseIndex) {
            store.close();
            if matches!(doing, Doing::LoseIndex) {
                std::fs::remove_file(directory.path().join("index.redb")).unwrap();
            }
            store = open(directory.path());
            let rebuilt = async || !store.is_rebuilding();
            eventually("the rebuild", rebuilt).await;
        }
        model.perform(&store, doing).await;
    }
    model.check(&store).await;
    let report = store.fsck(false).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(
        store.usage().on_disk_bytes,
        disk_use(directory.path()) - outside(directory.path())
    );
}

/// What does not count: the files beside packs and large files.
fn outside(root: &Path) -> u64 {
    let length = |name| std::fs::metadata(root.join(name)).map_or(0, |file| file.len());
    length("epoch") + length("lock")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn the_store_does_what_the_model_does(doings in prop::collection::vec(doings(), 1..60)) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(run(doings));
    }
}
