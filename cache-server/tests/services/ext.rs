//! The rest of `ashlar.cache.v1`: results, pins, cache mounts.

use std::time::Duration;

use ashlar_cache_server::limits;
use ashlar_model::cas::{ActionKey, CasDigest, DigestFunction};
use ashlar_proto::convert::duration_to_wire;
use ashlar_proto::missing;
use ashlar_proto::wire::{ext, reapi};
use prost::Message as _;
use tonic::Code;

use crate::harness::{Harness, number, wire};

const BLAKE3: DigestFunction = DigestFunction::Blake3;

fn action(name: &str) -> CasDigest {
    CasDigest::of(BLAKE3, name.as_bytes())
}

fn result_with(path: &str, blob: &CasDigest) -> reapi::ActionResult {
    reapi::ActionResult {
        output_files: vec![reapi::OutputFile {
            path: path.to_owned(),
            digest: Some(wire(blob)),
            ..Default::default()
        }],
        ..Default::default()
    }
}

async fn commit(harness: &Harness, name: &str, result: reapi::ActionResult) {
    let request = ext::CommitRequest {
        instance_name: "main".to_owned(),
        digest_function: number(BLAKE3),
        action: Some(wire(&action(name))),
        result: Some(result),
        ..Default::default()
    };
    harness
        .results()
        .await
        .commit(request)
        .await
        .expect("stored");
}

fn probe(actions: &[CasDigest]) -> ext::ProbeRequest {
    ext::ProbeRequest {
        instance_name: "main".to_owned(),
        digest_function: number(BLAKE3),
        actions: actions.iter().map(wire).collect(),
        inline_output_files: vec!["result.json".to_owned()],
    }
}

#[tokio::test]
async fn many_keys_are_looked_up_at_once() {
    let harness = Harness::new().await;
    let record = harness.put(BLAKE3, b"{\"layer\": 1}").await;
    commit(&harness, "b", result_with("result.json", &record)).await;
    commit(&harness, "d", result_with("other", &record)).await;
    let actions = ["a", "b", "c", "d"].map(action);
    let mut client = harness.results().await;
    let response = client.probe(probe(&actions)).await.expect("an answer");
    let response = response.into_inner();
    assert_eq!(response.looked_at, 4);
    let indexes: Vec<_> = response.hits.iter().map(|hit| hit.index).collect();
    assert_eq!(indexes, [1, 3]);
    let file = |hit: usize| {
        let result = response.hits[hit].result.as_ref().expect("a result");
        result.output_files[0].contents.clone()
    };
    assert_eq!(file(0), &b"{\"layer\": 1}"[..]);
    assert_eq!(file(1), &b""[..]);

    let usage = client.usage(ext::UsageRequest::default()).await;
    let usage = usage.expect("usage").into_inner();
    assert_eq!((usage.hits, usage.misses), (2, 2));
    assert_eq!((usage.blobs, usage.limit_bytes), (7, 1 << 30));

    let too_many = vec![action("a"); limits::PROBE + 1];
    let status = client.probe(probe(&too_many)).await;
    assert_eq!(status.expect_err("refused").code(), Code::InvalidArgument);
    let many = vec![action("a"); limits::PROBE];
    let response = client.probe(probe(&many)).await.expect("an answer");
    assert_eq!(response.into_inner().looked_at, 10_000);
}

#[tokio::test]
async fn an_answer_that_would_be_too_long_ends_early() {
    let harness = Harness::new().await;
    let mut actions = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        let result = reapi::ActionResult {
            stdout_raw: vec![b'x'; 1 << 20].into(),
            ..Default::default()
        };
        commit(&harness, name, result).await;
        actions.push(action(name));
    }
    let mut client = harness.results().await;
    let mut found = 0;
    while found < actions.len() {
        let response = client.probe(probe(&actions[found..])).await;
        let response = response.expect("an answer").into_inner();
        assert!(response.encoded_len() < limits::MESSAGE);
        assert!(response.looked_at > 0);
        assert_eq!(response.hits.len(), response.looked_at as usize);
        found += response.looked_at as usize;
    }
}

#[tokio::test]
async fn a_result_without_its_blobs_is_not_committed() {
    let harness = Harness::new().await;
    let gone = CasDigest::of(BLAKE3, b"gone");
    let request = ext::CommitRequest {
        digest_function: number(BLAKE3),
        action: Some(wire(&action("a"))),
        result: Some(result_with("f", &gone)),
        ..Default::default()
    };
    let status = harness.results().await.commit(request).await;
    let status = status.expect_err("refused");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(missing::decode(status.details()), [gone]);
}

#[tokio::test]
async fn results_are_listed_in_pages() {
    let harness = Harness::new().await;
    for name in ["a", "b", "c"] {
        let result = reapi::ActionResult {
            stdout_raw: name.to_owned().into(),
            ..Default::default()
        };
        commit(&harness, name, result).await;
        harness
            .upkeep
            .listed
            .lock()
            .expect("a list")
            .push(ActionKey {
                instance: "main".to_owned(),
                action: action(name),
            });
    }
    let mut client = harness.results().await;
    let mut seen = Vec::new();
    let mut token = String::new();
    loop {
        let request = ext::ListRequest {
            instance_name: "main".to_owned(),
            page_size: 2,
            page_token: token,
        };
        let page = client.list(request).await.expect("a page").into_inner();
        for item in page.items {
            assert_eq!(item.digest_function, number(BLAKE3));
            seen.push(item.result.expect("a result").stdout_raw);
        }
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, [&b"a"[..], b"b", b"c"]);
}

#[tokio::test]
async fn results_are_pinned_for_a_time() {
    let harness = Harness::new().await;
    let mut pins = harness.pins().await;
    let pin = |name: &str, seconds: u64| ext::PinRequest {
        instance_name: "main".to_owned(),
        digest_function: number(BLAKE3),
        action: Some(wire(&action(name))),
        ttl: Some(duration_to_wire(Duration::from_secs(seconds))),
    };
    let status = pins.pin(pin("a", 60)).await.expect_err("none");
    assert_eq!(status.code(), Code::NotFound);
    commit(&harness, "a", reapi::ActionResult::default()).await;
    let until = pins.pin(pin("a", 60)).await.expect("pinned").into_inner();
    assert_eq!(until.until.expect("a time").seconds, 1_000_060);
    assert_eq!(harness.upkeep.pinned.lock().expect("pins").len(), 1);
    for seconds in [0, 500 * 24 * 3600] {
        let status = pins.pin(pin("a", seconds)).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    let request = ext::UnpinRequest {
        instance_name: "main".to_owned(),
        digest_function: number(BLAKE3),
        action: Some(wire(&action("a"))),
    };
    pins.unpin(request).await.expect("unpinned");
    assert!(harness.upkeep.pinned.lock().expect("pins").is_empty());
}

#[tokio::test]
async fn the_latest_contents_of_a_cache_mount_are_kept() {
    let harness = Harness::new().await;
    let mut mounts = harness.cache_mounts().await;
    let latest = || ext::LatestRequest {
        instance_name: "main".to_owned(),
        digest_function: number(BLAKE3),
        name: "apt".to_owned(),
    };
    let save = |trees: &[CasDigest], replaces: u64| ext::SaveRequest {
        instance_name: "main".to_owned(),
        digest_function: number(BLAKE3),
        name: "apt".to_owned(),
        trees: trees.iter().map(wire).collect(),
        replaces,
    };
    let status = mounts.latest(latest()).await.expect_err("none");
    assert_eq!(status.code(), Code::NotFound);

    let one = reapi::Tree::default().encode_to_vec();
    let chunk = CasDigest::of(BLAKE3, b"a chunk");
    let two = reapi::Tree {
        root: Some(reapi::Directory {
            files: vec![reapi::FileNode {
                digest: Some(wire(&chunk)),
                ..Default::default()
            }],
            ..Default::default()
        }),
        children: Vec::new(),
    };
    let one = harness.put(BLAKE3, &one).await;
    let two = harness.put(BLAKE3, &two.encode_to_vec()).await;
    let saved = mounts.save(save(&[one], 0)).await.expect("saved");
    assert_eq!(saved.into_inner().generation, 1);
    // A part of it is missing.
    let status = mounts.save(save(&[two], 1)).await.expect_err("refused");
    assert_eq!(status.code(), Code::FailedPrecondition);
    harness.put(BLAKE3, b"a chunk").await;
    let saved = mounts.save(save(&[two, one], 1)).await.expect("saved");
    assert_eq!(saved.into_inner().generation, 2);
    // Another began with what has been replaced since.
    for replaces in [0, 1, 7] {
        let status = mounts.save(save(&[one], replaces)).await;
        assert_eq!(status.expect_err("late").code(), Code::Aborted);
    }
    let found = mounts
        .latest(latest())
        .await
        .expect("a snapshot")
        .into_inner();
    assert_eq!(found.generation, 2);
    assert_eq!(found.trees, [wire(&two), wire(&one)]);
    assert_eq!(found.saved.expect("a time").seconds, 1_000_000);

    let other = ext::LatestRequest {
        instance_name: "other".to_owned(),
        ..latest()
    };
    let status = mounts.latest(other).await.expect_err("none");
    assert_eq!(status.code(), Code::NotFound);
    let unnamed = ext::LatestRequest {
        name: String::new(),
        ..latest()
    };
    let status = mounts.latest(unnamed).await.expect_err("refused");
    assert_eq!(status.code(), Code::InvalidArgument);
}
