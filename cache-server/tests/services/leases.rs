//! `ashlar.cache.v1.Leases`, and what they mean for `Results.Commit`.

use std::time::Duration;

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_proto::convert::duration_to_wire;
use ashlar_proto::wire::ext::acquire_response::Outcome;
use ashlar_proto::wire::{ext, reapi};
use tonic::{Code, Streaming};

use crate::harness::{Harness, number, wire};

const BLAKE3: DigestFunction = DigestFunction::Blake3;

async fn acquire(harness: &Harness, holder: &str, milliseconds: u64) -> Outcome {
    let request = ext::AcquireRequest {
        key: "step".to_owned(),
        holder: holder.to_owned(),
        ttl: Some(duration_to_wire(Duration::from_millis(milliseconds))),
        ..Default::default()
    };
    let response = harness.leases().await.acquire(request).await;
    let outcome = response.expect("an answer").into_inner().outcome;
    outcome.expect("an outcome")
}

async fn granted(harness: &Harness, holder: &str, milliseconds: u64) -> ext::Lease {
    match acquire(harness, holder, milliseconds).await {
        Outcome::Granted(lease) => lease,
        Outcome::Held(held) => panic!("{held:?}"),
    }
}

async fn release(harness: &Harness, token: &str) {
    let request = ext::ReleaseRequest {
        key: "step".to_owned(),
        token: token.to_owned(),
        ..Default::default()
    };
    harness
        .leases()
        .await
        .release(request)
        .await
        .expect("released");
}

async fn watch(harness: &Harness) -> Streaming<ext::WatchResponse> {
    let request = ext::WatchRequest {
        key: "step".to_owned(),
        ..Default::default()
    };
    let watched = harness.leases().await.watch(request).await;
    watched.expect("watching").into_inner()
}

/// Who holds the key, as a watcher is told next; `None` at the end of the stream.
async fn told(watched: &mut Streaming<ext::WatchResponse>) -> Option<Option<String>> {
    let next = tokio::time::timeout(Duration::from_secs(10), watched.message()).await;
    let next = next.expect("in time").expect("no error")?;
    Some(next.held.map(|held| held.holder))
}

#[tokio::test]
async fn one_holds_it_and_the_other_waits_until_it_is_given_back() {
    let harness = Harness::new().await;
    let anna = granted(&harness, "anna", 60_000).await;
    assert!(anna.fencing_number > 1 << 32);
    let Outcome::Held(held) = acquire(&harness, "ben", 60_000).await else {
        panic!("two hold it");
    };
    assert_eq!(held.holder, "anna");
    let mut watched = watch(&harness).await;
    assert_eq!(told(&mut watched).await, Some(Some("anna".to_owned())));
    release(&harness, "no token").await;
    release(&harness, &anna.token).await;
    assert_eq!(told(&mut watched).await, Some(None));
    assert_eq!(told(&mut watched).await, None, "and that is all");
    let ben = granted(&harness, "ben", 60_000).await;
    assert!(ben.fencing_number > anna.fencing_number);
}

#[tokio::test]
async fn a_holder_that_dies_is_followed_within_its_time() {
    let harness = Harness::new().await;
    let anna = granted(&harness, "anna", 1000).await;
    let mut watched = watch(&harness).await;
    assert_eq!(told(&mut watched).await, Some(Some("anna".to_owned())));
    let renewed = |token: &str| {
        let request = ext::RenewRequest {
            key: "step".to_owned(),
            token: token.to_owned(),
            ..Default::default()
        };
        let client = harness.leases();
        async move {
            client
                .await
                .renew(request)
                .await
                .map_err(|status| status.code())
        }
    };
    tokio::time::sleep(Duration::from_millis(600)).await;
    renewed(&anna.token).await.expect("renewed");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(matches!(
        acquire(&harness, "ben", 1000).await,
        Outcome::Held(_)
    ));
    // Nobody renews it any more.
    assert_eq!(told(&mut watched).await, Some(None));
    let ben = granted(&harness, "ben", 60_000).await;
    let code = renewed(&anna.token).await.expect_err("lost");
    assert_eq!(code, Code::NotFound);
    renewed(&ben.token).await.expect("renewed");
}

#[tokio::test]
async fn a_watcher_of_a_free_key_is_told_at_once() {
    let harness = Harness::new().await;
    let mut watched = watch(&harness).await;
    assert_eq!(told(&mut watched).await, Some(None));
    assert_eq!(told(&mut watched).await, None);
}

#[tokio::test]
async fn watchers_are_sent_away_when_the_server_stops() {
    let harness = Harness::new().await;
    granted(&harness, "anna", 60_000).await;
    let mut watched = watch(&harness).await;
    assert_eq!(told(&mut watched).await, Some(Some("anna".to_owned())));
    harness.assembled.begin_stop().await;
    let status = watched.message().await.expect_err("sent away");
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn wrong_requests_are_refused() {
    let harness = Harness::new().await;
    let good = ext::AcquireRequest {
        key: "k".to_owned(),
        ttl: Some(duration_to_wire(Duration::from_secs(5))),
        ..Default::default()
    };
    let requests = [
        ext::AcquireRequest {
            key: String::new(),
            ..good.clone()
        },
        ext::AcquireRequest {
            key: "k".repeat(201),
            ..good.clone()
        },
        ext::AcquireRequest {
            holder: "h".repeat(401),
            ..good.clone()
        },
        ext::AcquireRequest {
            ttl: None,
            ..good.clone()
        },
        ext::AcquireRequest {
            instance_name: "uploads".to_owned(),
            ..good
        },
    ];
    for request in requests {
        let status = harness.leases().await.acquire(request.clone()).await;
        let status = status.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{request:?}");
    }
}

fn commit(action: &CasDigest, text: &str, number_of_lease: u64) -> ext::CommitRequest {
    ext::CommitRequest {
        digest_function: number(BLAKE3),
        action: Some(wire(action)),
        result: Some(reapi::ActionResult {
            stdout_raw: text.to_owned().into(),
            ..Default::default()
        }),
        lease_key: "step".to_owned(),
        fencing_number: number_of_lease,
        ..Default::default()
    }
}

#[tokio::test]
async fn who_lost_the_lease_to_another_stores_nothing() {
    let harness = Harness::new().await;
    let action = CasDigest::of(BLAKE3, b"action");
    let anna = granted(&harness, "anna", 60_000).await;
    release(&harness, &anna.token).await;
    let ben = granted(&harness, "ben", 60_000).await;
    let mut results = harness.results().await;
    let late = results
        .commit(commit(&action, "late", anna.fencing_number))
        .await;
    assert_eq!(late.expect_err("fenced").code(), Code::Aborted);
    let stored = results
        .commit(commit(&action, "ben's", ben.fencing_number))
        .await;
    let stored = stored.expect("stored").into_inner();
    assert!(!stored.already_there);
    // Without a lease: whoever comes second takes over what is there.
    let mut second = commit(&action, "second", 0);
    second.lease_key = String::new();
    let second = results.commit(second).await.expect("taken over");
    let second = second.into_inner();
    assert!(second.already_there);
    assert_eq!(second.result.expect("a result").stdout_raw, &b"ben's"[..]);
}
