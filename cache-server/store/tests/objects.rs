//! Blobs in an object store, over a real S3 server, also with their index in a real Redis.

use std::sync::Arc;
use std::time::Duration;

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_store::blob_store::{ByteRange, ByteStream, collect, once};
use ashlar_store::objects::address::{ObjectOptions, open};
use ashlar_store::objects::bucket::Bucket;
use ashlar_store::objects::index::BlobIndex as _;
use ashlar_store::objects::memory_index::MemoryIndex;
use ashlar_store::objects::reindex::reindex;
use ashlar_store::objects::{MEMORY, ObjectBlobs};
use ashlar_store::redis::index::RedisIndex;
use ashlar_store::redis::{Redis, RedisSettings};
use ashlar_store::{BlobStore as _, Fault, FaultKind, clock, conformance};
use ashlar_test_support::redis::{RedisCluster, RedisServer};
use ashlar_test_support::s3::S3;
use ashlar_test_support::s3_faults::{Fault as S3Fault, Plan, S3Faults};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tempfile::TempDir;

/// Blobs in the bucket of a server that is called on a port, and the index of them.
fn over(s3: &S3, port: u16) -> (Arc<ObjectBlobs>, Arc<MemoryIndex>) {
    let index = Arc::new(MemoryIndex::new(clock::system()));
    (over_with(s3, port, index.clone()), index)
}

fn over_with(s3: &S3, port: u16, index: Arc<MemoryIndex>) -> Arc<ObjectBlobs> {
    let options: ObjectOptions = S3::options(port).into_iter().collect();
    let store = open(&s3.url(), &options, []).expect("an object store");
    let bucket = Bucket::new(store, Arc::default());
    Arc::new(ObjectBlobs::new(bucket, index, MEMORY))
}

/// A store for the template. Where there is no S3 server, which is noted, files take its place.
async fn fresh() -> ((Option<S3>, TempDir), Arc<ObjectBlobs>) {
    let directory = tempfile::tempdir().expect("a directory");
    if let Some(s3) = S3::start("objects") {
        let (blobs, _) = over(&s3, s3.port());
        return ((Some(s3), directory), blobs);
    }
    let index = Arc::new(MemoryIndex::new(clock::system()));
    let address = format!("file://{}", directory.path().display());
    let files = open(&address, &ObjectOptions::new(), []).expect("a store");
    let bucket = Bucket::new(files, Arc::default());
    let blobs = ObjectBlobs::new(bucket, index, MEMORY);
    ((None, directory), Arc::new(blobs))
}

conformance::blob_store_tests!(s3, fresh());

/// What must live as long as a store over Redis: Redis, and what holds the objects.
type Held<R> = (R, Option<S3>, TempDir);

/// Blobs whose index is in a Redis.
fn with_index_in<R>(redis: R, url: String) -> (Held<R>, Arc<ObjectBlobs>) {
    let directory = tempfile::tempdir().expect("a directory");
    let s3 = S3::start("objects");
    let (address, options) = match &s3 {
        Some(s3) => (s3.url(), S3::options(s3.port()).into_iter().collect()),
        None => {
            let address = format!("file://{}", directory.path().display());
            (address, ObjectOptions::new())
        }
    };
    let store = open(&address, &options, []).expect("an object store");
    let client = Redis::new(RedisSettings::new(url), Arc::default()).expect("an address");
    let index = Arc::new(RedisIndex::new(client));
    let bucket = Bucket::new(store, Arc::default());
    let blobs = ObjectBlobs::new(bucket, index, MEMORY);
    ((redis, s3, directory), Arc::new(blobs))
}

async fn over_one_redis() -> (Held<RedisServer>, Arc<ObjectBlobs>) {
    let redis = RedisServer::start();
    let url = redis.url();
    with_index_in(redis, url)
}

async fn over_a_cluster() -> (Held<RedisCluster>, Arc<ObjectBlobs>) {
    let cluster = RedisCluster::start();
    let url = cluster.url();
    with_index_in(cluster, url)
}

conformance::blob_store_tests!(redis, over_one_redis());
conformance::blob_store_tests!(cluster, over_a_cluster());

fn blob(seed: u8, length: usize) -> (CasDigest, Bytes) {
    let mut bytes = vec![0; length];
    let mut noise = blake3::Hasher::new().update(&[seed]).finalize_xof();
    noise.fill(&mut bytes);
    let bytes = Bytes::from(bytes);
    (CasDigest::of(DigestFunction::Blake3, &bytes), bytes)
}

async fn read(blobs: &ObjectBlobs, blob: &CasDigest) -> Result<Bytes, Fault> {
    collect(blobs.read(blob, ByteRange::WHOLE).await?, blob.size).await
}

/// Waits until nothing is left of uploads that were called off.
async fn wait_for_the_end_of_uploads(s3: &S3) {
    let mut left = Vec::new();
    for _ in 0..1000 {
        left = s3.unfinished_uploads();
        if left.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(left.is_empty(), "still there: {left:?}");
}

const LARGE: usize = 20 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_large_blob_that_is_called_off_or_wrong() {
    let Some(s3) = S3::start("nothing_is_left_of_a_large_blob_that_is_called_off_or_wrong") else {
        return;
    };
    let (blobs, _) = over(&s3, s3.port());
    let (digest, bytes) = blob(1, LARGE);
    let pieces = |bytes: Bytes| -> ByteStream {
        let pieces = (0..bytes.len()).step_by(1 << 20);
        let end = bytes.len();
        let pieces = pieces.map(move |at| Ok(bytes.slice(at..end.min(at + (1 << 20)))));
        Box::pin(stream::iter(pieces.collect::<Vec<_>>()))
    };
    // Dropped once parts are under way.
    let stalls = pieces(bytes.slice(..LARGE - 5)).chain(stream::pending());
    let mut write = blobs.write(&digest, Box::pin(stalls));
    let begun = async {
        while s3.unfinished_uploads().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        written = &mut write => panic!("{written:?}"),
        () = begun => {}
    }
    drop(write);
    wait_for_the_end_of_uploads(&s3).await;
    // Wrong in the last byte.
    let mut wrong = bytes.to_vec();
    wrong[LARGE - 1] ^= 1;
    let fault = blobs
        .write(&digest, pieces(wrong.into()))
        .await
        .expect_err("wrong");
    assert_eq!(fault.kind, FaultKind::Invalid);
    wait_for_the_end_of_uploads(&s3).await;
    assert!(s3.objects().is_empty(), "{:?}", s3.objects());
    blobs
        .write(&digest, pieces(bytes.clone()))
        .await
        .expect("written");
    assert!(read(&blobs, &digest).await.expect("read") == bytes);
    assert!(s3.unfinished_uploads().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_for_a_moment_is_asked_again() {
    let Some(s3) = S3::start("a_server_that_refuses_for_a_moment_is_asked_again") else {
        return;
    };
    let faults = S3Faults::before(s3.port());
    let (blobs, _) = over(&s3, faults.port());
    faults.set(Plan::Each(S3Fault::SlowDown));
    let (digest, bytes) = blob(1, 1000);
    let calm = async {
        while faults.requests() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        faults.calm();
    };
    let (written, ()) = tokio::join!(blobs.write(&digest, once(bytes.clone())), calm);
    written.expect("written");
    assert_eq!(read(&blobs, &digest).await.expect("read"), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_no_miss() {
    let Some(mut s3) = S3::start("a_server_that_is_away_is_no_miss") else {
        return;
    };
    let (blobs, _) = over(&s3, s3.port());
    let (digest, bytes) = blob(1, 1000);
    let (other, other_bytes) = blob(2, 1000);
    blobs
        .write(&digest, once(bytes.clone()))
        .await
        .expect("written");
    s3.kill();
    let fault = read(&blobs, &digest).await.expect_err("nobody is there");
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
    let fault = blobs
        .write(&other, once(other_bytes))
        .await
        .expect_err("nobody");
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
    let fault = blobs.bucket().ready().await.expect_err("nobody");
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
    assert_eq!(blobs.missing(&[digest]).await.expect("asked"), []);
    s3.launch();
    assert_eq!(read(&blobs, &digest).await.expect("read"), bytes);
    blobs.bucket().ready().await.expect("ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_gone_is_no_miss() {
    let Some(s3) = S3::start("a_bucket_that_is_gone_is_no_miss") else {
        return;
    };
    let (blobs, _) = over(&s3, s3.port());
    let (digest, bytes) = blob(1, 1000);
    blobs
        .write(&digest, once(bytes.clone()))
        .await
        .expect("written");
    let elsewhere = s3.bucket().with_file_name("moved");
    std::fs::rename(s3.bucket(), &elsewhere).expect("moved");
    let missing = read(&blobs, &digest).await.expect_err("gone");
    std::fs::rename(elsewhere, s3.bucket()).expect("moved back");
    if missing.kind == FaultKind::Unavailable {
        assert_eq!(read(&blobs, &digest).await.expect("read"), bytes);
    } else {
        // This server does not tell a bucket that is not there from an object that is not.
        assert_eq!(missing.kind, FaultKind::NotFound, "{missing}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_server_does_nobody_gets_wrong_bytes_and_nothing_acknowledged_is_lost() {
    let Some(s3) = S3::start("whatever_the_server_does") else {
        return;
    };
    for seed in 1..=4 {
        let faults = S3Faults::before(s3.port());
        let (blobs, index) = over(&s3, faults.port());
        faults.set(Plan::Seeded(seed));
        let mut acknowledged = Vec::new();
        for number in 0..24 {
            let length = [100, 60_000, 1_500_000][usize::from(number) % 3];
            let (digest, bytes) = blob(number, length + usize::from(number));
            match blobs.write(&digest, once(bytes.clone())).await {
                Ok(()) => acknowledged.push((digest, bytes)),
                Err(fault) => assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}"),
            }
        }
        assert!(acknowledged.len() > 12, "{} of 24", acknowledged.len());
        let kept = index.totals().await.expect("totals").blobs;
        for (digest, bytes) in &acknowledged {
            match read(&blobs, digest).await {
                Ok(read) => assert!(read == *bytes, "{digest}"),
                Err(fault) => assert!(
                    matches!(fault.kind, FaultKind::Unavailable | FaultKind::NotFound),
                    "{fault}"
                ),
            }
        }
        assert!(kept >= acknowledged.len() as u64);
        assert!(faults.faults() > 0);
        drop(faults);
        // What the server said is not there is forgotten; all else is as it was written. And all
        // that was acknowledged lies in the bucket.
        let blobs = over_with(&s3, s3.port(), index);
        let found = reindex(&blobs, clock::system()(), |_| {}).await;
        found.expect("reindexed");
        for (digest, bytes) in &acknowledged {
            assert!(read(&blobs, digest).await.expect("read") == *bytes);
        }
    }
}
