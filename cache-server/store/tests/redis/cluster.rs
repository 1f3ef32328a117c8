//! A cluster whose slots move, and one of whose masters dies.

use std::time::Duration;

use ashlar_store::action_cache::PutMode;
use ashlar_store::{ActionCache as _, FaultKind, LeaseStore as _};
use ashlar_test_support::redis::{RedisCluster, Reply};

use crate::footing::{eventually, granted, key, lease_of, leases, redis_with, result, results};

/// The slot of an action's keys.
fn slot(cluster: &RedisCluster, text: &str) -> u16 {
    let tag = format!("{{{}}}", &key(text).action.hash_hex()[..2]);
    let slot = cluster.nodes()[0].command(&["CLUSTER", "KEYSLOT", &tag]);
    u16::try_from(slot.integer()).unwrap()
}

#[tokio::test]
async fn slots_may_move_under_all_that_goes_on() {
    let cluster = RedisCluster::start();
    let redis = redis_with(&cluster.url(), |settings| {
        settings.patience = Duration::from_secs(2);
    });
    let (leases, results) = (leases(&redis), results(&redis));
    let texts: Vec<_> = (0..200).map(|number| number.to_string()).collect();
    let keys: Vec<_> = texts.iter().map(|text| key(text)).collect();
    for (key, text) in keys.iter().zip(&texts) {
        results
            .put(key, result(text), PutMode::Replace)
            .await
            .unwrap();
    }
    let expected: Vec<_> = texts.iter().map(|text| Some(result(text))).collect();
    let moved = slot(&cluster, "0");
    let to = (cluster.master_of(moved) + 1) % 3;
    cluster.begin_move(moved, to);
    // Those that are there are found; for those that are not, the other server is to be asked.
    assert_eq!(results.get(&keys).await.unwrap(), expected);
    cluster.move_keys(moved, to);
    assert_eq!(results.get(&keys).await.unwrap(), expected);
    // Neither server has all keys of a script: it waits for the end of the move.
    let lease = lease_of(&key("0"));
    let fault = leases
        .acquire(&lease, "", Duration::ZERO)
        .await
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
    cluster.move_slot(moved, to);
    let grant = granted(&leases, &lease).await;
    assert_eq!(cluster.master_of(moved), to);
    assert_eq!(results.get(&keys).await.unwrap(), expected);
    let held = leases.held(&lease).await.unwrap().unwrap();
    assert_eq!(held.number, grant.number);
    for (key, text) in keys.iter().zip(&texts) {
        let put = results.put(key, result(text), PutMode::IfAbsent).await;
        assert_eq!(put.unwrap(), result(text));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_takes_over_from_a_master_that_dies() {
    let mut cluster = RedisCluster::start_with_replicas();
    let redis = redis_with(&cluster.url(), |settings| settings.replicas = 1);
    let results = results(&redis);
    redis.ready().await.unwrap();
    let texts: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    let keys: Vec<_> = texts.iter().map(|text| key(text)).collect();
    for (key, text) in keys.iter().zip(&texts) {
        results
            .put(key, result(text), PutMode::Replace)
            .await
            .unwrap();
    }
    let expected: Vec<_> = texts.iter().map(|text| Some(result(text))).collect();
    let dead = cluster.master_of(slot(&cluster, "0"));
    cluster.node(dead).kill();
    eventually("the replica", async || match results.get(&keys).await {
        Ok(found) => {
            assert_eq!(found, expected);
            Some(())
        }
        Err(fault) => {
            assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
            None
        }
    })
    .await;
    // Its master has no replica now: what is written there is not acknowledged.
    let put = results
        .put(&keys[0], result("other"), PutMode::Replace)
        .await;
    assert_eq!(put.unwrap_err().kind, FaultKind::Unavailable);
    tokio::task::block_in_place(|| cluster.node(dead).restart());
    eventually("a replica of the new master", async || {
        let put = results.put(&keys[0], result("0"), PutMode::Replace);
        put.await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_cluster_that_lacks_a_master_is_no_miss() {
    let mut cluster = RedisCluster::start();
    let redis = redis_with(&cluster.url(), |settings| {
        settings.patience = Duration::from_secs(1);
    });
    let results = results(&redis);
    let keys: Vec<_> = (0..50).map(|number| key(&number.to_string())).collect();
    let nothing = vec![None; 50];
    assert_eq!(results.get(&keys).await.unwrap(), nothing);
    let dead = cluster.master_of(slot(&cluster, "0"));
    cluster.node(dead).kill();
    for _ in 0..3 {
        let fault = results.get(&keys).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
    }
    cluster.node(dead).restart();
    eventually("the whole cluster", async || results.get(&keys).await.ok()).await;
    let other = cluster.node((dead + 1) % 3).command(&["PING"]);
    assert_eq!(other, Reply::Status("PONG".to_owned()));
}
