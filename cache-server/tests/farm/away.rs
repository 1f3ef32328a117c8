//! Stores that are away, and come back.

use ashlar_store::action_cache::{ActionCache as _, PutMode};
use ashlar_store::{BlobStore as _, FaultKind};

use crate::server::{Server, Stores, blob, read, result, write};

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_the_server_is_not_ready_and_says_so_and_goes_on_later() {
    let Some(mut stores) = Stores::start("while_redis_is_away") else {
        return;
    };
    let server = Server::start(&stores, &[]);
    server.wait_for(200).await;
    let client = server.client().await;
    let before = blob(1, 1000);
    write(&client, &before).await.expect("written");
    let (key, bytes) = result("build", &[before.0]);
    client
        .put(&key, bytes.clone(), PutMode::Replace)
        .await
        .expect("stored");
    let keys = [key];
    stores.redis.kill();
    let text = server.wait_for(503).await;
    assert!(text.starts_with("not ready: redis\nredis: away"), "{text}");
    assert!(text.contains("objects: ok\n"), "{text}");
    let fault = client.missing(&[before.0]).await.expect_err("nobody knows");
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
    let fault = client.get(&keys).await.expect_err("an outage is no miss");
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
    assert_eq!(server.page("/healthz").0, 200);
    stores.redis.restart_empty();
    server.wait_for(200).await;
    // Redis came back with nothing: misses, and nothing wrong.
    assert_eq!(client.get(&keys).await.expect("asked"), [None]);
    write(&client, &before).await.expect("written");
    client
        .put(&keys[0], bytes, PutMode::Replace)
        .await
        .expect("stored");
    assert!(client.get(&keys).await.expect("asked")[0].is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_s3_is_away_the_server_is_not_ready_and_what_is_near_is_read() {
    let Some(mut stores) = Stores::start("while_s3_is_away") else {
        return;
    };
    let (server, other) = (Server::start(&stores, &[]), Server::start(&stores, &[]));
    server.wait_for(200).await;
    other.wait_for(200).await;
    let (client, elsewhere) = (server.client().await, other.client().await);
    let (near, far) = (blob(1, 1000), blob(2, 1000));
    write(&client, &near).await.expect("written");
    write(&elsewhere, &far).await.expect("written");
    stores.s3.kill();
    let fault = read(&client, &far.0).await.expect_err("away");
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
    assert_eq!(read(&client, &near.0).await.expect("near"), near.1);
    let fault = write(&client, &blob(3, 1000)).await.expect_err("away");
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
    let text = server.wait_for(503).await;
    assert!(text.contains("redis: ok\nobjects: away"), "{text}");
    // It is known what there is; only the bytes cannot be had.
    assert_eq!(client.missing(&[far.0]).await.expect("asked"), []);
    stores.s3.launch();
    server.wait_for(200).await;
    assert_eq!(read(&client, &far.0).await.expect("read"), far.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_before_its_stores() {
    let Some(mut stores) = Stores::start("a_server_starts_before_its_stores") else {
        return;
    };
    stores.redis.kill();
    stores.s3.kill();
    let server = Server::start(&stores, &[]);
    let text = server.wait_for(503).await;
    assert!(text.starts_with("not ready: redis, objects\n"), "{text}");
    stores.redis.restart();
    stores.s3.launch();
    server.wait_for(200).await;
    let client = server.client().await;
    let blob = blob(1, 1000);
    write(&client, &blob).await.expect("written");
    assert_eq!(read(&client, &blob.0).await.expect("read"), blob.1);
}
