//! Keeping order: limits, eviction, pins, times, compaction.

use ashlar_proto::convert::digest_to_wire;
use ashlar_proto::wire::reapi;
use prost::Message as _;

use super::*;
use crate::action_cache::{ActionCache as _, PutMode};

const LIMIT: u64 = 4 << 20;

fn limited(time: &Time) -> (tempfile::TempDir, DiskStore) {
    let directory = quick_directory();
    let settings = DiskSettings::with_limit(LIMIT);
    let store = DiskStore::open(directory.path(), settings, time.clock()).unwrap();
    (directory, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_holds_while_bytes_come_and_what_is_old_makes_room() {
    let time = Time::default();
    let (directory, store) = limited(&time);
    let kept = put(&store, 1_000_000, 20_000).await;
    let mut last = kept;
    for seed in 0..400 {
        time.pass(400);
        let length = if seed % 10 == 0 { 200_000 } else { 20_000 };
        last = put(&store, seed, length).await;
        // What is used again and again stays.
        assert!(is_there(&store, &kept).await, "{seed}");
        let used = disk_use(directory.path());
        assert!(used <= LIMIT, "{used} bytes after {seed}");
    }
    assert!(
        get(&store, &kept)
            .await
            .is_ok_and(|bytes| bytes.len() == 20_000)
    );
    assert!(is_there(&store, &last).await);
    let usage = store.usage();
    assert!(usage.evicted > 100, "{usage:?}");
    assert!(usage.on_disk_bytes <= usage.limit_bytes, "{usage:?}");
    // Those that are there are the last that came.
    let digests: Vec<_> = (0..400)
        .map(|seed| blob(seed, if seed % 10 == 0 { 200_000 } else { 20_000 }).0)
        .collect();
    let missing = store.missing(&digests).await.unwrap();
    assert_eq!(missing[..], digests[..missing.len()]);
    let report = store.fsck(false).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_cannot_fit_is_refused_and_takes_nothing_with_it() {
    let time = Time::default();
    let (_directory, store) = limited(&time);
    let small = put(&store, 1, 1000).await;
    let (large, bytes) = blob(2, 5 << 20);
    let fault = store.write(&large, once(bytes)).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Exhausted, "{fault}");
    assert!(is_there(&store, &small).await);
    put(&store, 3, 1000).await;
}

/// A result that names one file and a tree with two chunks.
async fn result_with_blobs(store: &DiskStore, seed: u64) -> (ActionKey, Vec<CasDigest>) {
    let mut parts = Vec::new();
    for part in 0..3 {
        let bytes = noise(seed + part, 30_000);
        let digest = CasDigest::of(DigestFunction::Blake3, &bytes);
        store.write(&digest, once(bytes)).await.unwrap();
        parts.push(digest);
    }
    let node = |digest: &CasDigest| reapi::FileNode {
        digest: Some(digest_to_wire(digest)),
        ..Default::default()
    };
    let tree = reapi::Tree {
        root: Some(reapi::Directory {
            files: parts[1..].iter().map(node).collect(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let tree = Bytes::from(tree.encode_to_vec());
    let tree_digest = CasDigest::of(DigestFunction::Blake3, &tree);
    store.write(&tree_digest, once(tree)).await.unwrap();
    parts.push(tree_digest);
    let result = reapi::ActionResult {
        output_files: vec![reapi::OutputFile {
            digest: Some(digest_to_wire(&parts[0])),
            ..Default::default()
        }],
        output_directories: vec![reapi::OutputDirectory {
            tree_digest: Some(digest_to_wire(&tree_digest)),
            ..Default::default()
        }],
        ..Default::default()
    };
    let key = action(seed);
    let result = Bytes::from(result.encode_to_vec());
    store.put(&key, result, PutMode::Replace).await.unwrap();
    (key, parts)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_result_and_all_that_it_names_stay_until_the_pin_ends() {
    let time = Time::default();
    time.pass(1_000_000);
    let (_directory, store) = limited(&time);
    let (pinned, pinned_parts) = result_with_blobs(&store, 1_000_000).await;
    let (other, other_parts) = result_with_blobs(&store, 2_000_000).await;
    let until = UNIX_EPOCH + Duration::from_secs(1_000_000 + 500_000);
    assert!(store.pin(&pinned, until).await.unwrap());
    assert!(!store.pin(&action(3_000_000), until).await.unwrap());
    for seed in 0..300 {
        time.pass(400);
        put(&store, seed, 20_000).await;
    }
    // Looking counts as use, so both are looked at at once, after the fact.
    assert_eq!(store.missing(&other_parts).await.unwrap(), other_parts);
    assert_eq!(store.missing(&pinned_parts).await.unwrap(), []);
    let keys = [pinned.clone(), other];
    let results = store.get(&keys).await.unwrap();
    assert!(results[0].is_some() && results[1].is_none());

    time.pass(1_000_000);
    for seed in 300..800 {
        time.pass(400);
        put(&store, seed, 20_000).await;
    }
    assert_eq!(store.missing(&pinned_parts).await.unwrap(), pinned_parts);
    assert!(!store.unpin(&action(3_000_000)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_used_for_too_long_goes_however_much_room_there_is() {
    let directory = quick_directory();
    let time = Time::default();
    time.pass(1_000_000);
    let settings = DiskSettings {
        unused_for: Some(Duration::from_secs(10_000)),
        ..tiny()
    };
    let store = DiskStore::open(directory.path(), settings, time.clock()).unwrap();
    let old = [put(&store, 1, 100).await, put(&store, 2, 50_000).await];
    time.pass(6000);
    let used = put(&store, 3, 100).await;
    store
        .put(&action(1), noise(1, 50), PutMode::Replace)
        .await
        .unwrap();
    time.pass(6000);
    let removals = store.removals().load(Ordering::Acquire);
    store.shared.bell.ring();
    eventually("the removal of old blobs", async || {
        store.usage().blobs == 1
    })
    .await;
    assert_eq!(store.missing(&old).await.unwrap(), old);
    assert!(is_there(&store, &used).await);
    assert_eq!(store.usage().results, 1);
    assert_eq!(store.removals().load(Ordering::Acquire), removals + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_that_are_mostly_dead_are_compacted_and_lose_nothing() {
    let (directory, store) = fresh(tiny());
    // Every second result is replaced again and again.
    for round in 0..20 {
        for seed in 0..20 {
            if round == 0 || seed % 2 == 0 {
                let value = noise(round * 100 + seed, 2000);
                store
                    .put(&action(seed), value, PutMode::Replace)
                    .await
                    .unwrap();
            }
        }
    }
    assert!(store.remove(&action(3)).await.unwrap());
    let before = disk_use(directory.path());
    store.shared.bell.ring();
    eventually("compaction", async || {
        disk_use(directory.path()) < before / 3
    })
    .await;
    let check = async |store: &DiskStore| {
        for seed in 0..20 {
            let expected = match seed {
                3 => None,
                seed if seed % 2 == 0 => Some(noise(1900 + seed, 2000)),
                seed => Some(noise(seed, 2000)),
            };
            let found = store.get(&[action(seed)]).await.unwrap().remove(0);
            assert!(found == expected, "{seed}");
        }
        let report = store.fsck(false).await.unwrap();
        assert!(report.is_clean(), "{report:?}");
    };
    check(&store).await;
    drop(store);
    let store = DiskStore::open(directory.path(), tiny(), crate::clock::system()).unwrap();
    check(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_change_only_for_whoever_knows_the_last_value() {
    let (_directory, store) = fresh(tiny());
    let value = |text: &'static str| Bytes::from_static(text.as_bytes());
    assert_eq!(store.named("a").await.unwrap(), None);
    assert_eq!(store.set_named("a", value("x"), 7).await.unwrap(), None);
    let first = store
        .set_named("a", value("one"), 0)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(store.set_named("a", value("two"), 0).await.unwrap(), None);
    let second = store
        .set_named("a", value("two"), first)
        .await
        .unwrap()
        .unwrap();
    assert!(second > first);
    assert_eq!(
        store.set_named("a", value("three"), first).await.unwrap(),
        None
    );
    let named = store.named("a").await.unwrap().unwrap();
    assert_eq!((&named.value[..], named.generation), (&b"two"[..], second));
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_listed_by_their_last_use() {
    let directory = quick_directory();
    let time = Time::default();
    let store = DiskStore::open(directory.path(), tiny(), time.clock()).unwrap();
    for seed in 0..5 {
        time.pass(1000);
        store
            .put(&action(seed), noise(seed, 10), PutMode::Replace)
            .await
            .unwrap();
    }
    let elsewhere = ActionKey {
        instance: "elsewhere".to_owned(),
        ..action(9)
    };
    store
        .put(&elsewhere, noise(9, 10), PutMode::Replace)
        .await
        .unwrap();
    time.pass(1000);
    store.get(&[action(2)]).await.unwrap();
    // The next write notes the use.
    put(&store, 1, 10).await;
    let listed = store.results("").await.unwrap();
    let keys: Vec<_> = listed.into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [2, 4, 3, 1, 0].map(action));
    assert_eq!(store.results("elsewhere").await.unwrap().len(), 1);
}
