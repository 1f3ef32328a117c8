//! The commands that look after a farm.

use std::process::Command;
use std::time::{Duration, Instant};

use ashlar_model::cas::ActionKey;
use ashlar_store::BlobStore as _;
use ashlar_store::action_cache::{ActionCache as _, PutMode};

use crate::server::{Server, Stores, blob, file, read, result, write};

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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_invalidated_is_gone_from_all_servers() {
    let Some(stores) = Stores::start("what_is_invalidated_is_gone_from_all_servers") else {
        return;
    };
    let (first, second) = (Server::start(&stores, &[]), Server::start(&stores, &[]));
    first.wait_for(200).await;
    second.wait_for(200).await;
    let (one, two) = (first.client().await, second.client().await);
    let mut keys = Vec::new();
    for number in 0..50 {
        let (mut key, bytes) = result(&number.to_string(), &[]);
        if number % 2 == 0 {
            key.instance = format!("acme/pr/{}", number % 6);
        }
        one.put(&key, bytes, PutMode::Replace)
            .await
            .expect("stored");
        keys.push(key);
    }
    let found = async || {
        let found = two.get(&keys).await.expect("asked");
        found.into_iter().flatten().count()
    };
    assert_eq!(found().await, 50);
    let invalidate = |arguments: &[&str]| {
        let server = format!("grpc://127.0.0.1:{}", first.port);
        let mut command = Command::new(env!("CARGO_BIN_EXE_ashlar-cache"));
        command
            .env_clear()
            .args(["invalidate", "--server", &server]);
        let output = command.args(arguments).output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let wanted = ["--prefix", "acme/pr", "--reason", "a test"];
    let told = invalidate(&[&wanted[..], &["--dry-run"]].concat());
    assert_eq!(told, "would remove 25 of 50 results\n");
    assert_eq!(found().await, 50);
    assert_eq!(invalidate(&wanted), "removed 25 of 50 results\n");
    assert_eq!(found().await, 25);
    assert_eq!(invalidate(&wanted), "removed 0 of 25 results\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_are_read_again_while_a_server_runs() {
    let Some(stores) = Stores::start("namespaces_are_read_again_while_a_server_runs") else {
        return;
    };
    let directory = tempfile::tempdir().expect("a directory");
    let settings = |reads: &str| {
        let text = format!(
            "[[rule]]\nanonymous = true\n\
             grants = [{{ namespace = 'acme', rights = ['read', 'write'] }}]\n\
             [[namespace]]\nname = 'acme/*/pr/*'\n{reads}\n"
        );
        file(directory.path(), "cache.toml", &text)
    };
    let config = settings("");
    let server = Server::start(&stores, &["--config", &config]);
    server.wait_for(200).await;
    let client = server.client_of("acme/app/main").await;
    let (key, bytes) = result("build", &[]);
    let main = ActionKey {
        instance: "acme/app/main".to_owned(),
        ..key
    };
    client
        .put(&main, bytes, PutMode::Replace)
        .await
        .expect("stored");
    let pull = [ActionKey {
        instance: "acme/app/pr/17".to_owned(),
        ..main.clone()
    }];
    let is_found = async || client.get(&pull).await.expect("asked")[0].is_some();
    assert!(!is_found().await);
    let until = async |wanted: bool| {
        let begin = Instant::now();
        while is_found().await != wanted {
            assert!(
                begin.elapsed() < Duration::from_secs(20),
                "{}",
                server.log()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    settings("reads = ['acme/{1}/main']");
    until(true).await;
    // A mistake changes nothing, and is told.
    settings("reads = ['acme/{7}/main']");
    let begin = Instant::now();
    while !server.log().contains("what was there stays") {
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "{}",
            server.log()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(is_found().await);
    settings("");
    until(false).await;
}
