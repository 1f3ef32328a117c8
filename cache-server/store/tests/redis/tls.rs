//! Redis over TLS, with and without certificates of clients.

use std::fs;
use std::path::Path;

use ashlar_store::FaultKind;
use ashlar_test_support::redis::{RedisServer, free_port};
use ashlar_test_support::registry::Authority;

use crate::footing::redis_with;

/// A server that speaks TLS as well, and what its address is then.
fn start(authority: &Authority, ca: &Path, clients: &str) -> (RedisServer, String) {
    let (certificate, key) = authority.server();
    let port = free_port().to_string();
    let server = RedisServer::start_with(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        certificate.to_str().unwrap(),
        "--tls-key-file",
        key.to_str().unwrap(),
        "--tls-ca-cert-file",
        ca.to_str().unwrap(),
        "--tls-auth-clients",
        clients,
    ]);
    (server, format!("rediss://localhost:{port}"))
}

#[tokio::test]
async fn servers_and_clients_are_known_by_their_certificates() {
    let authority = Authority::new();
    let ca = authority.directory().join("authority.pem");
    fs::write(&ca, authority.certificate()).unwrap();

    let (_server, url) = start(&authority, &ca, "no");
    let redis = redis_with(&url, |settings| settings.ca_file = Some(ca.clone()));
    redis.ready().await.unwrap();
    // Nobody else signed it.
    let fault = redis_with(&url, |_| {}).ready().await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");

    let (_server, url) = start(&authority, &ca, "yes");
    let redis = redis_with(&url, |settings| settings.ca_file = Some(ca.clone()));
    let fault = redis.ready().await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
    let redis = redis_with(&url, |settings| {
        settings.ca_file = Some(ca.clone());
        settings.certificate = Some(authority.server());
    });
    redis.ready().await.unwrap();
}
