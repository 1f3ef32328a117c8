//! Who holds what, over evictions, restarts and a lost index.

use super::*;
use crate::possession::Possession as _;

fn open(root: &Path) -> DiskStore {
    DiskStore::open(root, tiny(), crate::clock::system()).unwrap()
}

async fn held(store: &DiskStore, namespace: &str, blobs: &[CasDigest]) -> Vec<bool> {
    store.held(&[namespace.to_owned()], blobs).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_what_outlives_a_restart_but_not_the_index() {
    let directory = quick_directory();
    let root = directory.path();
    let store = open(root);
    let blobs = [put(&store, 1, 500).await, put(&store, 2, 20_000).await];
    store.note("a", &blobs).await.unwrap();
    store.note("b", &blobs[..1]).await.unwrap();
    store.close();

    let store = open(root);
    assert_eq!(held(&store, "a", &blobs).await, [true, true]);
    assert_eq!(held(&store, "b", &blobs).await, [true, false]);
    assert_eq!(store.bytes("a").await.unwrap(), 20_500);
    store.close();

    std::fs::remove_file(root.join("index.redb")).unwrap();
    let store = open(root);
    eventually("the index is made again", async || {
        !store.is_rebuilding() && is_there(&store, &blobs[1]).await
    })
    .await;
    // The blobs are there, but have to be shown again.
    assert_eq!(held(&store, "a", &blobs).await, [false, false]);
    assert_eq!(store.bytes("a").await.unwrap(), 0);
    store.note("a", &blobs).await.unwrap();
    assert_eq!(held(&store, "a", &blobs).await, [true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_the_store_is_held_by_nobody() {
    let directory = quick_directory();
    let root = directory.path();
    let store = open(root);
    let (stays, goes) = (put(&store, 1, 5000).await, put(&store, 2, 50_000).await);
    for namespace in ["a", "b"] {
        store.note(namespace, &[stays, goes]).await.unwrap();
    }
    // Its file is found damaged.
    let entry = store
        .shared
        .index
        .read(|index| index.entry(&Key::blob(&goes)));
    let entry = entry.unwrap().unwrap();
    let key = Key::blob(&goes);
    store.work(Work::Lost { key, entry }).await.unwrap();
    assert_eq!(held(&store, "a", &[stays, goes]).await, [true, false]);
    assert_eq!(store.bytes("a").await.unwrap(), 5000);
    // Who sends it again is the only one to hold it.
    put(&store, 2, 50_000).await;
    store.note("b", &[goes]).await.unwrap();
    assert_eq!(held(&store, "a", &[goes]).await, [false]);
    assert_eq!(held(&store, "b", &[goes]).await, [true]);
    let largest = store.largest(10).await.unwrap();
    assert_eq!(largest, [("b".to_owned(), 55_000), ("a".to_owned(), 5000)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_holds_nothing_is_forgotten_with_its_number() {
    let directory = quick_directory();
    let store = open(directory.path());
    let gone = put(&store, 1, 700).await;
    store.note("first", &[gone]).await.unwrap();
    let key = Key::blob(&gone);
    let entry = store.shared.index.read(|index| index.entry(&key));
    let entry = entry.unwrap().unwrap();
    store.work(Work::Lost { key, entry }).await.unwrap();
    assert_eq!(store.largest(10).await.unwrap(), []);
    // What is not there cannot be held.
    store.note("second", &[gone]).await.unwrap();
    assert_eq!(held(&store, "second", &[gone]).await, [false]);
    assert_eq!(store.largest(10).await.unwrap(), []);
    put(&store, 1, 700).await;
    store.note("third", &[gone]).await.unwrap();
    assert_eq!(held(&store, "first", &[gone]).await, [false]);
    assert_eq!(store.bytes("third").await.unwrap(), 700);
}

#[tokio::test(flavor = "multi_thread")]
async fn results_of_all_instances_are_walked_in_pages() {
    use crate::action_cache::{ActionCache as _, PutMode};
    let directory = quick_directory();
    let store = open(directory.path());
    let mut keys = Vec::new();
    for seed in 0..25 {
        let key = ActionKey {
            instance: format!("team/{}", seed % 3),
            ..action(seed)
        };
        let value = Bytes::from_static(b"result");
        store.put(&key, value, PutMode::Replace).await.unwrap();
        keys.push(key);
    }
    let mut walked = Vec::new();
    let mut after = None;
    loop {
        let page = store.walk(after.as_deref(), 10).await.unwrap();
        assert!(page.results.len() <= 10);
        walked.extend(page.results.into_iter().map(|(key, _)| key));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    keys.sort();
    walked.sort();
    assert_eq!(walked, keys);
    for token in ["", "zz", "00"] {
        let fault = store.walk(Some(token), 10).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Invalid, "{token}");
    }
}
