//! The commands that look after a farm.

use ashlar_store::BlobStore as _;

use crate::server::{Server, Stores, blob, file, read, write};

#[tokio::test(flavor = "multi_thread")]
async fn the_index_is_made_again_after_redis_was_lost() {
    let Some(stores) = Stores::start("the_index_is_made_again_after_redis_was_lost") else {
        return;
    };
    let server = Server::start(&stores, &[]);
    server.wait_for(200).await;
    let client = server.client().await;
    let blobs = [blob(1, 1000), blob(2, 2000), blob(3, 2_000_000)];
    let digests = blobs.clone().map(|(digest, _)| digest);
    for blob in &blobs {
        write(&client, blob).await.expect("written");
    }
    stores.redis.flush();
    assert_eq!(client.missing(&digests).await.expect("asked"), digests);
    let done = stores.run(&["reindex"]);
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{done:?}");
    assert!(text.starts_with("3 objects with 3 blobs"), "{text}");
    assert_eq!(client.missing(&digests).await.expect("asked"), []);
    for (digest, bytes) in &blobs {
        assert!(read(&client, digest).await.expect("read") == *bytes);
    }
}

#[test]
fn settings_are_checked_and_stores_are_tried_if_that_is_asked() {
    let Some(mut stores) = Stores::start("settings_are_checked_and_stores_are_tried") else {
        return;
    };
    let checked = stores.run(&["check-config", "--connect"]);
    let text = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{checked:?}");
    assert!(
        text.contains(&format!("objects = \"{}\"", stores.s3.url())),
        "{text}"
    );
    stores.s3.kill();
    let checked = stores.run(&["check-config"]);
    assert!(checked.status.success(), "{checked:?}");
    let checked = stores.run(&["check-config", "--connect"]);
    let text = String::from_utf8_lossy(&checked.stderr);
    assert_eq!(checked.status.code(), Some(1), "{text}");
    assert!(
        text.contains(&format!("error: {} cannot be used", stores.s3.url())),
        "{text}"
    );
}

#[test]
fn a_mistake_is_named() {
    let Some(stores) = Stores::start("a_mistake_is_named") else {
        return;
    };
    let directory = tempfile::tempdir().expect("a directory");
    let refused = |text: &str, arguments: &[&str]| {
        let config = file(directory.path(), "config.toml", text);
        let mut all = vec!["check-config", "--config", &config];
        all.extend(arguments);
        let output = stores.run(&all);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let text = refused("[object-options]\nendpiont = 'x'\n", &[]);
    assert!(text.contains("s3:// has no option `endpiont`"), "{text}");
    let text = refused("", &["--peer", "a:1"]);
    assert!(text.contains("--peer-token-file go together"), "{text}");
    let text = refused("", &["--objects-limit", "1MB"]);
    assert!(text.contains("give 64MB or more"), "{text}");
}
