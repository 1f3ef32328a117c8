//! `ContentAddressableStorage` and `Capabilities`.

use ashlar_cache_server::limits;
use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_proto::wire::reapi;
use ashlar_proto::wire::reapi::batch_update_blobs_request::Request as UpdateItem;
use ashlar_proto::wire::reapi::compressor::Value as Compressor;
use ashlar_proto::wire::reapi::digest_function::Value as Function;
use bytes::Bytes;
use prost::Message as _;
use tonic::Code;

use crate::harness::{Harness, number, wire};

const BLAKE3: DigestFunction = DigestFunction::Blake3;
const SHA256: DigestFunction = DigestFunction::Sha256;

fn item(blob: &CasDigest, data: impl Into<Bytes>, compressor: Compressor) -> UpdateItem {
    UpdateItem {
        digest: Some(wire(blob)),
        data: data.into(),
        compressor: compressor.into(),
    }
}

fn update(function: i32, items: Vec<UpdateItem>) -> reapi::BatchUpdateBlobsRequest {
    reapi::BatchUpdateBlobsRequest {
        instance_name: "main".to_owned(),
        requests: items,
        digest_function: function,
    }
}

/// The codes of a batch's outcomes.
async fn codes(harness: &Harness, request: reapi::BatchUpdateBlobsRequest) -> Vec<Code> {
    let response = harness.cas().await.batch_update_blobs(request).await;
    let outcomes = response.expect("outcomes").into_inner().responses;
    outcomes
        .into_iter()
        .map(|outcome| Code::from(outcome.status.expect("a status").code))
        .collect()
}

#[tokio::test]
async fn the_server_says_what_it_can() {
    let harness = Harness::with(ashlar_cache_server::auth::Access::open(), 1000).await;
    let request = reapi::GetCapabilitiesRequest::default();
    let response = harness.capabilities().await.get_capabilities(request).await;
    let capabilities = response.expect("capabilities").into_inner();
    let low = capabilities.low_api_version.expect("a version");
    let high = capabilities.high_api_version.expect("a version");
    assert_eq!((low.major, low.minor), (2, 0));
    assert_eq!((high.major, high.minor), (2, 13));
    assert!(capabilities.execution_capabilities.is_none());
    let cache = capabilities.cache_capabilities.expect("a cache");
    assert_eq!(
        cache.digest_functions,
        [i32::from(Function::Sha256), i32::from(Function::Blake3)]
    );
    assert_eq!(cache.max_batch_total_size_bytes, 3 << 20);
    assert_eq!(cache.max_cas_blob_size_bytes, 1000);
    assert_eq!(cache.supported_compressors, [i32::from(Compressor::Zstd)]);
    let update = cache.action_cache_update_capabilities.expect("said");
    assert!(update.update_enabled);
    let chunking = cache.fast_cdc_2020_params.expect("parameters");
    assert_eq!((chunking.avg_chunk_size_bytes, chunking.seed), (524_288, 0));
}

#[tokio::test]
async fn blobs_go_in_and_out_in_batches() {
    let harness = Harness::new().await;
    let plain = Bytes::from_static(b"a stone");
    let long = Bytes::from(vec![7; 100_000]);
    for function in [SHA256, BLAKE3] {
        let blobs = [
            CasDigest::of(function, &plain),
            CasDigest::of(function, &long),
        ];
        let packed = zstd::bulk::compress(&long, 3).expect("packed");
        let request = update(
            number(function),
            vec![
                item(&blobs[0], plain.clone(), Compressor::Identity),
                item(&blobs[1], packed, Compressor::Zstd),
            ],
        );
        assert_eq!(codes(&harness, request).await, [Code::Ok, Code::Ok]);

        let gone = CasDigest::of(function, b"gone");
        let request = reapi::FindMissingBlobsRequest {
            blob_digests: [&blobs[0], &gone, &blobs[1]].map(wire).to_vec(),
            digest_function: number(function),
            ..Default::default()
        };
        let response = harness.cas().await.find_missing_blobs(request).await;
        let missing = response.expect("an answer").into_inner();
        assert_eq!(missing.missing_blob_digests, [wire(&gone)]);

        for compressors in [vec![], vec![i32::from(Compressor::Zstd)]] {
            let request = reapi::BatchReadBlobsRequest {
                digests: [&blobs[0], &gone, &blobs[1]].map(wire).to_vec(),
                digest_function: number(function),
                acceptable_compressors: compressors.clone(),
                ..Default::default()
            };
            let response = harness.cas().await.batch_read_blobs(request).await;
            let read = response.expect("an answer").into_inner().responses;
            let code = |index: usize| Code::from(read[index].status.as_ref().expect("said").code);
            assert_eq!(
                [code(0), code(1), code(2)],
                [Code::Ok, Code::NotFound, Code::Ok]
            );
            assert_eq!(read[0].data, plain);
            if compressors.is_empty() {
                assert_eq!(read[2].data, long);
            } else {
                assert_eq!(read[2].compressor, i32::from(Compressor::Zstd));
                let unpacked = zstd::bulk::decompress(&read[2].data, long.len());
                assert_eq!(unpacked.expect("unpacked"), long);
            }
        }
    }
}

#[tokio::test]
async fn the_empty_blob_is_always_there() {
    let harness = Harness::new().await;
    let empty = wire(&CasDigest::of(SHA256, b""));
    let request = reapi::FindMissingBlobsRequest {
        blob_digests: vec![empty],
        ..Default::default()
    };
    let response = harness.cas().await.find_missing_blobs(request).await;
    let missing = response.expect("an answer").into_inner();
    assert_eq!(missing.missing_blob_digests, []);
}

#[tokio::test]
async fn what_is_wrong_in_a_batch_is_refused_and_the_rest_taken() {
    let harness = Harness::new().await;
    let good = CasDigest::of(SHA256, b"good");
    let bad = CasDigest::of(SHA256, b"bad!");
    let bomb = zstd::bulk::compress(&vec![0; 8 << 20], 19).expect("packed");
    let upper = UpdateItem {
        digest: Some(reapi::Digest {
            hash: good.hash_hex().to_uppercase(),
            size_bytes: 4,
        }),
        data: Bytes::from_static(b"good"),
        compressor: 0,
    };
    let request = update(
        0,
        vec![
            item(&bad, "other", Compressor::Identity),
            item(&bad, "evil", Compressor::Identity),
            item(&bad, bomb, Compressor::Zstd),
            item(&bad, "no zstd", Compressor::Zstd),
            item(&bad, "bad!", Compressor::Brotli),
            upper,
            UpdateItem::default(),
            item(&good, "good", Compressor::Identity),
        ],
    );
    let mut expected = vec![Code::InvalidArgument; 7];
    expected.push(Code::Ok);
    assert_eq!(codes(&harness, request).await, expected);
    assert!(harness.get(&good).await.is_some());
    assert!(harness.get(&bad).await.is_none());
}

#[tokio::test]
async fn batches_that_are_too_large_are_refused() {
    let harness = Harness::new().await;
    let code = |result: Result<tonic::Response<reapi::BatchUpdateBlobsResponse>, tonic::Status>| {
        result.expect_err("refused").code()
    };
    let data = vec![1; 3 << 20];
    let blob = CasDigest::of(SHA256, &data);
    let small = CasDigest::of(SHA256, b"x");
    let items = vec![
        item(&blob, data, Compressor::Identity),
        item(&small, "x", Compressor::Identity),
    ];
    let result = harness
        .cas()
        .await
        .batch_update_blobs(update(0, items))
        .await;
    assert_eq!(code(result), Code::InvalidArgument);
    assert!(harness.get(&small).await.is_none(), "nothing was taken");

    // Many that declare more than they may become.
    let declared = CasDigest {
        size: 9 << 20,
        ..small
    };
    let items = vec![item(&declared, "", Compressor::Zstd); 2];
    let result = harness
        .cas()
        .await
        .batch_update_blobs(update(0, items))
        .await;
    assert_eq!(code(result), Code::InvalidArgument);

    // More than a message may have.
    let data = vec![1; 5 << 20];
    let items = vec![item(
        &CasDigest::of(SHA256, &data),
        data,
        Compressor::Identity,
    )];
    let result = harness
        .cas()
        .await
        .batch_update_blobs(update(0, items))
        .await;
    assert_eq!(code(result), Code::OutOfRange);

    let request = reapi::BatchReadBlobsRequest {
        digests: vec![wire(&CasDigest {
            size: limits::BATCH + 1,
            ..small
        })],
        ..Default::default()
    };
    let result = harness.cas().await.batch_read_blobs(request).await;
    assert_eq!(result.expect_err("refused").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn requests_with_wrong_words_are_refused() {
    let harness = Harness::new().await;
    let blob = wire(&CasDigest::of(SHA256, b"x"));
    let good = reapi::FindMissingBlobsRequest {
        blob_digests: vec![blob.clone()],
        ..Default::default()
    };
    let with = |change: fn(&mut reapi::FindMissingBlobsRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let requests = [
        with(|request| request.digest_function = Function::Sha1.into()),
        with(|request| request.digest_function = 99),
        with(|request| request.blob_digests[0].size_bytes = -1),
        with(|request| request.blob_digests[0].hash.truncate(40)),
        with(|request| request.instance_name = "a//b".to_owned()),
        with(|request| request.instance_name = "operations/chunks".to_owned()),
        with(|request| request.instance_name = "x".repeat(300)),
    ];
    let mut client = harness.cas().await;
    for request in requests {
        let status = client.find_missing_blobs(request.clone()).await;
        let status = status.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{request:?}");
    }
    client.find_missing_blobs(good).await.expect("an answer");
}

/// Stores a directory; gives its digest.
async fn directory(harness: &Harness, below: &[(&str, CasDigest)], files: usize) -> CasDigest {
    let directory = reapi::Directory {
        directories: below
            .iter()
            .map(|(name, digest)| reapi::DirectoryNode {
                name: (*name).to_owned(),
                digest: Some(wire(digest)),
            })
            .collect(),
        files: (0..files)
            .map(|index| reapi::FileNode {
                name: format!("f{index:08}"),
                digest: Some(wire(&CasDigest::of(BLAKE3, b"x"))),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    harness.put(BLAKE3, &directory.encode_to_vec()).await
}

/// All pages of a tree.
async fn tree(
    harness: &Harness,
    root: &CasDigest,
    page_size: i32,
    token: &str,
) -> Result<Vec<reapi::GetTreeResponse>, tonic::Status> {
    let request = reapi::GetTreeRequest {
        root_digest: Some(wire(root)),
        page_size,
        page_token: token.to_owned(),
        digest_function: number(BLAKE3),
        ..Default::default()
    };
    let mut pages = harness.cas().await.get_tree(request).await?.into_inner();
    let mut all = Vec::new();
    while let Some(page) = pages.message().await? {
        all.push(page);
    }
    Ok(all)
}

#[tokio::test]
async fn a_tree_comes_in_pages_and_can_be_taken_up_again() {
    let harness = Harness::new().await;
    let leaf = directory(&harness, &[], 1).await;
    let gone = CasDigest::of(BLAKE3, b"gone");
    let middle = directory(&harness, &[("a", leaf), ("b", leaf), ("gone", gone)], 2).await;
    let other = directory(&harness, &[], 3).await;
    let root = directory(&harness, &[("middle", middle), ("other", other)], 0).await;

    let all = tree(&harness, &root, 0, "").await.expect("a tree");
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].next_page_token, "");
    let files = |pages: &[reapi::GetTreeResponse]| {
        let directories = pages.iter().flat_map(|page| &page.directories);
        directories
            .map(|directory| directory.files.len())
            .collect::<Vec<_>>()
    };
    // Each once, and without the one that is gone.
    assert_eq!(files(&all), [0, 2, 3, 1]);

    let pages = tree(&harness, &root, 3, "").await.expect("a tree");
    assert_eq!(files(&pages), [0, 2, 3, 1]);
    assert_eq!(pages.len(), 2);
    let rest = tree(&harness, &root, 3, &pages[0].next_page_token).await;
    assert_eq!(files(&rest.expect("a tree")), [1]);

    let status = tree(&harness, &gone, 0, "").await.expect_err("no root");
    assert_eq!(status.code(), Code::NotFound);
    let status = tree(&harness, &root, -1, "").await.expect_err("no page");
    assert_eq!(status.code(), Code::InvalidArgument);
    let status = tree(&harness, &root, 0, "x").await.expect_err("no token");
    assert_eq!(status.code(), Code::InvalidArgument);
    let text = harness.put(BLAKE3, b"no directory").await;
    let status = tree(&harness, &text, 0, "")
        .await
        .expect_err("no directory");
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_tree_that_is_too_large_for_a_message_comes_in_several() {
    let harness = Harness::new().await;
    let mut below = Vec::new();
    for files in 0..4 {
        // About 1.2 MB each.
        below.push(directory(&harness, &[], 13_000 + files).await);
    }
    let named: Vec<_> = ["a", "b", "c", "d"].into_iter().zip(below).collect();
    let root = directory(&harness, &named, 0).await;
    let pages = tree(&harness, &root, 0, "").await.expect("a tree");
    assert!(pages.len() > 1);
    let directories: usize = pages.iter().map(|page| page.directories.len()).sum();
    assert_eq!(directories, 5);
    for page in &pages {
        assert!(page.encoded_len() < limits::MESSAGE);
    }
}
