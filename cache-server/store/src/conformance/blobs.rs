//! What every [`BlobStore`] must do.

use std::time::Duration;

use ashlar_model::cas::{CasDigest, DigestFunction};
use bytes::{Bytes, BytesMut};
use futures::future::join_all;
use futures::{FutureExt as _, StreamExt as _, stream};

use crate::blob_store::{BlobStore, ByteRange, ByteStream, collect, once};
use crate::fault::{Fault, FaultKind};

const FUNCTION: DigestFunction = DigestFunction::Blake3;

/// Bytes that no two seeds have in common, and that no compression makes small.
fn noise(seed: u64, length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    let mut output = blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof();
    output.fill(&mut bytes);
    bytes.into()
}

fn blob(seed: u64, length: usize) -> (CasDigest, Bytes) {
    let bytes = noise(seed, length);
    (CasDigest::of(FUNCTION, &bytes), bytes)
}

/// The bytes in pieces of `size`.
fn in_pieces(bytes: &Bytes, size: usize) -> ByteStream {
    let mut pieces = Vec::new();
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        let piece = rest.split_to(size.min(rest.len()));
        pieces.push(Ok(piece));
    }
    Box::pin(stream::iter(pieces))
}

async fn write(store: &impl BlobStore, digest: &CasDigest, bytes: &Bytes) {
    let written = store.write(digest, once(bytes.clone())).await;
    written.expect("write");
}

async fn read_part(
    store: &impl BlobStore,
    digest: &CasDigest,
    range: ByteRange,
) -> Result<Bytes, Fault> {
    collect(store.read(digest, range).await?, digest.size).await
}

async fn read(store: &impl BlobStore, digest: &CasDigest) -> Result<Bytes, Fault> {
    read_part(store, digest, ByteRange::WHOLE).await
}

async fn missing(store: &impl BlobStore, digests: &[CasDigest]) -> Vec<CasDigest> {
    store.missing(digests).await.expect("missing")
}

async fn assert_absent(store: &impl BlobStore, digest: &CasDigest) {
    assert_eq!(missing(store, &[*digest]).await, vec![*digest]);
    let fault = read(store, digest).await.expect_err("it is not there");
    assert_eq!(fault.kind, FaultKind::NotFound, "{fault}");
}

/// An empty store has nothing, and says so in the order of the question.
pub async fn nothing_is_there_at_first(store: impl BlobStore) {
    let digests: Vec<_> = (0..20).map(|seed| blob(seed, 100).0).collect();
    assert_eq!(missing(&store, &digests).await, digests);
    assert_eq!(missing(&store, &[]).await, vec![]);
    assert_absent(&store, &digests[0]).await;
}

/// Blobs of all sizes come back byte for byte.
pub async fn what_is_written_is_read(store: impl BlobStore) {
    const KIB: usize = 1 << 10;
    const MIB: usize = 1 << 20;
    for size in [
        1,
        100,
        64 * KIB - 1,
        64 * KIB,
        64 * KIB + 1,
        MIB - 1,
        MIB,
        MIB + 1,
        2 * MIB,
        5 * MIB + 7,
    ] {
        let (digest, bytes) = blob(size as u64, size);
        write(&store, &digest, &bytes).await;
        assert_eq!(missing(&store, &[digest]).await, vec![], "{size}");
        let back = read(&store, &digest).await.expect("read");
        assert!(back == bytes, "{size} bytes came back changed");
    }
}

/// Parts begin and end where they were asked to, at every kind of boundary.
pub async fn parts_are_what_was_asked_for(store: impl BlobStore) {
    for size in [1000, 3 * (1 << 20) + 11] {
        let (digest, bytes) = blob(1, size);
        write(&store, &digest, &bytes).await;
        let near = size - size / 3;
        for (offset, limit) in [
            (0, None),
            (0, Some(0)),
            (0, Some(1)),
            (0, Some(size)),
            (0, Some(size + 100)),
            (1, None),
            (near, None),
            (near, Some(10)),
            (size / 3, Some(size / 2)),
            (size - 1, None),
            (size - 1, Some(100)),
            (size, None),
            (size, Some(5)),
        ] {
            let range = ByteRange {
                offset: offset as u64,
                limit: limit.map(|limit| limit as u64),
            };
            let end = limit.map_or(size, |limit| size.min(offset + limit));
            let part = read_part(&store, &digest, range).await.expect("read");
            assert!(part == bytes[offset..end], "{range:?} of {size}");
        }
        let range = ByteRange {
            offset: size as u64 + 1,
            limit: None,
        };
        let fault = read_part(&store, &digest, range)
            .await
            .expect_err("it begins behind the end");
        assert_eq!(fault.kind, FaultKind::Invalid, "{fault}");
    }
}

/// Nobody need write the empty blob; whoever does may.
pub async fn the_empty_blob_is_always_there(store: impl BlobStore) {
    for function in [DigestFunction::Blake3, DigestFunction::Sha256] {
        let empty = CasDigest::of(function, b"");
        assert_eq!(missing(&store, &[empty]).await, vec![]);
        assert_eq!(read(&store, &empty).await.expect("read"), Bytes::new());
        write(&store, &empty, &Bytes::new()).await;
        let answers = store.read_many(&[empty]).await;
        assert!(matches!(&answers[..], [Ok(bytes)] if bytes.is_empty()));
        let wrong = CasDigest {
            hash: [1; 32],
            ..empty
        };
        let fault = store
            .write(&wrong, once(Bytes::new()))
            .await
            .expect_err("the hash is another");
        assert_eq!(fault.kind, FaultKind::Invalid, "{fault}");
    }
}

/// Other bytes, too few and too many are refused, one by one and together.
pub async fn wrong_bytes_are_refused_and_not_kept(store: impl BlobStore) {
    for size in [10, 100_000, 3_000_000] {
        let (digest, bytes) = blob(1, size);
        let mut changed = BytesMut::from(&bytes[..]);
        changed[size / 2] ^= 1;
        let mut longer = BytesMut::from(&bytes[..]);
        longer.extend_from_slice(b"x");
        for wrong in [
            changed.freeze(),
            bytes.slice(..size - 1),
            longer.freeze(),
            Bytes::new(),
        ] {
            let fault = store
                .write(&digest, in_pieces(&wrong, 65_536))
                .await
                .expect_err("the bytes are wrong");
            assert_eq!(fault.kind, FaultKind::Invalid, "{fault}");
            assert_absent(&store, &digest).await;
        }
        write(&store, &digest, &bytes).await;
        assert!(read(&store, &digest).await.expect("read") == bytes);
    }
    let (right, right_bytes) = blob(5, 50);
    let (wrong, _) = blob(6, 50);
    let answers = store
        .write_many(vec![(wrong, right_bytes.clone()), (right, right_bytes)])
        .await;
    assert!(
        matches!(&answers[..], [Err(fault), Ok(())] if fault.kind == FaultKind::Invalid),
        "{answers:?}"
    );
    assert_eq!(missing(&store, &[wrong, right]).await, vec![wrong]);
}

/// A stream that fails midway ends the write, whose answer is a fault.
pub async fn a_broken_stream_leaves_nothing(store: impl BlobStore) {
    for size in [1000, 3_000_000] {
        let (digest, bytes) = blob(1, size);
        let broken = in_pieces(&bytes.slice(..size / 2), 65_536).chain(stream::once(async {
            Err(Fault::new(FaultKind::Unavailable, "the sender went away"))
        }));
        let written = store.write(&digest, Box::pin(broken)).await;
        written.expect_err("the stream failed");
        assert_absent(&store, &digest).await;
        write(&store, &digest, &bytes).await;
        assert!(read(&store, &digest).await.expect("read") == bytes);
    }
}

/// Whoever drops a write takes it back.
pub async fn dropped_writes_leave_nothing(store: impl BlobStore) {
    for size in [1000, 3_000_000] {
        let (digest, bytes) = blob(1, size);
        let stalls = in_pieces(&bytes.slice(..size / 2), 65_536).chain(stream::pending());
        let stalled = store.write(&digest, Box::pin(stalls));
        tokio::time::timeout(Duration::from_millis(50), stalled)
            .await
            .expect_err("it waits for the rest");
        assert_absent(&store, &digest).await;
        write(&store, &digest, &bytes).await;
        assert!(read(&store, &digest).await.expect("read") == bytes);
    }
}

/// Whoever drops a read leaves the blob as it was.
pub async fn dropped_reads_do_no_harm(store: impl BlobStore) {
    let (digest, bytes) = blob(1, 4_000_000);
    write(&store, &digest, &bytes).await;
    for _ in 0..20 {
        drop(store.read(&digest, ByteRange::WHOLE).now_or_never());
        let mut stream = store.read(&digest, ByteRange::WHOLE).await.expect("read");
        let first = stream.next().await.expect("a piece").expect("bytes");
        assert!(bytes.starts_with(&first));
        drop(stream);
    }
    assert!(read(&store, &digest).await.expect("read") == bytes);
}

/// Twice is as once.
pub async fn writing_again_is_no_error(store: impl BlobStore) {
    for size in [10, 2_000_000] {
        let (digest, bytes) = blob(1, size);
        write(&store, &digest, &bytes).await;
        write(&store, &digest, &bytes).await;
        let answers = store
            .write_many(vec![(digest, bytes.clone()), (digest, bytes.clone())])
            .await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert!(read(&store, &digest).await.expect("read") == bytes);
    }
}

/// Neither the hash alone nor the function alone makes a name.
pub async fn a_blob_is_named_by_hash_size_and_function(store: impl BlobStore) {
    let (digest, bytes) = blob(1, 1000);
    write(&store, &digest, &bytes).await;
    let other_size = CasDigest {
        size: 999,
        ..digest
    };
    let other_function = CasDigest {
        function: DigestFunction::Sha256,
        ..digest
    };
    assert_absent(&store, &other_size).await;
    assert_absent(&store, &other_function).await;
    let sha256 = CasDigest::of(DigestFunction::Sha256, &bytes);
    assert_absent(&store, &sha256).await;
    write(&store, &sha256, &bytes).await;
    assert!(read(&store, &sha256).await.expect("read") == bytes);
}

/// Writers of one blob do not disturb each other.
pub async fn many_write_the_same_at_once(store: impl BlobStore) {
    for size in [100, 2_500_000] {
        let (digest, bytes) = blob(1, size);
        let writers = (0..8).map(|_| store.write(&digest, in_pieces(&bytes, 100_000)));
        for written in join_all(writers).await {
            written.expect("write");
        }
        assert!(read(&store, &digest).await.expect("read") == bytes);
    }
}

/// Writers of different blobs do not mix them up.
pub async fn many_write_different_ones_at_once(store: impl BlobStore) {
    let blobs: Vec<_> = (0..60_u64)
        .map(|seed| blob(seed, 1 + usize::try_from(seed * seed).expect("small") * 500))
        .collect();
    let store = &store;
    let writers = blobs.iter().map(|(digest, bytes)| async move {
        let written = store.write(digest, in_pieces(bytes, 50_000)).await;
        written.expect("write");
        let back = read(store, digest).await.expect("read");
        assert!(back == *bytes, "{digest}");
    });
    join_all(writers).await;
    let digests: Vec<_> = blobs.iter().map(|(digest, _)| *digest).collect();
    assert_eq!(missing(store, &digests).await, vec![]);
}

/// 20 MB come and go in pieces.
pub async fn a_large_blob_streams(store: impl BlobStore) {
    let (digest, bytes) = blob(1, 20_000_003);
    let written = store.write(&digest, in_pieces(&bytes, 77_777)).await;
    written.expect("write");
    assert!(read(&store, &digest).await.expect("read") == bytes);
}

/// Two thousand at once, absent ones among them: each answer is at its question's place.
pub async fn many_small_ones_keep_their_order(store: impl BlobStore) {
    let blobs: Vec<_> = (0..2000)
        .map(|seed| blob(seed, 10 + usize::try_from(seed % 300).expect("small")))
        .collect();
    let there = |seed: usize| seed % 3 != 1;
    let stored = blobs.iter().enumerate().filter(|(seed, _)| there(*seed));
    let answers = store
        .write_many(stored.map(|(_, blob)| blob.clone()).collect())
        .await;
    assert!(answers.iter().all(Result::is_ok));
    let digests: Vec<_> = blobs.iter().map(|(digest, _)| *digest).collect();
    let expected: Vec<_> = (0..2000).filter(|seed| !there(*seed)).collect();
    let expected: Vec<_> = expected.iter().map(|seed| digests[*seed]).collect();
    assert_eq!(missing(&store, &digests).await, expected);
    let answers = store.read_many(&digests).await;
    assert_eq!(answers.len(), blobs.len());
    for (seed, (answer, (_, bytes))) in answers.iter().zip(&blobs).enumerate() {
        match answer {
            Ok(back) => assert!(there(seed) && back == bytes, "{seed}"),
            Err(fault) => assert!(
                !there(seed) && fault.kind == FaultKind::NotFound,
                "{seed}: {fault}"
            ),
        }
    }
}
