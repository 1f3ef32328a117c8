//! Proxies from the environment.

use ashlar_image::registry::RegistryClient;
use ashlar_model::digest::BlobDigest;

use super::support::fake_server::{FakeServer, Reply};
use super::support::{reference, settings};

/// A proxy that does not tunnel, and answers for every registry itself.
fn proxy() -> FakeServer {
    FakeServer::start(|request| match request.method.as_str() {
        "CONNECT" => Reply::new(405),
        _ => Reply::new(200),
    })
}

async fn ask(proxy: &FakeServer, registry: &str, no_proxy: &str) -> bool {
    let mut settings = settings();
    settings.retry.attempts = 1;
    settings.insecure = vec![registry.to_owned()];
    let url = format!("http://user:secret@{}", proxy.host());
    settings.environment.http.http_proxy = Some(url.clone());
    settings.environment.http.https_proxy = Some(url);
    settings.environment.http.no_proxy = Some(no_proxy.to_owned());
    let name = reference(&format!("{registry}/app"));
    RegistryClient::new(settings)
        .blob_exists(&name, &BlobDigest::of(b"x"))
        .await
        .unwrap_or(false)
}

#[tokio::test]
async fn registries_are_reached_through_the_proxy() {
    let proxy = proxy();
    assert!(ask(&proxy, "registry.invalid:5000", "").await);
    let requests = proxy.requests();
    assert_eq!(requests[0].line(), "CONNECT registry.invalid:5000");
    let last = requests.last().unwrap();
    assert!(
        last.path
            .starts_with("http://registry.invalid:5000/v2/app/blobs/"),
        "{}",
        last.path
    );
    assert_eq!(
        last.header("proxy-authorization"),
        Some("Basic dXNlcjpzZWNyZXQ=")
    );
}

#[tokio::test]
async fn exceptions_and_this_machine_are_reached_directly() {
    let proxy = proxy();
    assert!(!ask(&proxy, "registry.invalid:5000", "other, .invalid").await);
    let server = FakeServer::start(|_| Reply::new(200));
    assert!(ask(&proxy, &server.host(), "").await);
    assert_eq!(proxy.lines(), [""; 0]);
}
