//! What a client must survive, and what it must refuse.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ashlar_image::manifest::describe;
use ashlar_image::registry::{FetchedBlob, RegistryClient, RegistryError};
use ashlar_model::digest::BlobDigest;
use ashlar_model::media_type::OCI_MANIFEST;

use super::support::fake_server::{FakeServer, Reply, Request};
use super::support::sample::noise;
use super::support::{client, home, reference, settings, whole_text};

fn empty_manifest() -> Vec<u8> {
    let config = serde_json::to_string(&describe("x", b"{}")).unwrap();
    format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{config},"layers":[]}}"#)
        .into_bytes()
}

/// A server that gives `reply(n)` to its n-th request, counted from 0.
fn in_turn(reply: impl Fn(usize) -> Reply + Send + Sync + 'static) -> FakeServer {
    let count = AtomicUsize::new(0);
    FakeServer::start(move |_| reply(count.fetch_add(1, Ordering::SeqCst)))
}

#[tokio::test]
async fn a_manifest_with_another_digest_is_refused() {
    let server = FakeServer::start(|_| Reply::new(200).body(empty_manifest()));
    let wanted = BlobDigest::of(b"something else");
    let name = reference(&format!("{}/app@{wanted}", server.host()));
    let error = client().fetch_manifest(&name).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::WrongDigest { expected, .. } if expected == wanted),
        "{error}"
    );
}

#[tokio::test]
async fn a_manifest_that_is_not_what_the_registry_says_is_refused() {
    let server = FakeServer::start(|_| {
        Reply::new(200)
            .header("Docker-Content-Digest", BlobDigest::of(b"the real one"))
            .body(empty_manifest())
    });
    let name = reference(&format!("{}/app:1", server.host()));
    let error = client().fetch_manifest(&name).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::WrongDigest { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn manifests_that_are_too_large_or_no_images_are_refused() {
    for (body, cause) in [
        (vec![b' '; 5 << 20], "allowed"),
        (b"<html>log in</html>".to_vec(), "cannot be understood"),
        (br#"{"schemaVersion":1}"#.to_vec(), "schema version 1"),
    ] {
        let server = FakeServer::start(move |_| Reply::new(200).body(body.clone()));
        let name = reference(&format!("{}/app:1", server.host()));
        let error = client().fetch_manifest(&name).await.unwrap_err();
        assert!(matches!(error, RegistryError::Manifest { .. }), "{error}");
        assert!(whole_text(&error).contains(cause), "{}", whole_text(&error));
    }
}

#[tokio::test]
async fn a_registry_without_head_or_digest_header_is_asked_for_the_manifest() {
    let server = FakeServer::start(|request| match request.method.as_str() {
        "HEAD" => Reply::new(405),
        _ => Reply::new(200).body(empty_manifest()),
    });
    let name = reference(&format!("{}/app:1", server.host()));
    let descriptor = client().resolve(&name).await.unwrap();
    assert_eq!(descriptor, describe(OCI_MANIFEST, &empty_manifest()));
    assert_eq!(
        server.lines(),
        ["HEAD /v2/app/manifests/1", "GET /v2/app/manifests/1"]
    );
}

#[tokio::test]
async fn a_blob_with_another_digest_is_not_stored() {
    let server = FakeServer::start(|_| Reply::new(200).body("wrong"));
    let (_directory, home) = home();
    let descriptor = describe("x", b"right");
    let name = reference(&format!("{}/app", server.host()));
    let error = client()
        .fetch_blob(&name, &descriptor, &home, None)
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, RegistryError::WrongDigest { .. }), "{text}");
    assert!(
        text.contains(&BlobDigest::of(b"wrong").to_string()),
        "{text}"
    );
    assert!(!home.blobs().path(&descriptor.digest).exists());
    assert_eq!(partial_files(&home), 0);
    assert_eq!(
        server.lines().len(),
        1,
        "what is wrong is not asked for again"
    );
}

fn partial_files(home: &ashlar_store::home::Home) -> usize {
    std::fs::read_dir(home.root().join("partial"))
        .unwrap()
        .count()
}

#[tokio::test]
async fn a_blob_that_is_too_long_is_not_stored() {
    let server = FakeServer::start(|_| Reply::new(200).body("right and more"));
    let (_directory, home) = home();
    let descriptor = describe("x", b"right");
    let name = reference(&format!("{}/app", server.host()));
    let error = client()
        .fetch_blob(&name, &descriptor, &home, None)
        .await
        .unwrap_err();
    assert!(matches!(error, RegistryError::TooLong { .. }), "{error}");
    assert!(!home.blobs().path(&descriptor.digest).exists());
}

#[tokio::test]
async fn half_a_blob_is_completed_by_a_range() {
    let blob = noise(1, 300_000);
    let (sent, half) = (blob.clone(), blob.len() / 2);
    let server = FakeServer::start(move |request| {
        let reply = Reply::range(&sent, request);
        match request.range_start() {
            None => reply.cut_after(half),
            Some(_) => reply,
        }
    });
    let (_directory, home) = home();
    let name = reference(&format!("{}/app", server.host()));
    let descriptor = describe("x", &blob);
    let fetched = client()
        .fetch_blob(&name, &descriptor, &home, None)
        .await
        .unwrap();
    assert_eq!(fetched, FetchedBlob::Downloaded { received: 300_000 });
    assert!(home.blobs().read(&descriptor.digest).unwrap() == blob);
    let starts: Vec<_> = server.requests().iter().map(Request::range_start).collect();
    assert_eq!(starts, [None, Some(half)]);
}

#[tokio::test]
async fn a_later_process_goes_on_where_an_earlier_one_stopped() {
    let blob = noise(2, 300_000);
    let (sent, half) = (blob.clone(), blob.len() / 2);
    let server = FakeServer::start(move |request| {
        let reply = Reply::range(&sent, request);
        match request.range_start() {
            None => reply.cut_after(half),
            Some(start) if start < 200_000 => reply.cut_after(0),
            Some(_) => reply,
        }
    });
    let (_directory, home) = home();
    let name = reference(&format!("{}/app", server.host()));
    let descriptor = describe("x", &blob);
    let error = client()
        .fetch_blob(&name, &descriptor, &home, None)
        .await
        .unwrap_err();
    assert!(
        matches!(
            &error,
            RegistryError::BrokenDownload {
                received: 150_000,
                expected: 300_000,
                attempts: 4,
                ..
            }
        ),
        "{error}"
    );
    assert!(!home.blobs().has(&descriptor));

    let rest = blob.clone();
    let server = FakeServer::start(move |request| Reply::range(&rest, request));
    let name = reference(&format!("{}/app", server.host()));
    let fetched = client()
        .fetch_blob(&name, &descriptor, &home, None)
        .await
        .unwrap();
    assert_eq!(fetched, FetchedBlob::Downloaded { received: 150_000 });
    assert!(home.blobs().read(&descriptor.digest).unwrap() == blob);
}

#[tokio::test]
async fn damaged_remains_of_an_earlier_process_are_fetched_again() {
    let blob = noise(3, 100_000);
    let sent = blob.clone();
    let server = FakeServer::start(move |request| Reply::range(&sent, request));
    let (_directory, home) = home();
    let descriptor = describe("x", &blob);
    let remains = home.root().join("partial").join(descriptor.digest.to_hex());
    std::fs::write(remains, vec![0; 50_000]).unwrap();
    let name = reference(&format!("{}/app", server.host()));
    client()
        .fetch_blob(&name, &descriptor, &home, None)
        .await
        .unwrap();
    assert!(home.blobs().read(&descriptor.digest).unwrap() == blob);
    let starts: Vec<_> = server.requests().iter().map(Request::range_start).collect();
    assert_eq!(starts, [Some(50_000), None]);
}

#[tokio::test]
async fn a_server_without_ranges_sends_all_again() {
    let blob = noise(4, 100_000);
    let sent = blob.clone();
    let server = in_turn(move |n| {
        let reply = Reply::new(200).body(sent.clone());
        if n == 0 {
            reply.cut_after(60_000)
        } else {
            reply
        }
    });
    let (_directory, home) = home();
    let name = reference(&format!("{}/app", server.host()));
    let descriptor = describe("x", &blob);
    let fetched = client()
        .fetch_blob(&name, &descriptor, &home, None)
        .await
        .unwrap();
    assert_eq!(fetched, FetchedBlob::Downloaded { received: 160_000 });
    assert!(home.blobs().read(&descriptor.digest).unwrap() == blob);
}

#[tokio::test]
async fn progress_reaches_the_size_of_the_blob() {
    let blob = noise(5, 200_000);
    let sent = blob.clone();
    let server = FakeServer::start(move |request| Reply::range(&sent, request));
    let (_directory, home) = home();
    let name = reference(&format!("{}/app", server.host()));
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let report = Arc::clone(&seen);
    let progress: ashlar_image::registry::Progress =
        Arc::new(move |bytes| report.lock().unwrap().push(bytes));
    client()
        .fetch_blob(&name, &describe("x", &blob), &home, Some(&progress))
        .await
        .unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen.is_sorted());
    assert_eq!(seen.last(), Some(&200_000));
}

#[tokio::test]
async fn errors_that_may_pass_are_waited_for() {
    for status in [408, 429, 500, 502, 503, 504] {
        let server = in_turn(move |n| match n {
            0 => Reply::new(status),
            1 => Reply::new(status).header("Retry-After", 3600),
            _ => Reply::new(200).body(empty_manifest()),
        });
        let name = reference(&format!("{}/app:1", server.host()));
        client().fetch_manifest(&name).await.unwrap();
        assert_eq!(server.lines().len(), 3, "{status}");
    }
}

#[tokio::test]
async fn errors_that_do_not_pass_are_told_with_what_to_do() {
    for (status, requests, message, hint) in [
        (400, 1, "answers 400 to GET http://", ""),
        (
            401,
            1,
            "demands a login for team/app (UNAUTHORIZED: who are you)",
            "log in with",
        ),
        (403, 1, "denies access to team/app", "log in with"),
        (404, 1, "has no image tagged 1 in team/app", "spelling"),
        (429, 4, "refuses more requests for now", "log in at"),
        (500, 4, "answers 500 to GET http://", "try again later"),
        (501, 1, "answers 501", "try again later"),
    ] {
        let server = FakeServer::start(move |_| {
            Reply::new(status)
                .body(r#"{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}"#)
        });
        let name = reference(&format!("{}/team/app:1", server.host()));
        let error = client().fetch_manifest(&name).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(message), "{text}");
        assert!(text.contains(&server.host()), "{text}");
        assert!(text.contains("who are you"), "{text}");
        let told = error.hint().unwrap_or_default();
        assert!(told.contains(hint), "{status}: {told}");
        assert_eq!(server.lines().len(), requests, "{status}");
    }
}

#[tokio::test]
async fn a_registry_that_is_down_is_told() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let name = reference(&format!("127.0.0.1:{port}/app"));
    let error = client().resolve(&name).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::Unreachable { .. }),
        "{error}"
    );
    let text = whole_text(&error);
    assert!(text.contains("refused"), "{text}");
    assert!(text.contains(&port.to_string()), "{text}");
    assert!(error.hint().unwrap().contains("proxy"));
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let server = FakeServer::start(|_| Reply::new(200).after(Duration::from_secs(600)));
    let mut settings = settings();
    settings.idle_timeout = Duration::from_millis(200);
    settings.retry.attempts = 2;
    let name = reference(&format!("{}/app", server.host()));
    let begin = Instant::now();
    let error = RegistryClient::new(settings)
        .resolve(&name)
        .await
        .unwrap_err();
    assert!(
        whole_text(&error).contains("silent"),
        "{}",
        whole_text(&error)
    );
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn a_slow_server_is_not_given_up() {
    let blob = noise(6, 1000);
    let sent = blob.clone();
    let server = FakeServer::start(move |request| {
        // Each answer ends after some bytes, so that the whole takes longer than any timeout.
        let rest = sent.len() - request.range_start().unwrap_or(0);
        let reply = Reply::range(&sent, request).after(Duration::from_millis(100));
        if rest > 400 {
            reply.cut_after(400)
        } else {
            reply
        }
    });
    let mut settings = settings();
    settings.idle_timeout = Duration::from_millis(200);
    let (_directory, home) = home();
    let name = reference(&format!("{}/app", server.host()));
    RegistryClient::new(settings)
        .fetch_blob(&name, &describe("x", &blob), &home, None)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_blob_that_many_want_is_fetched_once() {
    let blob = noise(7, 100_000);
    let sent = blob.clone();
    let server = FakeServer::start(move |request| {
        Reply::range(&sent, request).after(Duration::from_millis(100))
    });
    let (directory, _) = home();
    let name = reference(&format!("{}/app", server.host()));
    let descriptor = describe("x", &blob);
    // Clients and stores of their own stand for processes of their own.
    let fetches = (0..6).map(|_| {
        let home = ashlar_store::home::Home::open(&directory.path().join("home")).unwrap();
        let (name, descriptor) = (name.clone(), descriptor.clone());
        async move { client().fetch_blob(&name, &descriptor, &home, None).await }
    });
    let fetched = futures::future::try_join_all(fetches).await.unwrap();
    let downloads = fetched
        .iter()
        .filter(|fetched| matches!(fetched, FetchedBlob::Downloaded { .. }))
        .count();
    assert_eq!(downloads, 1);
    assert_eq!(server.lines().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn at_most_four_requests_run_at_once() {
    let server = FakeServer::start(|request| {
        let seed = request.path[request.path.len() - 1..].len() as u64;
        Reply::new(404)
            .body(noise(seed, 10))
            .after(Duration::from_millis(50))
    });
    let client = client();
    let name = reference(&format!("{}/app", server.host()));
    let asked = (0..16_u8).map(|n| {
        let (client, name) = (client.clone(), name.clone());
        async move { client.blob_exists(&name, &BlobDigest::of(&[n])).await }
    });
    let found = futures::future::try_join_all(asked).await.unwrap();
    assert!(found.iter().all(|found| !found));
    assert_eq!(server.lines().len(), 16);
    assert_eq!(server.most_active(), 4);
}

#[tokio::test]
async fn a_download_that_is_called_off_leaves_its_bytes_to_the_next() {
    let blob = noise(8, 100_000);
    let sent = blob.clone();
    let server = FakeServer::start(move |request| {
        // Half comes at once, the rest never.
        let reply = Reply::range(&sent, request);
        match request.range_start() {
            None => reply
                .header("Content-Length", 100_000)
                .body(&sent[..50_000]),
            Some(_) => reply,
        }
    });
    let (_directory, home) = home();
    let name = reference(&format!("{}/app", server.host()));
    let descriptor = describe("x", &blob);
    let client = client();
    let begun = client.fetch_blob(&name, &descriptor, &home, None);
    tokio::time::timeout(Duration::from_millis(500), begun)
        .await
        .unwrap_err();
    let fetched = client
        .fetch_blob(&name, &descriptor, &home, None)
        .await
        .unwrap();
    assert_eq!(fetched, FetchedBlob::Downloaded { received: 50_000 });
}
