//! Who has the farm's queue, and its journal.

use std::time::Duration;

use ashlar_store::redis::queue::{Elected, RedisQueue};
use bytes::Bytes;

use crate::footing::single;

const TIME: Duration = Duration::from_millis(400);

fn entry(name: &str, value: &str) -> (Bytes, Bytes) {
    (name.to_owned().into(), value.to_owned().into())
}

#[tokio::test]
async fn one_leads_and_another_follows_with_a_larger_epoch() {
    let (server, redis) = single();
    let queue = RedisQueue::new(redis);
    let elect = async |token| queue.elect(token, "a:1", TIME).await.unwrap();
    let Elected::New { epoch: first } = elect("one").await else {
        panic!("nobody leads");
    };
    assert_eq!(elect("one").await, Elected::Still { epoch: first });
    let Elected::Other { address, left } = elect("two").await else {
        panic!("two lead");
    };
    assert!(address == "a:1" && left <= TIME);
    assert!(queue.write("one", &[entry("x", "1")]).await.unwrap());
    tokio::time::sleep(TIME * 2).await;
    // Nobody has taken its place.
    assert!(queue.write("one", &[entry("y", "2")]).await.unwrap());
    let Elected::New { epoch: second } = elect("two").await else {
        panic!("the first has not led for long");
    };
    assert!(second > first);
    assert!(!queue.write("one", &[entry("x", "late")]).await.unwrap());
    assert!(matches!(elect("one").await, Elected::Other { .. }));
    let mut read = queue.read().await.unwrap();
    read.sort_unstable();
    assert_eq!(read, [entry("x", "1"), entry("y", "2")]);
    let changes = [entry("x", ""), entry("z", "3")];
    assert!(queue.write("two", &changes).await.unwrap());
    let mut read = queue.read().await.unwrap();
    read.sort_unstable();
    assert_eq!(read, [entry("y", "2"), entry("z", "3")]);
    assert!(queue.resign("two").await.unwrap());
    assert!(!queue.resign("two").await.unwrap());
    let Elected::New { epoch: third } = elect("three").await else {
        panic!("nobody leads");
    };
    server.flush();
    assert!(matches!(elect("four").await, Elected::New { .. }));
    assert!(third > second);
}

#[tokio::test]
async fn a_long_journal_is_read_whole() {
    let (_server, redis) = single();
    let queue = RedisQueue::new(redis);
    queue.elect("one", "a:1", TIME).await.unwrap();
    let all: Vec<_> = (0..3000)
        .map(|number| entry(&format!("{number:05}"), &"x".repeat(100)))
        .collect();
    for some in all.chunks(500) {
        assert!(queue.write("one", some).await.unwrap());
    }
    let mut read = queue.read().await.unwrap();
    read.sort_unstable();
    assert!(read == all);
}
