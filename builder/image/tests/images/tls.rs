//! Registries that speak TLS.

use ashlar_image::registry::{RegistryClient, RegistryError, RegistrySettings};
use ashlar_model::digest::BlobDigest;

use super::support::debian_registry::{DebianRegistry, Options};
use super::support::{reference, settings, whole_text};

fn registry() -> DebianRegistry {
    DebianRegistry::with(&Options {
        tls: true,
        ..Options::default()
    })
}

async fn ask(registry: &DebianRegistry, settings: RegistrySettings) -> Result<bool, RegistryError> {
    let name = reference(&format!("{}/app", registry.host()));
    RegistryClient::new(settings)
        .blob_exists(&name, &BlobDigest::of(b"x"))
        .await
}

#[tokio::test]
async fn an_unknown_authority_is_refused_at_once_with_what_to_do() {
    let registry = registry();
    let mut settings = settings();
    settings.retry.first_delay = std::time::Duration::from_secs(60);
    settings.retry.longest_delay = std::time::Duration::from_secs(60);
    let error = ask(&registry, settings).await.unwrap_err();
    let text = whole_text(&error);
    assert!(text.contains("certificate"), "{text}");
    let hint = error.hint().unwrap();
    assert!(hint.contains("certs.d"), "{hint}");
}

#[tokio::test]
async fn an_authority_can_be_made_known_in_every_way() {
    let registry = registry();
    let directory = tempfile::tempdir().unwrap();

    let mut listed = settings();
    listed.extra_certificates = vec![registry.authority()];
    assert!(!ask(&registry, listed).await.unwrap());

    let mut variable = settings();
    variable.environment.http.ssl_cert_file = Some(registry.authority());
    assert!(!ask(&registry, variable).await.unwrap());

    let mut certs_d = settings();
    let place = directory
        .path()
        .join(".config/containers/certs.d")
        .join(registry.host());
    std::fs::create_dir_all(&place).unwrap();
    std::fs::copy(registry.authority(), place.join("ca.crt")).unwrap();
    certs_d.environment.home = Some(directory.path().to_owned());
    assert!(!ask(&registry, certs_d).await.unwrap());
}

#[tokio::test]
async fn an_insecure_registry_is_not_checked() {
    let registry = registry();
    let mut settings = settings();
    settings.insecure = vec![registry.host()];
    assert!(!ask(&registry, settings).await.unwrap());
}
