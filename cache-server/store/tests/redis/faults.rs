//! One server that is away, lost, full, slow, or does not know us.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use ashlar_store::action_cache::PutMode;
use ashlar_store::lease::{Committed, Fence};
use ashlar_store::redis::{Redis, RedisResults};
use ashlar_store::{ActionCache as _, FaultKind, LeaseStore as _};
use ashlar_test_support::redis::RedisServer;
use bytes::Bytes;
use futures::future::join_all;
use tokio::time::{Instant, sleep};

use crate::footing::{
    eventually, granted, key, lease_of, leases, redis, redis_with, result, results, single,
};

/// What there is, once Redis says anything.
async fn found(results: &RedisResults, text: &str) -> Option<Bytes> {
    eventually("an answer", async || {
        match results.get(&[key(text)]).await {
            Ok(mut found) => Some(found.remove(0)),
            Err(fault) => {
                assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
                None
            }
        }
    })
    .await
}

async fn put(results: &RedisResults, text: &str) {
    let put = results
        .put(&key(text), result(text), PutMode::IfAbsent)
        .await;
    assert_eq!(put.unwrap(), result(text));
}

async fn becomes_ready(redis: &Arc<Redis>) {
    eventually("a Redis that is ready", async || redis.ready().await.ok()).await;
}

#[tokio::test]
async fn a_server_that_is_away_is_no_miss_and_may_come_back() {
    let mut server = RedisServer::start();
    let redis = redis(&server.url());
    let results = results(&redis);
    server.kill();
    let fault = results.get(&[key("a")]).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable);
    let fault = redis.ready().await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable);
    assert!(fault.message.contains(&server.address()), "{fault}");
    server.restart();
    becomes_ready(&redis).await;
    put(&results, "a").await;
    server.restart();
    // It may have been sent to the one of before.
    assert_eq!(found(&results, "a").await, Some(result("a")));
    server.restart_empty();
    assert_eq!(found(&results, "a").await, None);
}

#[tokio::test]
async fn what_was_acknowledged_outlives_a_kill() {
    let mut server = RedisServer::start();
    let redis = redis(&server.url());
    let (leases, results) = (leases(&redis), results(&redis));
    let lease = lease_of(&key("a"));
    let grant = granted(&leases, &lease).await;
    for number in 0..50 {
        put(&results, &number.to_string()).await;
    }
    server.restart();
    for number in 0..50 {
        let text = number.to_string();
        assert_eq!(found(&results, &text).await, Some(result(&text)));
    }
    let held = leases.held(&lease).await.unwrap().unwrap();
    assert_eq!(held.number, grant.number);
    let under = Fence {
        key: lease,
        number: grant.number,
    };
    let committed = leases
        .commit(&key("a"), result("a"), Some(&under), None)
        .await;
    assert_eq!(committed.unwrap(), Committed::Stored);
}

#[tokio::test]
async fn scripts_that_are_forgotten_are_sent_again() {
    let (server, redis) = single();
    let (leases, results) = (leases(&redis), results(&redis));
    for number in 0..5 {
        let text = number.to_string();
        put(&results, &text).await;
        server.forget_scripts();
        granted(&leases, &lease_of(&key(&text))).await;
        server.forget_scripts();
    }
}

#[tokio::test]
async fn connections_may_break_at_any_time() {
    let (server, redis) = single();
    let results = results(&redis);
    let results = &*results;
    let work = join_all((0..8).map(|client| async move {
        for number in 0..100 {
            let text = format!("{client}/{number}");
            put(results, &text).await;
            assert_eq!(found(results, &text).await, Some(result(&text)));
        }
    }));
    let cuts = async {
        for _ in 0..20 {
            server.cut_connections();
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::join!(work, cuts);
}

#[tokio::test]
async fn a_full_server_says_so_and_is_read_all_the_same() {
    let (server, redis) = single();
    let (leases, results) = (leases(&redis), results(&redis));
    put(&results, "a").await;
    server.set_out_of_memory(true);
    let fault = results
        .put(&key("b"), result("b"), PutMode::Replace)
        .await
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::Exhausted, "{fault}");
    let lease = lease_of(&key("b"));
    let fault = leases
        .acquire(&lease, "", Duration::ZERO)
        .await
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::Exhausted, "{fault}");
    let fault = redis.ready().await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Exhausted, "{fault}");
    let there = results.get(&[key("a"), key("b")]).await.unwrap();
    assert_eq!(there, [Some(result("a")), None]);
    assert!(results.remove(&key("a")).await.unwrap());
    server.set_out_of_memory(false);
    redis.ready().await.unwrap();
    put(&results, "b").await;
}

#[tokio::test]
async fn a_server_that_stands_still_is_given_up_and_found_again() {
    let server = RedisServer::start();
    let redis = redis_with(&server.url(), |settings| {
        settings.response_timeout = Duration::from_millis(300);
        settings.connect_timeout = Duration::from_millis(300);
        settings.patience = Duration::from_secs(1);
    });
    let results = results(&redis);
    put(&results, "a").await;
    server.stop();
    let start = Instant::now();
    let fault = results.get(&[key("a")]).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable);
    assert!(start.elapsed() < Duration::from_secs(20));
    server.cont();
    assert_eq!(found(&results, "a").await, Some(result("a")));
}

#[tokio::test]
async fn a_short_pause_is_waited_for() {
    let (server, redis) = single();
    let results = results(&redis);
    put(&results, "a").await;
    server.pause(Duration::from_millis(500));
    assert_eq!(results.get(&[key("a")]).await.unwrap(), [Some(result("a"))]);
}

#[tokio::test]
async fn passwords_come_from_the_address_or_a_file() {
    let server = RedisServer::start_with(&["--requirepass", "secret"]);
    redis(&server.url()).ready().await.unwrap();
    for wrong in ["redis://", "redis://:wrong@"] {
        let redis = redis(&format!("{wrong}{}", server.address()));
        let fault = redis.ready().await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
    }
    let file = server.directory().join("password");
    fs::write(&file, "secret\n").unwrap();
    let redis = redis_with(&format!("redis://{}", server.address()), |settings| {
        settings.password_file = Some(file.clone());
    });
    redis.ready().await.unwrap();
    // Another from now on.
    server.command(&["CONFIG", "SET", "requirepass", "other"]);
    fs::write(&file, "other").unwrap();
    let mut client = ashlar_test_support::redis::Client::connect(
        server.port(),
        Some("other"),
        Duration::from_secs(10),
    )
    .unwrap();
    client
        .command(&["CLIENT", "KILL", "TYPE", "normal"])
        .unwrap();
    becomes_ready(&redis).await;
}

#[tokio::test]
async fn a_socket_will_do() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("redis");
    let socket = socket.to_str().unwrap();
    let _server = RedisServer::start_with(&["--unixsocket", socket]);
    let redis = redis(&format!("unix://{socket}?db=3"));
    let results = results(&redis);
    put(&results, "a").await;
    assert_eq!(found(&results, "a").await, Some(result("a")));
}
