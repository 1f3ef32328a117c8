//! `ActionCache`.

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_proto::missing;
use ashlar_proto::wire::reapi;
use bytes::Bytes;
use prost::Message as _;
use tonic::Code;

use crate::harness::{Harness, number, wire};

const BLAKE3: DigestFunction = DigestFunction::Blake3;

fn file(path: &str, blob: &CasDigest) -> reapi::OutputFile {
    reapi::OutputFile {
        path: path.to_owned(),
        digest: Some(wire(blob)),
        ..Default::default()
    }
}

fn action(name: &str) -> CasDigest {
    CasDigest::of(BLAKE3, name.as_bytes())
}

fn get(action: &CasDigest) -> reapi::GetActionResultRequest {
    reapi::GetActionResultRequest {
        instance_name: "main".to_owned(),
        action_digest: Some(wire(action)),
        digest_function: number(BLAKE3),
        ..Default::default()
    }
}

fn put(action: &CasDigest, result: reapi::ActionResult) -> reapi::UpdateActionResultRequest {
    reapi::UpdateActionResultRequest {
        instance_name: "main".to_owned(),
        action_digest: Some(wire(action)),
        action_result: Some(result),
        digest_function: number(BLAKE3),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_result_comes_back_with_what_was_wanted_inside() {
    let harness = Harness::new().await;
    let mut client = harness.actions().await;
    let status = client.get_action_result(get(&action("a"))).await;
    assert_eq!(status.expect_err("none").code(), Code::NotFound);

    let record = harness.put(BLAKE3, b"{}").await;
    let other = harness.put(BLAKE3, b"other").await;
    let log = harness.put(BLAKE3, b"said").await;
    let large = harness.put(BLAKE3, &vec![1; 4 << 20]).await;
    let result = reapi::ActionResult {
        output_files: vec![
            file("large", &large),
            file("result.json", &record),
            file("other", &other),
        ],
        stdout_digest: Some(wire(&log)),
        ..Default::default()
    };
    client
        .update_action_result(put(&action("a"), result.clone()))
        .await
        .expect("stored");

    let plain = client.get_action_result(get(&action("a"))).await;
    assert_eq!(plain.expect("a result").into_inner(), result);
    let request = reapi::GetActionResultRequest {
        inline_stdout: true,
        inline_output_files: vec!["result.json".to_owned(), "large".to_owned()],
        ..get(&action("a"))
    };
    let inline = client.get_action_result(request).await.expect("a result");
    let inline = inline.into_inner();
    assert_eq!(inline.stdout_raw, &b"said"[..]);
    assert_eq!(inline.output_files[1].contents, &b"{}"[..]);
    assert_eq!(inline.output_files[2].contents, Bytes::new());
    assert_eq!(
        inline.output_files[0].contents,
        Bytes::new(),
        "it is longer than a message"
    );

    // Of another instance, and of another function.
    let request = reapi::GetActionResultRequest {
        instance_name: "other".to_owned(),
        ..get(&action("a"))
    };
    let status = client.get_action_result(request).await;
    assert_eq!(status.expect_err("none").code(), Code::NotFound);
    let request = reapi::GetActionResultRequest {
        digest_function: 0,
        ..get(&action("a"))
    };
    let status = client.get_action_result(request).await;
    assert_eq!(status.expect_err("none").code(), Code::NotFound);
}

#[tokio::test]
async fn a_result_without_its_blobs_is_not_taken() {
    let harness = Harness::new().await;
    let there = harness.put(BLAKE3, b"there").await;
    let chunk = CasDigest::of(BLAKE3, b"a chunk");
    let log = CasDigest::of(BLAKE3, b"a log");
    let tree = reapi::Tree {
        root: Some(reapi::Directory {
            files: vec![reapi::FileNode {
                name: "c00000000".to_owned(),
                digest: Some(wire(&chunk)),
                ..Default::default()
            }],
            ..Default::default()
        }),
        children: Vec::new(),
    };
    let tree = harness.put(BLAKE3, &tree.encode_to_vec()).await;
    let result = reapi::ActionResult {
        output_files: vec![file("there", &there)],
        output_directories: vec![reapi::OutputDirectory {
            tree_digest: Some(wire(&tree)),
            ..Default::default()
        }],
        stdout_digest: Some(wire(&log)),
        ..Default::default()
    };
    let mut client = harness.actions().await;
    let status = client
        .update_action_result(put(&action("a"), result.clone()))
        .await
        .expect_err("refused");
    assert_eq!(status.code(), Code::FailedPrecondition);
    let mut missing = missing::decode(status.details());
    missing.sort();
    let mut expected = vec![chunk, log];
    expected.sort();
    assert_eq!(missing, expected);

    harness.put(BLAKE3, b"a chunk").await;
    harness.put(BLAKE3, b"a log").await;
    client
        .update_action_result(put(&action("a"), result))
        .await
        .expect("stored");
    client
        .get_action_result(get(&action("a")))
        .await
        .expect("a result");
}

#[tokio::test]
async fn a_result_whose_blobs_went_is_none() {
    let harness = Harness::new().await;
    // Under the completeness check, as if the store had lost the blob later.
    let result = reapi::ActionResult {
        output_files: vec![file("gone", &CasDigest::of(BLAKE3, b"gone"))],
        ..Default::default()
    };
    let key = ashlar_model::cas::ActionKey {
        instance: "main".to_owned(),
        action: action("a"),
    };
    let mode = ashlar_store::action_cache::PutMode::Replace;
    ashlar_store::ActionCache::put(&*harness.store, &key, result.encode_to_vec().into(), mode)
        .await
        .expect("stored");
    let mut client = harness.actions().await;
    let status = client.get_action_result(get(&action("a"))).await;
    assert_eq!(status.expect_err("none").code(), Code::NotFound);
}

#[tokio::test]
async fn requests_without_what_they_need_are_refused() {
    let harness = Harness::new().await;
    let mut client = harness.actions().await;
    let request = reapi::GetActionResultRequest::default();
    let status = client.get_action_result(request).await;
    assert_eq!(status.expect_err("refused").code(), Code::InvalidArgument);
    let request = reapi::UpdateActionResultRequest {
        action_result: None,
        ..put(&action("a"), reapi::ActionResult::default())
    };
    let status = client.update_action_result(request).await;
    assert_eq!(status.expect_err("refused").code(), Code::InvalidArgument);
    let result = reapi::ActionResult {
        output_files: vec![reapi::OutputFile::default()],
        ..Default::default()
    };
    let status = client.update_action_result(put(&action("a"), result)).await;
    assert_eq!(status.expect_err("refused").code(), Code::InvalidArgument);
}
