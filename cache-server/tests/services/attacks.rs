//! What those try who may write in a namespace of their own.

use std::time::Duration;

use ashlar_cache_server::limits;
use ashlar_model::cas::CasDigest;
use ashlar_proto::convert::duration_to_wire;
use ashlar_proto::wire::ext::acquire_response::Outcome;
use ashlar_proto::wire::{bytestream, ext, reapi};
use prost::Message as _;
use tonic::{Code, Status};

use crate::harness::{number, wire};
use crate::teams::{BLAKE3, Caller, MAIN, Teams, blob_of, result_with};

/// What is told of a blob that somebody else holds is what is told of one that is nowhere.
fn same_words(theirs: &Status, nowhere: &Status, blobs: [&CasDigest; 2]) {
    assert_eq!(theirs.code(), nowhere.code());
    let hidden =
        |status: &Status, blob: &CasDigest| status.message().replace(&blob.to_string(), "it");
    assert_eq!(hidden(theirs, blobs[0]), hidden(nowhere, blobs[1]));
    assert_eq!(theirs.details().len(), nowhere.details().len());
}

async fn tree(caller: &Caller, root: &CasDigest) -> Result<usize, Status> {
    let request = reapi::GetTreeRequest {
        instance_name: caller.instance.clone(),
        digest_function: number(BLAKE3),
        root_digest: Some(wire(root)),
        ..Default::default()
    };
    let mut pages = caller.cas().get_tree(request).await?.into_inner();
    let mut count = 0;
    while let Some(page) = pages.message().await? {
        count += page.directories.len();
    }
    Ok(count)
}

async fn split(caller: &Caller, blob: &CasDigest) -> Result<Vec<reapi::Digest>, Status> {
    let request = reapi::SplitBlobRequest {
        instance_name: caller.instance.clone(),
        digest_function: number(BLAKE3),
        blob_digest: Some(wire(blob)),
        ..Default::default()
    };
    let split = caller.cas().split_blob(request).await?;
    Ok(split.into_inner().chunk_digests)
}

async fn mapping(caller: &Caller, blob: &CasDigest) -> Result<usize, Status> {
    let request = reapi::GetChunkMappingRequest {
        instance_name: caller.instance.clone(),
        digest_function: number(BLAKE3),
        blob_digest: Some(wire(blob)),
        ..Default::default()
    };
    let mut pages = caller.cas().get_chunk_mapping(request).await?.into_inner();
    let mut count = 0;
    while let Some(page) = pages.message().await? {
        count += page.chunk_digests.len();
    }
    Ok(count)
}

async fn splice(caller: &Caller, blob: &CasDigest, chunks: &[reapi::Digest]) -> Result<(), Status> {
    let request = reapi::SpliceBlobRequest {
        instance_name: caller.instance.clone(),
        digest_function: number(BLAKE3),
        blob_digest: Some(wire(blob)),
        chunk_digests: chunks.to_vec(),
        ..Default::default()
    };
    caller.cas().splice_blob(request).await.map(drop)
}

#[tokio::test]
async fn knowing_a_digest_is_not_enough_to_read_a_blob() {
    let teams = Teams::new().await;
    let (main, other) = (teams.caller("main").await, teams.caller("othe").await);
    let directory = reapi::Directory {
        symlinks: vec![reapi::SymlinkNode {
            name: "a".to_owned(),
            target: "secret".to_owned(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let secret = main.upload(&directory.encode_to_vec()).await;
    let nowhere = CasDigest {
        size: secret.size,
        ..blob_of(b"nowhere")
    };
    assert_eq!(tree(&main, &secret).await.expect("a tree"), 1);
    assert_eq!(split(&main, &secret).await.expect("chunks").len(), 1);

    let found = other.missing(&[secret, nowhere]).await.expect("answered");
    assert_eq!(found, [secret, nowhere]);
    let blobs = [&secret, &nowhere];
    let words = |theirs: Status, nowhere: Status| same_words(&theirs, &nowhere, blobs);
    words(
        other.read(&secret).await.expect_err("hidden"),
        other.read(&nowhere).await.expect_err("nowhere"),
    );
    words(
        other.read_stream(&secret).await.expect_err("hidden"),
        other.read_stream(&nowhere).await.expect_err("nowhere"),
    );
    words(
        tree(&other, &secret).await.expect_err("hidden"),
        tree(&other, &nowhere).await.expect_err("nowhere"),
    );
    words(
        split(&other, &secret).await.expect_err("hidden"),
        split(&other, &nowhere).await.expect_err("nowhere"),
    );
    words(
        mapping(&other, &secret).await.expect_err("hidden"),
        mapping(&other, &nowhere).await.expect_err("nowhere"),
    );
    let status = |blob: &CasDigest| {
        let mut client = other.bytes();
        let resource_name = other.upload_name(blob, "u");
        async move {
            let request = bytestream::QueryWriteStatusRequest { resource_name };
            let answer = client.query_write_status(request).await;
            answer.expect("an answer").into_inner()
        }
    };
    assert_eq!(status(&secret).await, status(&nowhere).await);
}

#[tokio::test]
async fn a_result_of_another_team_gives_nothing_away() {
    let teams = Teams::new().await;
    let (main, other) = (teams.caller("main").await, teams.caller("othe").await);
    let secret = main.upload(b"{\"secret\": 1}").await;
    main.update("a", result_with("result.json", &secret))
        .await
        .expect("written");
    let hidden = other.get("a").await.expect_err("hidden");
    let nowhere = other.get("nowhere").await.expect_err("nowhere");
    let actions = [&blob_of(b"a"), &blob_of(b"nowhere")];
    same_words(&hidden, &nowhere, actions);
    assert_eq!(other.probe(&["a"]).await.expect("answered"), [0_u32; 0]);

    // One of its own that names the secret: it could never be stored, and is not given out either.
    let key = ashlar_model::cas::ActionKey {
        instance: other.instance.clone(),
        action: blob_of(b"mine"),
    };
    let forged = result_with("result.json", &secret).encode_to_vec();
    let put = ashlar_store::ActionCache::put(
        &*teams.harness.store,
        &key,
        forged.into(),
        ashlar_store::action_cache::PutMode::Replace,
    );
    put.await.expect("put");
    let hidden = other.get("mine").await.expect_err("hidden");
    same_words(&hidden, &nowhere, actions);
    assert_eq!(other.probe(&["mine"]).await.expect("answered"), [0_u32; 0]);
}

#[tokio::test]
async fn nobody_splices_what_others_hold() {
    let teams = Teams::new().await;
    let (main, other) = (teams.caller("main").await, teams.caller("othe").await);
    let parts = [&b"half of a "[..], b"secret"];
    let whole = blob_of(&parts.concat());
    let chunks = [main.upload(parts[0]).await, main.upload(parts[1]).await];
    let digests = chunks.each_ref().map(wire);
    splice(&main, &whole, &digests).await.expect("spliced");
    assert_eq!(main.read(&whole).await.expect("read"), parts.concat());

    // Chunks that are another team's, for a blob that is in the store.
    let refused = splice(&other, &whole, &digests).await.expect_err("refused");
    assert_eq!(refused.code(), Code::NotFound);
    // One chunk of one's own does not get the other.
    other.upload(parts[0]).await;
    let refused = splice(&other, &whole, &digests).await.expect_err("refused");
    assert_eq!(refused.code(), Code::NotFound);
    assert!(refused.message().contains("1 of the chunks"), "{refused:?}");
    // Chunks of one's own that are not the blob.
    let wrong = other.upload(b"sekret").await;
    let guess = [wire(&chunks[0]), wire(&wrong)];
    let refused = splice(&other, &whole, &guess).await.expect_err("refused");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(other.missing(&[whole]).await.expect("answered"), [whole]);
    // Whoever has all of it has it.
    other.upload(parts[1]).await;
    splice(&other, &whole, &digests).await.expect("spliced");
    assert_eq!(other.read(&whole).await.expect("read"), parts.concat());
    // A list of chunks that another team has made is no way to them.
    assert_eq!(split(&other, &whole).await.expect("chunks").len(), 2);
}

#[tokio::test]
async fn wrong_bytes_get_nobody_a_blob_that_the_store_has() {
    let teams = Teams::new().await;
    let (main, other) = (teams.caller("main").await, teams.caller("othe").await);
    let bytes = vec![7; 100_000];
    let blob = main.upload(&bytes).await;
    let wrong = vec![8; 100_000];
    let short = &bytes[..99_999];
    let refused = |outcome: Result<(), Status>| {
        assert_eq!(outcome.expect_err("refused").code(), Code::InvalidArgument);
    };
    refused(other.upload_as(&blob, &wrong).await);
    refused(other.upload_as(&blob, short).await);
    refused(other.stream_as(&blob, &wrong).await.map(drop));
    refused(
        other
            .stream_as(&blob, &[&bytes[..], b"x"].concat())
            .await
            .map(drop),
    );
    // The right hash with another size or function is another blob.
    let resized = CasDigest { size: 1, ..blob };
    refused(other.upload_as(&resized, &bytes[..1]).await);
    assert_eq!(other.missing(&[blob]).await.expect("answered"), [blob]);
    assert_eq!(
        other.stream_as(&blob, &bytes).await.expect("written"),
        100_000
    );
    assert_eq!(other.read(&blob).await.expect("read"), bytes);
    // And nobody's blob has become another.
    assert_eq!(main.read(&blob).await.expect("read"), bytes);
}

#[tokio::test]
async fn an_upload_that_is_suspended_is_nobody_elses_to_finish_or_to_look_at() {
    let teams = Teams::new().await;
    let (pull, mate) = (teams.caller("pull").await, teams.caller("mate").await);
    let bytes = vec![5; 5000];
    let blob = blob_of(&bytes);
    let part = |from: usize, to: usize, finish_write: bool| bytestream::WriteRequest {
        resource_name: pull.upload_name(&blob, "id"),
        write_offset: i64::try_from(from).expect("small"),
        finish_write,
        data: bytes[from..to].to_vec().into(),
    };
    let committed = |caller: &Caller| {
        let mut client = caller.bytes();
        let resource_name = caller.upload_name(&blob, "id");
        async move {
            let request = bytestream::QueryWriteStatusRequest { resource_name };
            client
                .query_write_status(request)
                .await
                .expect("an answer")
                .into_inner()
        }
    };
    let written = pull
        .bytes()
        .write(tokio_stream::once(part(0, 3000, false)))
        .await;
    assert_eq!(
        written.expect("suspended").into_inner().committed_size,
        3000
    );
    assert_eq!(committed(&pull).await.committed_size, 3000);
    // Another token of the same namespace, and the same name of the upload.
    assert_eq!(committed(&mate).await.committed_size, 0);
    let refused = mate
        .bytes()
        .write(tokio_stream::once(part(3000, 5000, true)))
        .await;
    assert_eq!(refused.expect_err("refused").code(), Code::InvalidArgument);
    assert_eq!(committed(&pull).await.committed_size, 3000);
    let written = pull
        .bytes()
        .write(tokio_stream::once(part(3000, 5000, true)))
        .await;
    assert_eq!(written.expect("written").into_inner().committed_size, 5000);
    assert!(committed(&mate).await.complete);
}

#[tokio::test]
async fn a_lease_is_no_use_in_another_namespace_or_a_second_time() {
    let teams = Teams::new().await;
    let (main, pull) = (teams.caller("main").await, teams.caller("pull").await);
    let action = blob_of(b"a");
    let key = hex::encode(action.hash);
    let acquire = |caller: &Caller| {
        let mut client = caller.leases();
        let request = ext::AcquireRequest {
            instance_name: caller.instance.clone(),
            key: key.clone(),
            holder: "h".to_owned(),
            ttl: Some(duration_to_wire(Duration::from_secs(60))),
        };
        async move {
            let answer = client
                .acquire(request)
                .await
                .expect("an answer")
                .into_inner();
            match answer.outcome {
                Some(Outcome::Granted(lease)) => lease,
                other => panic!("{other:?}"),
            }
        }
    };
    let mains = acquire(&main).await;
    // The same key is free in the pull request's namespace.
    let own = acquire(&pull).await;
    for token in [&mains.token, "guessed"] {
        let renewed = pull
            .leases()
            .renew(ext::RenewRequest {
                instance_name: pull.instance.clone(),
                key: key.clone(),
                token: token.to_owned(),
            })
            .await;
        assert_eq!(renewed.expect_err("refused").code(), Code::NotFound);
    }
    let release = |token: String| {
        let mut client = pull.leases();
        let request = ext::ReleaseRequest {
            instance_name: pull.instance.clone(),
            key: key.clone(),
            token,
        };
        async move { client.release(request).await.map(drop) }
    };
    release(own.token.clone()).await.expect("released");
    let next = acquire(&pull).await;
    assert!(next.fencing_number > own.fencing_number);
    // The old token and number are of no use once the key was granted again.
    let renewed = pull
        .leases()
        .renew(ext::RenewRequest {
            instance_name: pull.instance.clone(),
            key: key.clone(),
            token: own.token.clone(),
        })
        .await;
    assert_eq!(renewed.expect_err("refused").code(), Code::NotFound);
    release(own.token).await.expect("no error, and no use");
    let blob = pull.upload(b"late").await;
    let late = pull
        .results()
        .commit(ext::CommitRequest {
            instance_name: pull.instance.clone(),
            digest_function: number(BLAKE3),
            action: Some(wire(&action)),
            result: Some(result_with("f", &blob)),
            lease_key: key.clone(),
            fencing_number: own.fencing_number,
        })
        .await;
    assert_eq!(late.expect_err("too late").code(), Code::Aborted);
    assert_eq!(
        pull.get("a").await.expect_err("none").code(),
        Code::NotFound
    );
    // Main's lease is main's all along.
    let renewed = main
        .leases()
        .renew(ext::RenewRequest {
            instance_name: MAIN.to_owned(),
            key,
            token: mains.token,
        })
        .await;
    renewed.expect("renewed");
}

#[tokio::test]
async fn what_is_far_too_much_is_refused_before_it_is_held() {
    let teams = Teams::new().await;
    let pull = teams.caller("pull").await;
    // A bomb: a few bytes that say they hold more than a batch may.
    let bomb = zstd::bulk::compress(&vec![0; 32 << 20], 19).expect("compressed");
    let blob = blob_of(&vec![0; 32 << 20]);
    let item = |size: u64| reapi::batch_update_blobs_request::Request {
        digest: Some(wire(&CasDigest { size, ..blob })),
        data: bomb.clone().into(),
        compressor: reapi::compressor::Value::Zstd.into(),
    };
    let batch = |requests| reapi::BatchUpdateBlobsRequest {
        instance_name: pull.instance.clone(),
        digest_function: number(BLAKE3),
        requests,
    };
    let refused = pull
        .cas()
        .batch_update_blobs(batch(vec![item(32 << 20)]))
        .await;
    assert_eq!(refused.expect_err("refused").code(), Code::InvalidArgument);
    // One that lies about it is stopped at what it says.
    let answer = pull
        .cas()
        .batch_update_blobs(batch(vec![item(1 << 20)]))
        .await;
    let mut answer = answer.expect("an answer").into_inner();
    let status = answer.responses.remove(0).status.expect("a status");
    assert_eq!(status.code, i32::from(Code::InvalidArgument));
    // A list of keys without end.
    let many = vec![wire(&blob); limits::PROBE + 1];
    let refused = pull
        .results()
        .probe(ext::ProbeRequest {
            instance_name: pull.instance.clone(),
            digest_function: number(BLAKE3),
            actions: many,
            ..Default::default()
        })
        .await;
    assert_eq!(refused.expect_err("refused").code(), Code::InvalidArgument);
    // A batch to read that is larger than any message.
    let huge = CasDigest {
        size: 1 << 40,
        ..blob
    };
    assert_eq!(
        pull.read(&huge).await.expect_err("refused").code(),
        Code::InvalidArgument
    );
    // The server is well.
    pull.upload(b"after all").await;
}
