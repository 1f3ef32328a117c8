//! What one server was given, all have.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ashlar_store::action_cache::{ActionCache as _, PutMode};
use ashlar_store::{BlobStore as _, FaultKind};
use tokio::sync::mpsc;

use crate::server::{Server, Stores, blob, read, result, write};

#[tokio::test(flavor = "multi_thread")]
async fn servers_share_blobs_and_results_and_any_of_them_may_die() {
    let Some(stores) = Stores::start("servers_share_blobs_and_results") else {
        return;
    };
    let mut first = Server::start(&stores, &[]);
    let second = Server::start(&stores, &[]);
    assert!(
        first
            .wait_for(200)
            .await
            .contains("redis: ok\nobjects: ok\n")
    );
    let (one, two) = (first.client().await, second.client().await);
    let blobs = [
        blob(1, 100),
        blob(2, 300_000),
        blob(3, 3_000_000),
        blob(4, 20_000_000),
    ];
    let digests = blobs.clone().map(|(digest, _)| digest);
    assert_eq!(two.missing(&digests).await.expect("asked"), digests);
    for blob in &blobs {
        write(&one, blob).await.expect("written");
    }
    let (key, bytes) = result("build", &digests);
    one.put(&key, bytes.clone(), PutMode::Replace)
        .await
        .expect("stored");
    first.kill();
    assert_eq!(two.missing(&digests).await.expect("asked"), []);
    let keys = [key];
    assert_eq!(two.get(&keys).await.expect("asked"), [Some(bytes)]);
    for (digest, bytes) in &blobs {
        assert!(
            read(&two, digest).await.expect("read") == *bytes,
            "{digest}"
        );
    }
    // And one that comes later has it all.
    let third = Server::start(&stores, &[]);
    let three = third.client().await;
    assert_eq!(three.missing(&digests).await.expect("asked"), []);
    assert!(three.get(&keys).await.expect("asked")[0].is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_whose_blob_is_gone_is_a_miss_for_all() {
    let Some(stores) = Stores::start("a_result_whose_blob_is_gone_is_a_miss_for_all") else {
        return;
    };
    let first = Server::start(&stores, &[]);
    let second = Server::start(&stores, &[]);
    first.wait_for(200).await;
    second.wait_for(200).await;
    let (one, two) = (first.client().await, second.client().await);
    let gone = blob(1, 3_000_000);
    // Written elsewhere than where it is read, so that it is not near.
    write(&one, &gone).await.expect("written");
    let (key, bytes) = result("build", &[gone.0]);
    one.put(&key, bytes, PutMode::Replace)
        .await
        .expect("stored");
    for object in stores.s3.objects() {
        std::fs::remove_file(object).expect("removed");
    }
    let keys = [key];
    assert!(
        two.get(&keys).await.expect("asked")[0].is_some(),
        "nobody knows"
    );
    let fault = read(&two, &gone.0).await.expect_err("it is gone");
    assert_eq!(fault.kind, FaultKind::NotFound, "{fault}");
    for client in [&one, &two] {
        assert_eq!(client.get(&keys).await.expect("asked"), [None]);
        assert_eq!(client.missing(&[gone.0]).await.expect("asked"), [gone.0]);
    }
    write(&two, &gone).await.expect("written again");
    assert!(one.get(&keys).await.expect("asked")[0].is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_found_something_gone_learns_of_all_that_is() {
    let Some(stores) = Stores::start("who_found_something_gone_learns_of_all_that_is") else {
        return;
    };
    let server = Server::start(&stores, &[]);
    server.wait_for(200).await;
    let client = server.client().await;
    let mut blobs = Vec::new();
    for seed in 0..6 {
        // Each in an object of its own.
        blobs.push(blob(seed, 2_000_000));
        write(&client, &blobs[seed as usize])
            .await
            .expect("written");
    }
    let digests: Vec<_> = blobs.iter().map(|(digest, _)| *digest).collect();
    let (key, bytes) = result("build", &digests);
    client
        .put(&key, bytes, PutMode::Replace)
        .await
        .expect("stored");
    for object in stores.s3.objects().into_iter().skip(2) {
        std::fs::remove_file(object).expect("removed");
    }
    let keys = [key];
    assert_eq!(
        client.missing(&digests).await.expect("asked"),
        [],
        "it vouches"
    );
    assert!(client.get(&keys).await.expect("asked")[0].is_some());
    client
        .endpoint()
        .channel()
        .doubt()
        .store(true, Ordering::Relaxed);
    assert_eq!(client.get(&keys).await.expect("asked"), [None]);
    let missing = client.missing(&digests).await.expect("asked");
    let left = stores.s3.objects();
    assert!(
        missing.len() >= 4 && missing.len() < 6,
        "{missing:?}, {left:?}"
    );
    // Others are told the truth as well now.
    let other = server.client().await;
    assert_eq!(other.missing(&digests).await.expect("asked"), missing);
    for blob in blobs.iter().filter(|(digest, _)| missing.contains(digest)) {
        write(&other, blob).await.expect("written again");
    }
    assert!(client.get(&keys).await.expect("asked")[0].is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_while_it_writes_loses_nothing_that_it_acknowledged() {
    let Some(stores) = Stores::start("a_server_that_is_killed_while_it_writes") else {
        return;
    };
    let mut first = Server::start(&stores, &[]);
    first.wait_for(200).await;
    let client = Arc::new(first.client().await);
    let (acknowledged, mut written) = mpsc::unbounded_channel();
    let is_over = Arc::new(AtomicBool::new(false));
    let writers = (0..8_u32).map(|writer| {
        let (client, acknowledged) = (client.clone(), acknowledged.clone());
        let is_over = is_over.clone();
        ashlar_store::task::spawn(async move {
            for number in 0.. {
                let length = [1000, 50_000, 1_200_000, 9_000_000][(number % 4) as usize];
                let blob = blob(writer * 1000 + number, length);
                if is_over.load(Ordering::Relaxed) || write(&client, &blob).await.is_err() {
                    return;
                }
                drop(acknowledged.send(blob));
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut all = Vec::new();
    while all.len() < 40 {
        all.push(written.recv().await.expect("writers write"));
    }
    first.kill();
    is_over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("no panic");
    }
    while let Ok(more) = written.try_recv() {
        all.push(more);
    }
    let second = Server::start(&stores, &[]);
    second.wait_for(200).await;
    let client = second.client().await;
    for (digest, bytes) in &all {
        assert!(
            read(&client, digest).await.expect("read") == *bytes,
            "{digest}"
        );
    }
}
