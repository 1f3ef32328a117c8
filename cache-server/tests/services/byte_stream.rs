//! `ByteStream`.

use std::time::Duration;

use ashlar_cache_server::auth::Access;
use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_proto::resource_name::{BlobName, Compressor, UploadName};
use ashlar_proto::wire::bytestream;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::harness::Harness;

const BLAKE3: DigestFunction = DigestFunction::Blake3;
const SHA256: DigestFunction = DigestFunction::Sha256;

/// Bytes that do not repeat.
fn noise(length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes.into()
}

fn upload_name(blob: &CasDigest, compressor: Compressor) -> String {
    UploadName {
        uuid: "c1f0c5d3-6f2c-4a1e-9d2e-8f5b7a3c0e11".to_owned(),
        blob: BlobName {
            instance: "main".to_owned(),
            compressor,
            blob: *blob,
        },
    }
    .to_string()
}

fn read_name(blob: &CasDigest, compressor: Compressor) -> String {
    BlobName {
        instance: "main".to_owned(),
        compressor,
        blob: *blob,
    }
    .to_string()
}

/// The messages of an upload, from an offset on.
fn messages(name: &str, bytes: &Bytes, start: usize) -> Vec<bytestream::WriteRequest> {
    let mut messages = Vec::new();
    let mut offset = start;
    while offset < bytes.len() || messages.is_empty() {
        let end = bytes.len().min(offset + 100_000);
        messages.push(bytestream::WriteRequest {
            resource_name: if offset == start {
                name.to_owned()
            } else {
                String::new()
            },
            write_offset: i64::try_from(offset).expect("an offset"),
            finish_write: end == bytes.len(),
            data: bytes.slice(offset..end),
        });
        offset = end;
    }
    messages
}

async fn write(harness: &Harness, messages: Vec<bytestream::WriteRequest>) -> Result<i64, Status> {
    let response = harness
        .bytes()
        .await
        .write(tokio_stream::iter(messages))
        .await?;
    Ok(response.into_inner().committed_size)
}

async fn read(
    harness: &Harness,
    name: String,
    read_offset: i64,
    read_limit: i64,
) -> Result<Vec<u8>, Status> {
    let request = bytestream::ReadRequest {
        resource_name: name,
        read_offset,
        read_limit,
    };
    let mut pieces = harness.bytes().await.read(request).await?.into_inner();
    let mut whole = Vec::new();
    while let Some(piece) = pieces.message().await? {
        assert!(piece.data.len() <= 256 << 10);
        whole.extend_from_slice(&piece.data);
    }
    Ok(whole)
}

async fn written(harness: &Harness, name: &str) -> (i64, bool) {
    let request = bytestream::QueryWriteStatusRequest {
        resource_name: name.to_owned(),
    };
    let response = harness.bytes().await.query_write_status(request).await;
    let response = response.expect("a status").into_inner();
    (response.committed_size, response.complete)
}

#[tokio::test]
async fn blobs_go_in_and_out_whole_in_part_and_compressed() {
    let harness = Harness::new().await;
    let bytes = noise(1_000_000);
    for function in [SHA256, BLAKE3] {
        let blob = CasDigest::of(function, &bytes);
        let name = upload_name(&blob, Compressor::Identity);
        let size = write(&harness, messages(&name, &bytes, 0)).await;
        assert_eq!(size.expect("written"), 1_000_000);
        assert_eq!(harness.get(&blob).await, Some(bytes.clone()));

        let name = read_name(&blob, Compressor::Identity);
        let whole = read(&harness, name.clone(), 0, 0).await.expect("read");
        assert!(whole == bytes);
        let part = read(&harness, name.clone(), 400_000, 300_000).await;
        assert!(part.expect("read") == bytes[400_000..700_000]);
        let rest = read(&harness, name.clone(), 999_999, 50).await;
        assert_eq!(rest.expect("read"), bytes[999_999..]);
        let end = read(&harness, name, 1_000_000, 0).await;
        assert_eq!(end.expect("read"), b"");

        let name = read_name(&blob, Compressor::Zstd);
        let packed = read(&harness, name.clone(), 0, 0).await.expect("read");
        let whole = zstd::bulk::decompress(&packed, bytes.len()).expect("unpacked");
        assert!(whole == bytes);
        let packed = read(&harness, name, 999_000, 0).await.expect("read");
        let rest = zstd::bulk::decompress(&packed, bytes.len()).expect("unpacked");
        assert_eq!(rest, bytes[999_000..]);
    }
}

#[tokio::test]
async fn compressed_blobs_are_taken() {
    let harness = Harness::new().await;
    let bytes = Bytes::from(b"all work and no play ".repeat(100_000));
    let packed = Bytes::from(zstd::bulk::compress(&bytes, 3).expect("packed"));
    let blob = CasDigest::of(BLAKE3, &bytes);
    let name = upload_name(&blob, Compressor::Zstd);
    let size = write(&harness, messages(&name, &packed, 0)).await;
    assert_eq!(
        size.expect("written"),
        i64::try_from(packed.len()).expect("a size")
    );
    assert_eq!(harness.get(&blob).await, Some(bytes));
    // Once more: it is there.
    let size = write(&harness, messages(&name, &packed, 0)).await;
    assert_eq!(size.expect("there"), -1);
    assert_eq!(written(&harness, &name).await, (2_100_000, true));
}

#[tokio::test]
async fn what_is_there_is_not_sent_again() {
    let harness = Harness::new().await;
    let bytes = noise(300_000);
    let blob = harness.put(SHA256, &bytes).await;
    let name = upload_name(&blob, Compressor::Identity);
    // The stream never ends; the answer comes all the same.
    let (sender, receiver) = mpsc::channel(4);
    sender
        .send(messages(&name, &bytes, 0).remove(0))
        .await
        .expect("sent");
    let mut client = harness.bytes().await;
    let response = client.write(ReceiverStream::new(receiver)).await;
    assert_eq!(
        response.expect("there").into_inner().committed_size,
        300_000
    );
    assert_eq!(written(&harness, &name).await, (300_000, true));
}

#[tokio::test]
async fn wrong_bytes_are_refused() {
    let harness = Harness::new().await;
    let bytes = noise(250_000);
    let blob = CasDigest::of(BLAKE3, &bytes);
    let name = upload_name(&blob, Compressor::Identity);
    let code = |result: Result<i64, Status>| result.expect_err("refused").code();

    let mut wrong = bytes.to_vec();
    wrong[249_999] ^= 1;
    let result = write(&harness, messages(&name, &wrong.into(), 0)).await;
    assert_eq!(code(result), Code::InvalidArgument);
    // Too short, and said to be all.
    let result = write(&harness, messages(&name, &bytes.slice(..200_001), 0)).await;
    assert_eq!(code(result), Code::InvalidArgument);
    // Too long.
    let long = [&bytes[..], b"x"].concat();
    let result = write(&harness, messages(&name, &long.into(), 0)).await;
    assert_eq!(code(result), Code::InvalidArgument);
    // With a gap.
    let mut gap = messages(&name, &bytes, 0);
    gap.remove(1);
    assert_eq!(code(write(&harness, gap).await), Code::InvalidArgument);
    // Another name within.
    let other = upload_name(&CasDigest::of(BLAKE3, b"other"), Compressor::Identity);
    let mut renamed = messages(&name, &bytes, 0);
    renamed[1].resource_name = other;
    assert_eq!(code(write(&harness, renamed).await), Code::InvalidArgument);
    assert_eq!(
        code(write(&harness, Vec::new()).await),
        Code::InvalidArgument
    );

    let zstd = upload_name(&blob, Compressor::Zstd);
    let bomb = Bytes::from(zstd::bulk::compress(&vec![0; 32 << 20], 19).expect("packed"));
    let result = write(&harness, messages(&zstd, &bomb, 0)).await;
    assert_eq!(code(result), Code::InvalidArgument);
    let packed = Bytes::from(zstd::bulk::compress(&bytes, 1).expect("packed"));
    let cut = packed.slice(..packed.len() - 10);
    let result = write(&harness, messages(&zstd, &cut, 0)).await;
    assert_eq!(code(result), Code::InvalidArgument);
    let result = write(&harness, messages(&zstd, &bytes, 0)).await;
    assert_eq!(code(result), Code::InvalidArgument);

    assert_eq!(harness.get(&blob).await, None);
    let size = write(&harness, messages(&name, &bytes, 0)).await;
    assert_eq!(size.expect("written"), 250_000);
}

#[tokio::test]
async fn names_that_are_none_are_refused() {
    let harness = Harness::with(Access::open(), 1000).await;
    let hash = "ab".repeat(32);
    for name in [
        String::new(),
        "blobs".to_owned(),
        format!("blobs/{hash}/-1"),
        format!("blobs/sha1/{hash}/1"),
        format!("compressed-blobs/deflate/{hash}/1"),
        format!("blobs/{}/1", "ab".repeat(20)),
        format!("uploads/u/blobs/{hash}/1"),
    ] {
        let status = read(&harness, name.clone(), 0, 0)
            .await
            .expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{name}");
    }
    let name = format!("uploads/u/blobs/{hash}/1001");
    let status = write(&harness, messages(&name, &Bytes::new(), 0)).await;
    assert_eq!(status.expect_err("too large").code(), Code::InvalidArgument);

    let blob = harness.put(SHA256, b"a stone").await;
    let name = read_name(&blob, Compressor::Identity);
    for (offset, limit, code) in [
        (-1, 0, Code::InvalidArgument),
        (0, -1, Code::InvalidArgument),
        (8, 0, Code::OutOfRange),
    ] {
        let status = read(&harness, name.clone(), offset, limit).await;
        assert_eq!(status.expect_err("refused").code(), code);
    }
    let status = read(&harness, read_name(&blob, Compressor::Zstd), 0, 3).await;
    assert_eq!(status.expect_err("refused").code(), Code::InvalidArgument);
    let gone = CasDigest::of(SHA256, b"gone");
    let status = read(&harness, read_name(&gone, Compressor::Identity), 0, 0).await;
    assert_eq!(status.expect_err("gone").code(), Code::NotFound);
}

/// Sends the first messages of an upload over a connection that then breaks.
async fn broken_off(harness: &Harness, name: &str, bytes: &Bytes, count: usize) {
    let (sender, receiver) = mpsc::channel(16);
    let mut client = harness.bytes().await;
    let call =
        ashlar_store::task::spawn(async move { client.write(ReceiverStream::new(receiver)).await });
    for message in messages(name, bytes, 0).into_iter().take(count) {
        sender.send(message).await.expect("sent");
    }
    let expected = i64::try_from(count * 100_000).expect("a size");
    while written(harness, name).await != (expected, false) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(call);
}

#[tokio::test]
async fn an_upload_that_broke_off_goes_on_where_it_was() {
    let harness = Harness::new().await;
    let bytes = noise(1_000_000);
    let blob = CasDigest::of(BLAKE3, &bytes);
    let name = upload_name(&blob, Compressor::Identity);
    broken_off(&harness, &name, &bytes, 4).await;
    assert_eq!(harness.get(&blob).await, None);
    // An offset that leaves something out.
    let result = write(&harness, messages(&name, &bytes, 500_000)).await;
    assert_eq!(result.expect_err("refused").code(), Code::InvalidArgument);
    assert_eq!(written(&harness, &name).await, (400_000, false));
    let size = write(&harness, messages(&name, &bytes, 400_000)).await;
    assert_eq!(size.expect("written"), 1_000_000);
    assert_eq!(harness.get(&blob).await, Some(bytes));
}

#[tokio::test]
async fn an_upload_can_begin_again_or_a_little_earlier() {
    let harness = Harness::new().await;
    let bytes = noise(1_000_000);
    let blob = CasDigest::of(BLAKE3, &bytes);
    let name = upload_name(&blob, Compressor::Identity);
    broken_off(&harness, &name, &bytes, 4).await;
    let size = write(&harness, messages(&name, &bytes, 250_000)).await;
    assert_eq!(size.expect("written"), 1_000_000);
    assert_eq!(harness.get(&blob).await, Some(bytes.clone()));

    let blob = CasDigest::of(SHA256, &bytes);
    let name = upload_name(&blob, Compressor::Identity);
    broken_off(&harness, &name, &bytes, 4).await;
    let size = write(&harness, messages(&name, &bytes, 0)).await;
    assert_eq!(size.expect("written"), 1_000_000);
    assert_eq!(harness.get(&blob).await, Some(bytes));
}

#[tokio::test]
async fn a_connection_takes_over_from_one_that_looks_alive() {
    let harness = Harness::new().await;
    let bytes = noise(500_000);
    let blob = CasDigest::of(BLAKE3, &bytes);
    let name = upload_name(&blob, Compressor::Identity);
    let (sender, receiver) = mpsc::channel(16);
    let mut client = harness.bytes().await;
    let first =
        ashlar_store::task::spawn(async move { client.write(ReceiverStream::new(receiver)).await });
    for message in messages(&name, &bytes, 0).into_iter().take(2) {
        sender.send(message).await.expect("sent");
    }
    while written(&harness, &name).await != (200_000, false) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let size = write(&harness, messages(&name, &bytes, 200_000)).await;
    assert_eq!(size.expect("written"), 500_000);
    let status = first.await.expect("ended").expect_err("taken over");
    assert_eq!(status.code(), Code::Aborted);
}

#[tokio::test]
async fn a_client_that_stops_early_learns_how_much_there_is() {
    let harness = Harness::new().await;
    let bytes = noise(300_000);
    let blob = CasDigest::of(BLAKE3, &bytes);
    let name = upload_name(&blob, Compressor::Identity);
    let mut two = messages(&name, &bytes, 0);
    two.truncate(2);
    let size = write(&harness, two).await;
    assert_eq!(size.expect("suspended"), 200_000);
    assert_eq!(written(&harness, &name).await, (200_000, false));
    let size = write(&harness, messages(&name, &bytes, 200_000)).await;
    assert_eq!(size.expect("written"), 300_000);
}

#[tokio::test]
async fn nothing_is_known_of_an_upload_that_never_was() {
    let harness = Harness::new().await;
    let blob = CasDigest::of(BLAKE3, b"never");
    let name = upload_name(&blob, Compressor::Identity);
    assert_eq!(written(&harness, &name).await, (0, false));
    let result = write(&harness, messages(&name, &noise(200), 100)).await;
    assert_eq!(result.expect_err("refused").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn many_uploads_of_one_blob_at_once_all_end_well() {
    let harness = Harness::new().await;
    let bytes = noise(700_000);
    let blob = CasDigest::of(BLAKE3, &bytes);
    let uploads = (0..12).map(|number| {
        let name =
            upload_name(&blob, Compressor::Identity).replace("0e11", &format!("{number:04}"));
        let messages = messages(&name, &bytes, 0);
        let harness = &harness;
        async move { write(harness, messages).await }
    });
    for size in futures::future::join_all(uploads).await {
        assert_eq!(size.expect("written"), 700_000);
    }
    assert_eq!(harness.get(&blob).await, Some(bytes));
}
