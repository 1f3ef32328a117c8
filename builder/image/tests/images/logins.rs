//! Logging in, and keeping logins from those whom they do not concern.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ashlar_image::manifest::describe;
use ashlar_image::registry::{RegistryClient, RegistryError, RegistrySettings};
use ashlar_model::digest::BlobDigest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::support::debian_registry::{DebianRegistry, Options};
use super::support::fake_server::{FakeServer, Reply, Request};
use super::support::{client, home, reference, settings, whole_text};

/// Settings with a file that holds this entry for a registry.
fn with_entry(directory: &Path, registry: &str, entry: &str) -> RegistrySettings {
    let path = directory.join("auth.json");
    std::fs::write(&path, format!(r#"{{"auths":{{"{registry}":{entry}}}}}"#)).unwrap();
    let mut settings = settings();
    settings.environment.registry_auth_file = Some(path);
    settings
}

fn password_entry(user: &str, password: &str) -> String {
    let auth = STANDARD.encode(format!("{user}:{password}"));
    format!(r#"{{"auth":"{auth}"}}"#)
}

const LOGIN: Option<(&str, &str)> = Some(("me", "pass:word"));

#[tokio::test]
async fn debians_registry_takes_the_right_login_only() {
    let registry = DebianRegistry::with(&Options {
        login: LOGIN,
        ..Options::default()
    });
    let directory = tempfile::tempdir().unwrap();
    let name = reference(&format!("{}/app", registry.host()));
    let digest = BlobDigest::of(b"x");
    let ask = async |settings: RegistrySettings| {
        RegistryClient::new(settings)
            .blob_exists(&name, &digest)
            .await
    };

    let error = ask(settings()).await.unwrap_err();
    assert!(
        matches!(
            &error,
            RegistryError::Unauthorized {
                logged_in: false,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("docker login"));

    let wrong = with_entry(
        directory.path(),
        &registry.host(),
        &password_entry("me", "no"),
    );
    let error = ask(wrong).await.unwrap_err();
    assert!(
        matches!(
            &error,
            RegistryError::Unauthorized {
                logged_in: true,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("log in again"));

    let right = with_entry(
        directory.path(),
        &registry.host(),
        &password_entry("me", "pass:word"),
    );
    assert!(!ask(right).await.unwrap());
}

#[tokio::test]
async fn a_broken_login_file_is_named_when_the_registry_turns_us_away() {
    let registry = DebianRegistry::with(&Options {
        login: LOGIN,
        ..Options::default()
    });
    let directory = tempfile::tempdir().unwrap();
    let broken = with_entry(directory.path(), &registry.host(), "{");
    let name = reference(&format!("{}/app", registry.host()));
    let error = RegistryClient::new(broken)
        .resolve(&name)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("auth.json"), "{error}");
}

/// A registry with a token server in it: `/token` gives `token-N`, and only the latest is taken.
fn token_registry(accept: impl Fn(&Request) -> bool + Send + Sync + 'static) -> FakeServer {
    let issued = Arc::new(AtomicUsize::new(0));
    FakeServer::start(move |request| {
        if request.path.starts_with("/token") {
            if !accept(request) {
                return Reply::new(401).body(r#"{"details":"incorrect username or password"}"#);
            }
            let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
            return Reply::new(200)
                .body(format!(r#"{{"token":"token-{number}","expires_in":300}}"#));
        }
        let latest = format!("Bearer token-{}", issued.load(Ordering::SeqCst));
        if request.header("authorization") != Some(&latest) {
            let host = request.header("host").unwrap();
            return Reply::new(401).header(
                "WWW-Authenticate",
                format!(
                    r#"Bearer realm="http://{host}/token?x=1",service="the registry",scope="repository:app:pull""#
                ),
            );
        }
        Reply::new(200).header("Content-Length", 0)
    })
}

#[tokio::test]
async fn an_anonymous_token_is_fetched_once_and_used_again() {
    let server = token_registry(|request| request.header("authorization").is_none());
    let client = client();
    let name = reference(&format!("{}/app", server.host()));
    for blob in [b"a", b"b", b"c"] {
        assert!(
            client
                .blob_exists(&name, &BlobDigest::of(blob))
                .await
                .unwrap()
        );
    }
    let lines = server.lines();
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert_eq!(
        lines[1],
        "GET /token?x=1&service=the+registry&scope=repository%3Aapp%3Apull"
    );
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced() {
    let server = token_registry(|_| true);
    let (one, other) = (client(), client());
    let name = reference(&format!("{}/app", server.host()));
    let digest = BlobDigest::of(b"x");
    one.blob_exists(&name, &digest).await.unwrap();
    // Makes the first client's token stale.
    other.blob_exists(&name, &digest).await.unwrap();
    one.blob_exists(&name, &digest).await.unwrap();
    let tokens = server
        .lines()
        .iter()
        .filter(|line| line.starts_with("GET /token"))
        .count();
    assert_eq!(tokens, 3);
}

#[tokio::test]
async fn the_password_goes_to_the_token_server_and_not_to_the_registry() {
    let expected = format!("Basic {}", STANDARD.encode("me:secret"));
    let basic = expected.clone();
    let server = token_registry(move |request| {
        request.header("authorization") == Some(&basic) && request.path.contains("account=me")
    });
    let directory = tempfile::tempdir().unwrap();
    let name = reference(&format!("{}/app", server.host()));
    let digest = BlobDigest::of(b"x");
    let right = with_entry(
        directory.path(),
        &server.host(),
        &password_entry("me", "secret"),
    );
    RegistryClient::new(right)
        .blob_exists(&name, &digest)
        .await
        .unwrap();
    for request in server.requests() {
        let sent = request.header("authorization").unwrap_or_default();
        assert_eq!(sent == expected, request.path.starts_with("/token"));
    }

    let wrong = with_entry(
        directory.path(),
        &server.host(),
        &password_entry("me", "hunter2"),
    );
    let error = RegistryClient::new(wrong)
        .blob_exists(&name, &digest)
        .await
        .unwrap_err();
    let text = format!("{} {error:?}", whole_text(&error));
    assert!(text.contains("incorrect username or password"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    assert!(!text.contains(&STANDARD.encode("me:hunter2")), "{text}");
}

#[tokio::test]
async fn an_identity_token_is_exchanged() {
    let server = token_registry(|request| {
        request.method == "POST"
            && request.body
                == b"grant_type=refresh_token&client_id=ashlar&service=the%20registry\
                     &scope=repository%3Aapp%3Apull&refresh_token=refresh%2Fme"
    });
    let directory = tempfile::tempdir().unwrap();
    let name = reference(&format!("{}/app", server.host()));
    let entry = r#"{"identitytoken":"refresh/me"}"#;
    let settings = with_entry(directory.path(), &server.host(), entry);
    RegistryClient::new(settings)
        .blob_exists(&name, &BlobDigest::of(b"x"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_token_server_in_the_clear_gets_nothing() {
    for realm in [
        "http://auth.example.com/token",
        "ftp://127.0.0.1/token",
        "nonsense",
    ] {
        let server = FakeServer::start(move |_| {
            Reply::new(401).header("WWW-Authenticate", format!(r#"Bearer realm="{realm}""#))
        });
        let name = reference(&format!("{}/app:1", server.host()));
        let error = client().resolve(&name).await.unwrap_err();
        assert!(matches!(error, RegistryError::Protocol { .. }), "{error}");
        assert!(error.to_string().contains("token server"), "{error}");
    }
}

#[tokio::test]
async fn logins_do_not_follow_redirects_to_other_hosts() {
    let blob = b"the blob".to_vec();
    let sent = blob.clone();
    let storage = FakeServer::start(move |request| Reply::range(&sent, request));
    let elsewhere = format!("http://{}/storage?signature=1", storage.host());
    let server = FakeServer::start(move |request| match request.header("authorization") {
        None => Reply::new(401).header("WWW-Authenticate", r#"Basic realm="x""#),
        Some(_) => Reply::new(307).header("Location", &elsewhere),
    });
    let directory = tempfile::tempdir().unwrap();
    let settings = with_entry(
        directory.path(),
        &server.host(),
        &password_entry("me", "secret"),
    );
    let (_home_directory, home) = home();
    let name = reference(&format!("{}/app", server.host()));
    RegistryClient::new(settings)
        .fetch_blob(&name, &describe("x", &blob), &home, None)
        .await
        .unwrap();
    let requests = storage.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].header("authorization"), None);
}

#[tokio::test]
async fn redirects_without_end_are_given_up() {
    let server = FakeServer::start(|request| Reply::new(307).header("Location", &request.path));
    let name = reference(&format!("{}/app:1", server.host()));
    let error = client().resolve(&name).await.unwrap_err();
    assert!(
        whole_text(&error).contains("redirects too often"),
        "{}",
        whole_text(&error)
    );
    assert!(server.lines().len() < 15);
}
