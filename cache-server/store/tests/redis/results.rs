//! Results: how long they live, pins, lists and walks.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use ashlar_model::cas::ActionKey;
use ashlar_store::action_cache::PutMode;
use ashlar_store::clock;
use ashlar_store::redis::RedisResults;
use ashlar_store::{ActionCache as _, FaultKind};
use ashlar_test_support::redis::RedisServer;
use tokio::time::sleep;

use crate::footing::{LONG, eventually, key, key_in, result, results, single};

fn now() -> SystemTime {
    clock::system()()
}

async fn put(results: &RedisResults, key: &ActionKey, text: &str) {
    let stored = results.put(key, result(text), PutMode::Replace).await;
    assert_eq!(stored.unwrap(), result(text));
}

async fn is_there(results: &RedisResults, key: &ActionKey) -> bool {
    let found = results.get(std::slice::from_ref(key)).await.unwrap();
    found[0].is_some()
}

async fn walk(results: &RedisResults, page: usize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut after = None;
    loop {
        let page = results.walk(after.as_deref(), page).await.unwrap();
        for item in page.items {
            let text = String::from_utf8(item.result.to_vec()).unwrap();
            assert_eq!(item.key, key_in(&item.key.instance, &text));
            found.insert(text);
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return found,
        }
    }
}

/// The milliseconds that every result has left.
fn times_left(server: &RedisServer) -> Vec<i64> {
    let keys = server.command(&["KEYS", "farm:r*"]).array();
    let mut client = server.client().unwrap();
    keys.iter()
        .map(|key| match key {
            ashlar_test_support::redis::Reply::Bulk(key) => {
                client.command(&[&b"PTTL"[..], key]).unwrap().integer()
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

#[tokio::test]
async fn what_is_used_lives_on_and_what_is_not_goes() {
    let (_server, redis) = single();
    let results = RedisResults::new(redis, Duration::from_secs(4));
    let (used, unused) = (key("used"), key("unused"));
    put(&results, &used, "used").await;
    put(&results, &unused, "unused").await;
    eventually("the end of the unused one", async || {
        assert!(is_there(&results, &used).await);
        sleep(Duration::from_millis(100)).await;
        (!walk(&results, 10).await.contains("unused")).then_some(())
    })
    .await;
    // As long again: it has been renewed for certain.
    for _ in 0..50 {
        assert!(is_there(&results, &used).await);
        sleep(Duration::from_millis(100)).await;
    }
    eventually("the end of the other", async || {
        walk(&results, 10).await.is_empty().then_some(())
    })
    .await;
    assert!(!is_there(&results, &used).await);
}

#[tokio::test]
async fn reading_again_and_again_writes_nothing() {
    let (server, redis) = single();
    let results = results(&redis);
    put(&results, &key("a"), "a").await;
    assert!(is_there(&results, &key("a")).await);
    let before = server.info("master_repl_offset");
    let commands = server.info("total_commands_processed");
    for _ in 0..20 {
        assert!(is_there(&results, &key("a")).await);
    }
    assert_eq!(server.info("master_repl_offset"), before);
    let more =
        |before: &str, now: &str| now.parse::<u64>().unwrap() - before.parse::<u64>().unwrap();
    // One for each, and what the test asks itself.
    assert!(more(&commands, &server.info("total_commands_processed")) <= 24);
}

#[tokio::test]
async fn pinned_results_stay_until_the_end_of_their_pin() {
    let (server, redis) = single();
    let results = RedisResults::new(redis, Duration::from_secs(60));
    let pinned = key_in("org/main", "pinned");
    put(&results, &pinned, "pinned").await;
    let later = now() + Duration::from_secs(1000);
    results.pin(&pinned, later).await.unwrap();
    let left = times_left(&server);
    assert!(left[0] > 900_000, "{left:?}");
    // Neither a use nor another result shortens it.
    assert!(is_there(&results, &pinned).await);
    put(&results, &pinned, "pinned").await;
    let left = times_left(&server);
    assert!(left[0] > 900_000, "{left:?}");
    assert_eq!(
        results.pinned(now()).await.unwrap(),
        std::slice::from_ref(&pinned)
    );
    let after = later + Duration::from_secs(1);
    assert_eq!(results.pinned(after).await.unwrap(), []);
    results.unpin(&pinned).await.unwrap();
    assert_eq!(results.pinned(now()).await.unwrap(), []);
    let left = times_left(&server);
    assert!(left[0] <= 60_000, "{left:?}");
    let fault = results.pin(&key("none"), later).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotFound);
    // A pin goes with its result.
    results.pin(&pinned, later).await.unwrap();
    assert!(results.remove(&pinned).await.unwrap());
    assert_eq!(results.pinned(now()).await.unwrap(), []);
}

#[tokio::test]
async fn an_instance_is_listed_by_last_use() {
    let (_server, redis) = single();
    let results = results(&redis);
    let mut expected = Vec::new();
    for number in 0..300 {
        let text = number.to_string();
        put(&results, &key_in("org/main", &text), &text).await;
        put(&results, &key_in("org", "other"), "other").await;
        expected.insert(0, text);
    }
    for limit in [1, 7, 100, 1000] {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = results
                .list("org/main", after.as_deref(), limit)
                .await
                .unwrap();
            assert!(page.items.len() <= limit);
            for item in page.items {
                assert!(now().duration_since(item.last_used).unwrap() < LONG);
                found.push(String::from_utf8(item.result.to_vec()).unwrap());
            }
            after = page.next;
            // Pages of one take long.
            if after.is_none() || (limit == 1 && found.len() == 10) {
                break;
            }
        }
        assert_eq!(found, expected[..found.len()]);
        assert!(found.len() == 300 || limit == 1, "{}", found.len());
    }
    assert!(
        results
            .list("none", None, 10)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    let fault = results.list("org", Some("nowhere"), 10).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Invalid);
}

#[tokio::test]
async fn a_walk_meets_all_results_of_all_instances() {
    let (_server, redis) = single();
    let results = results(&redis);
    let instances = ["", "org", "org/main", "org/pr/1", "ändern"];
    let mut expected = BTreeSet::new();
    for number in 0..400 {
        let text = number.to_string();
        let instance = instances[number % instances.len()];
        put(&results, &key_in(instance, &text), &text).await;
        expected.insert(text);
    }
    assert_eq!(results.count().await.unwrap(), 400);
    assert_eq!(walk(&results, 7).await, expected);
    let fault = results.walk(Some("nowhere"), 10).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Invalid);
    for number in 0..400 {
        let text = number.to_string();
        let key = key_in(instances[number % instances.len()], &text);
        assert!(results.remove(&key).await.unwrap());
    }
    assert_eq!(walk(&results, 7).await, BTreeSet::new());
    assert_eq!(results.count().await.unwrap(), 0);
}

#[tokio::test]
async fn what_ran_out_is_tidied_off_the_lists() {
    let (server, redis) = single();
    let results = RedisResults::new(redis, Duration::from_secs(1));
    for number in 0..30 {
        let text = number.to_string();
        put(&results, &key_in("org/main", &text), &text).await;
    }
    let stays = key_in("org/main", "0");
    results.pin(&stays, now() + LONG).await.unwrap();
    let gone = key_in("org/pr/1", "gone");
    put(&results, &gone, "gone").await;
    results
        .pin(&gone, now() + Duration::from_secs(1))
        .await
        .unwrap();
    eventually("the end of all but the pinned one", async || {
        (server.command(&["KEYS", "farm:r*"]).array().len() == 1).then_some(())
    })
    .await;
    assert_eq!(results.count().await.unwrap(), 31);
    eventually("tidy lists", async || {
        results.tidy().await.unwrap();
        let pins = server.command(&["KEYS", "farm:p*"]).array();
        (results.count().await.unwrap() == 1 && pins.len() == 1).then_some(())
    })
    .await;
    assert_eq!(walk(&results, 10).await, BTreeSet::from(["0".to_owned()]));
    assert!(server.command(&["KEYS", "farm:l*pr*"]).array().is_empty());
}
