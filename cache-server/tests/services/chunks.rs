//! Splitting and splicing.

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_proto::convert::digest_from_wire;
use ashlar_proto::wire::reapi;
use ashlar_proto::wire::reapi::chunking_function::Value as Chunking;
use bytes::Bytes;
use fastcdc::v2020::{FastCDC, Normalization};
use tonic::{Code, Status};

use crate::harness::{Harness, number, wire};

const BLAKE3: DigestFunction = DigestFunction::Blake3;

fn noise(length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes.into()
}

async fn mapping(harness: &Harness, blob: &CasDigest) -> Result<Vec<CasDigest>, Status> {
    let request = reapi::GetChunkMappingRequest {
        blob_digest: Some(wire(blob)),
        digest_function: number(BLAKE3),
        ..Default::default()
    };
    let mut pages = harness
        .cas()
        .await
        .get_chunk_mapping(request)
        .await?
        .into_inner();
    let mut chunks = Vec::new();
    while let Some(page) = pages.message().await? {
        for chunk in page.chunk_digests {
            chunks.push(digest_from_wire(&chunk, BLAKE3).expect("a digest"));
        }
    }
    Ok(chunks)
}

async fn register(harness: &Harness, blob: &CasDigest, chunks: &[CasDigest]) -> Result<(), Status> {
    let mut messages: Vec<_> = chunks
        .chunks(2)
        .map(|chunks| reapi::RegisterChunkMappingRequest {
            chunk_digests: chunks.iter().map(wire).collect(),
            ..Default::default()
        })
        .collect();
    if messages.is_empty() {
        messages.push(reapi::RegisterChunkMappingRequest::default());
    }
    messages[0].blob_digest = Some(wire(blob));
    messages[0].digest_function = number(BLAKE3);
    let mut client = harness.cas().await;
    let response = client
        .register_chunk_mapping(tokio_stream::iter(messages))
        .await?;
    assert_eq!(response.into_inner().blob_digest, Some(wire(blob)));
    Ok(())
}

#[tokio::test]
async fn a_blob_is_cut_where_the_specification_says() {
    let harness = Harness::new().await;
    let bytes = noise(9_000_000);
    let blob = harness.put(BLAKE3, &bytes).await;
    let expected: Vec<_> = FastCDC::with_level_and_seed(
        &bytes,
        128 << 10,
        512 << 10,
        2 << 20,
        Normalization::Level2,
        0,
    )
    .map(|chunk| CasDigest::of(BLAKE3, &bytes[chunk.offset..chunk.offset + chunk.length]))
    .collect();
    assert!(expected.len() > 5);
    let chunks = mapping(&harness, &blob).await.expect("chunks");
    assert_eq!(chunks, expected);
    for chunk in &chunks {
        assert!(harness.get(chunk).await.is_some());
    }
    // Known from now on, and the same by the older call.
    let request = reapi::SplitBlobRequest {
        blob_digest: Some(wire(&blob)),
        digest_function: number(BLAKE3),
        ..Default::default()
    };
    let split = harness.cas().await.split_blob(request).await;
    let split = split.expect("chunks").into_inner();
    let wired: Vec<_> = expected.iter().map(wire).collect();
    assert_eq!(split.chunk_digests, wired);
    assert_eq!(split.chunking_function, i32::from(Chunking::FastCdc2020));

    let gone = CasDigest::of(BLAKE3, b"gone");
    let status = mapping(&harness, &gone).await.expect_err("gone");
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn a_blob_is_put_together_from_chunks() {
    let harness = Harness::new().await;
    let parts = [&b"one "[..], b"two ", b"three ", b"two ", b"four"];
    let mut chunks = Vec::new();
    for part in parts {
        chunks.push(harness.put(BLAKE3, part).await);
    }
    let whole = parts.concat();
    let blob = CasDigest::of(BLAKE3, &whole);
    register(&harness, &blob, &chunks).await.expect("spliced");
    assert_eq!(harness.get(&blob).await, Some(whole.into()));
    // The client's chunks are kept as the blob's.
    assert_eq!(mapping(&harness, &blob).await.expect("chunks"), chunks);
    // Once more does no harm.
    register(&harness, &blob, &chunks).await.expect("there");

    let request = reapi::SpliceBlobRequest {
        blob_digest: Some(wire(&CasDigest::of(BLAKE3, b"one two "))),
        chunk_digests: chunks[..2].iter().map(wire).collect(),
        digest_function: number(BLAKE3),
        ..Default::default()
    };
    harness
        .cas()
        .await
        .splice_blob(request)
        .await
        .expect("spliced");
}

#[tokio::test]
async fn chunks_that_are_not_the_blob_are_refused() {
    let harness = Harness::new().await;
    let one = harness.put(BLAKE3, b"one").await;
    let two = harness.put(BLAKE3, b"two").await;
    let gone = CasDigest::of(BLAKE3, b"333");
    let blob = CasDigest::of(BLAKE3, b"onetwo");
    for (chunks, code) in [
        (vec![two, one], Code::InvalidArgument),
        (vec![one], Code::InvalidArgument),
        (vec![one, two, one], Code::InvalidArgument),
        (vec![], Code::InvalidArgument),
        (vec![one, gone], Code::NotFound),
    ] {
        let status = register(&harness, &blob, &chunks).await;
        assert_eq!(status.expect_err("refused").code(), code, "{chunks:?}");
        assert_eq!(harness.get(&blob).await, None);
    }
    let huge = CasDigest {
        size: u64::MAX / 2,
        ..one
    };
    let status = register(&harness, &blob, &[huge, huge, huge]).await;
    assert_eq!(status.expect_err("refused").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn who_may_only_read_makes_no_chunks() {
    let nobody = ashlar_cache_server::auth::Writers::Nobody;
    let policy = ashlar_cache_server::auth::Policy::of_files(nobody, None);
    let access = ashlar_cache_server::auth::Access::new(policy, ashlar_store::clock::system());
    let harness = Harness::with(access, 0).await;
    let blob = harness.put(BLAKE3, &noise(3_000_000)).await;
    let status = mapping(&harness, &blob).await.expect_err("refused");
    assert_eq!(status.code(), Code::NotFound);
    assert!(harness.store.bytes() < 3_100_000, "nothing was stored");
}
