//! A replica takes over: with Sentinels, and what they take for granted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ashlar_store::action_cache::PutMode;
use ashlar_store::lease::{Committed, Fence};
use ashlar_store::{ActionCache as _, FaultKind, LeaseStore as _};
use ashlar_test_support::redis::{RedisSentinels, RedisServer};
use tokio::time::sleep;

use crate::footing::{
    eventually, granted, key, lease_of, leases, redis, redis_with, result, results,
};

#[tokio::test]
async fn writes_that_too_few_replicas_have_are_not_acknowledged() {
    let (master, replica) = (RedisServer::start(), RedisServer::start());
    replica.replicate(&master);
    let redis = redis_with(&master.url(), |settings| {
        settings.replicas = 1;
        settings.replica_timeout = Duration::from_millis(200);
    });
    let (leases, results) = (leases(&redis), results(&redis));
    let put = async |text| {
        let put = results
            .put(&key(text), result(text), PutMode::IfAbsent)
            .await;
        put.map_err(|fault| fault.kind)
    };
    assert_eq!(put("a").await, Ok(result("a")));
    redis.ready().await.unwrap();
    replica.stop();
    assert_eq!(put("b").await, Err(FaultKind::Unavailable));
    // What is there and a replica may not have is no answer either.
    assert_eq!(put("b").await, Err(FaultKind::Unavailable));
    let lease = lease_of(&key("b"));
    let grant = leases.acquire(&lease, "", Duration::from_secs(60)).await;
    assert_eq!(grant.unwrap_err().kind, FaultKind::Unavailable);
    assert_eq!(
        redis.ready().await.unwrap_err().kind,
        FaultKind::Unavailable
    );
    // Reads go on.
    let there = results.get(&[key("a")]).await.unwrap();
    assert_eq!(there, [Some(result("a"))]);
    replica.cont();
    let b = eventually("the replica", async || put("b").await.ok()).await;
    assert_eq!(b, result("b"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_commit_is_lost() {
    let mut servers = RedisSentinels::start();
    let redis = redis_with(&servers.url(), |settings| {
        settings.replicas = 1;
        settings.response_timeout = Duration::from_millis(1000);
    });
    let (leases, results) = (leases(&redis), results(&redis));
    let done = AtomicBool::new(false);
    // Four builders, each with leases of its own.
    let builders = (0..4).map(|builder| {
        let (leases, done) = (&*leases, &done);
        async move {
            let mut acknowledged = Vec::new();
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                number += 1;
                let text = format!("{builder}/{number}");
                let (action, lease) = (key(&text), lease_of(&key(&text)));
                let Ok(ashlar_store::lease::Acquired::Granted(grant)) =
                    leases.acquire(&lease, "", Duration::from_secs(60)).await
                else {
                    continue;
                };
                let under = Fence {
                    key: lease,
                    number: grant.number,
                };
                let committed = leases
                    .commit(&action, result(&text), Some(&under), None)
                    .await;
                if matches!(committed, Ok(Committed::Stored)) {
                    acknowledged.push(text);
                }
            }
            acknowledged
        }
    });
    let trouble = async {
        sleep(Duration::from_millis(500)).await;
        tokio::task::block_in_place(|| servers.fail_over());
        tokio::task::block_in_place(|| servers.revive());
        eventually("a Redis that is ready", async || redis.ready().await.ok()).await;
        sleep(Duration::from_millis(500)).await;
        done.store(true, Ordering::Relaxed);
    };
    let (acknowledged, ()) = tokio::join!(futures::future::join_all(builders), trouble);
    let acknowledged = acknowledged.concat();
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
    let keys: Vec<_> = acknowledged.iter().map(|text| key(text)).collect();
    let there = results.get(&keys).await.unwrap();
    let lost: Vec<_> = acknowledged
        .iter()
        .zip(there)
        .filter(|(text, there)| *there != Some(result(text)))
        .collect();
    assert!(
        lost.is_empty(),
        "{} of {}: {lost:?}",
        lost.len(),
        keys.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_new_master_is_found_and_nothing_is_taken_for_a_miss() {
    let mut servers = RedisSentinels::start();
    let redis = redis(&servers.url());
    let (leases, results) = (leases(&redis), results(&redis));
    let lease = lease_of(&key("a"));
    let grant = granted(&leases, &lease).await;
    results
        .put(&key("a"), result("a"), PutMode::Replace)
        .await
        .unwrap();
    servers.master().command(&["WAIT", "1", "0"]);
    // Until it is found, it is not there to be asked; never is there nothing.
    let reads = async || {
        eventually("an answer", async || match results.get(&[key("a")]).await {
            Ok(found) => {
                assert_eq!(found, [Some(result("a"))]);
                Some(())
            }
            Err(fault) => {
                assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
                None
            }
        })
        .await;
    };
    tokio::task::block_in_place(|| servers.fail_over());
    reads().await;
    let held = leases.held(&lease).await.unwrap().unwrap();
    assert_eq!(held.number, grant.number);
    tokio::task::block_in_place(|| servers.revive());
    // The old master lives on, and refuses writes.
    tokio::task::block_in_place(|| servers.swap());
    let mut stored = HashMap::new();
    for number in 0..10 {
        let text = number.to_string();
        let put = eventually("a write", async || {
            let key = key(&text);
            let put = results.put(&key, result(&text), PutMode::Replace);
            put.await.ok()
        });
        stored.insert(text.clone(), put.await);
        reads().await;
    }
    assert!(stored.iter().all(|(text, put)| *put == result(text)));
    // A Sentinel that is away, and one that stands still, do not matter.
    servers.sentinel(1).kill();
    servers.sentinel(2).stop();
    let redis = crate::footing::redis(&servers.url());
    redis.ready().await.unwrap();
    servers.sentinel(2).cont();
}
