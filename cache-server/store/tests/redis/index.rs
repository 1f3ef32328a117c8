//! The index of blobs: sums, and what one blob costs.

use std::time::UNIX_EPOCH;

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_store::Possession as _;
use ashlar_store::objects::index::BlobIndex as _;
use ashlar_store::objects::name;
use ashlar_store::redis::RedisIndex;
use ashlar_test_support::redis::{RedisServer, Reply};

use crate::footing::{redis, single};

fn blobs(count: usize) -> Vec<CasDigest> {
    (0..count)
        .map(|number| {
            let mut blob = CasDigest::of(DigestFunction::Blake3, number.to_string().as_bytes());
            blob.size = 100_000;
            blob
        })
        .collect()
}

async fn add(index: &RedisIndex, blobs: &[CasDigest]) -> String {
    let pack = name::new_pack().unwrap();
    let placed: Vec<_> = blobs
        .iter()
        .copied()
        .zip((0..).map(|at| at * 100_000))
        .collect();
    index.add(&pack, 1 << 26, &placed).await.unwrap();
    pack
}

#[tokio::test]
async fn what_leaves_the_index_is_held_by_nobody() {
    let (_server, redis) = single();
    let index = RedisIndex::new(redis);
    let all = blobs(30);
    let first = add(&index, &all[..20]).await;
    let second = add(&index, &all[20..]).await;
    index.note("main", &all).await.unwrap();
    index.note("pr", &all[10..15]).await.unwrap();
    // Where it is not, it cannot be held.
    index.note("pr", &blobs(31)[30..]).await.unwrap();
    let bytes = async |namespace| index.bytes(namespace).await.unwrap();
    assert_eq!(
        (bytes("main").await, bytes("pr").await),
        (3_000_000, 500_000)
    );
    for _ in 0..2 {
        index.forget(&first, &all[..11]).await.unwrap();
        assert_eq!(
            (bytes("main").await, bytes("pr").await),
            (1_900_000, 400_000)
        );
    }
    for _ in 0..2 {
        index.condemn(&first, &all, UNIX_EPOCH).await.unwrap();
        assert_eq!((bytes("main").await, bytes("pr").await), (1_000_000, 0));
    }
    let namespaces = ["main".to_owned(), "pr".to_owned()];
    let held = index.held(&namespaces, &all).await.unwrap();
    let expected: Vec<_> = (0..30).map(|number| number >= 20).collect();
    assert_eq!(held, expected);
    let largest = index.largest(10).await.unwrap();
    assert_eq!(largest, [("main".to_owned(), 1_000_000)]);
    // One that moves is still held.
    add(&index, &all[25..]).await;
    assert_eq!(bytes("main").await, 1_000_000);
    index.condemn(&second, &all, UNIX_EPOCH).await.unwrap();
    assert_eq!(bytes("main").await, 500_000);
}

#[tokio::test]
async fn the_largest_of_many_namespaces_are_found() {
    let (_server, redis) = single();
    let index = RedisIndex::new(redis);
    let all = blobs(6000);
    for part in all.chunks(1000) {
        add(&index, part).await;
    }
    for number in 0..100 {
        let held = &all[..if number < 3 { 6000 - number * 500 } else { 300 }];
        index.note(&format!("org/{number}"), held).await.unwrap();
    }
    let largest = index.largest(3).await.unwrap();
    let expected = [(0, 600_000_000), (1, 550_000_000), (2, 500_000_000)];
    assert_eq!(
        largest,
        expected.map(|(number, bytes)| (format!("org/{number}"), bytes))
    );
}

#[tokio::test]
async fn finding_again_and_again_writes_nothing() {
    let (server, redis) = single();
    let index = RedisIndex::new(redis);
    let all = blobs(100);
    add(&index, &all).await;
    index.find(&all).await.unwrap();
    let before = server.info("master_repl_offset");
    for _ in 0..10 {
        index.find(&all).await.unwrap();
    }
    assert_eq!(server.info("master_repl_offset"), before);
}

#[tokio::test]
async fn thousands_are_known_or_not_however_they_are_mixed() {
    let (server, redis) = single();
    let index = RedisIndex::new(redis);
    let all = blobs(6000);
    let (there, absent) = all.split_at(3000);
    let pack = add(&index, there).await;
    let mixed: Vec<CasDigest> = there
        .iter()
        .zip(absent)
        .flat_map(|(a, b)| [*a, *b])
        .collect();
    let known = async |blobs: &[CasDigest]| index.known(blobs).await.unwrap();
    let alternating: Vec<bool> = (0..mixed.len()).map(|at| at % 2 == 0).collect();
    // At first nothing is noted; then the use of what is there is.
    for _ in 0..2 {
        assert_eq!(known(&mixed).await, alternating);
        assert_eq!(known(&mixed[..100]).await, alternating[..100]);
        assert_eq!(known(there).await, vec![true; 3000]);
        assert_eq!(known(absent).await, vec![false; 3000]);
    }
    let before = server.info("master_repl_offset");
    assert_eq!(known(&mixed).await, alternating);
    assert_eq!(server.info("master_repl_offset"), before);
    // What is forgotten is not there, though its use is noted.
    index.forget(&pack, &there[..500]).await.unwrap();
    let kept: Vec<bool> = (0..3000).map(|at| at >= 500).collect();
    assert_eq!(known(there).await, kept);
    // Twice the same in one question.
    let twice = [there[700], absent[0], there[700], there[0], absent[0]];
    assert_eq!(known(&twice).await, [true, false, true, false, false]);
    index.note("main", &there[..1000]).await.unwrap();
    let namespaces = ["main".to_owned()];
    let held = index.held(&namespaces, &mixed).await.unwrap();
    let expected: Vec<bool> = (0..mixed.len())
        .map(|at| at % 2 == 0 && (500..1000).contains(&(at / 2)))
        .collect();
    assert_eq!(held, expected);
}

/// What Redis holds, in bytes.
fn memory(server: &RedisServer) -> u64 {
    server.info("used_memory_dataset").parse().unwrap()
}

#[tokio::test]
async fn a_blob_that_somebody_holds_costs_little() {
    let server = RedisServer::start_with(&["--appendonly", "no"]);
    let index = RedisIndex::new(redis(&server.url()));
    let all = blobs(20_000);
    for part in all.chunks(1000) {
        add(&index, part).await;
        index.note("org/repo/main", part).await.unwrap();
    }
    // A small hash with a short key.
    let keys = server.command(&["KEYS", "farm:b*"]).array();
    assert_eq!(keys.len(), 20_000);
    let Some(Reply::Bulk(key)) = keys.first() else {
        panic!("{keys:?}");
    };
    assert_eq!(key.len(), 44);
    let mut client = server.client().unwrap();
    let encoding = client.command(&[&b"OBJECT"[..], b"ENCODING", key]).unwrap();
    assert_eq!(encoding.text(), "listpack");
    let usage = client.command(&[&b"MEMORY"[..], b"USAGE", key]).unwrap();
    assert!(usage.integer() <= 180, "{usage:?}");
    assert!(memory(&server) < 20_000 * 250, "{}", memory(&server));
}
