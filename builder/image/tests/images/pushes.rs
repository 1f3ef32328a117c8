//! Pushing to Debian's registry, judged by skopeo.

use std::sync::{Arc, Mutex};

use ashlar_image::export::{self, registry::PushProgress};
use ashlar_image::manifest::ManifestFormat;
use ashlar_image::pull::ImageFetcher;
use ashlar_image::registry::{PushedBlob, RegistryClient};
use ashlar_model::platform::Platform;

use super::support::debian_registry::{DebianRegistry, Options};
use super::support::sample::{image, noise};
use super::support::tool::{run, skopeo};
use super::support::{client, home, reference, settings, whole_text};

#[tokio::test]
async fn skopeo_reads_what_was_pushed() {
    let registry = DebianRegistry::start();
    for format in [ManifestFormat::Oci, ManifestFormat::Docker] {
        let directory = tempfile::tempdir().unwrap();
        let repository = format!("app-{format:?}").to_lowercase();
        let name = format!("{}/{repository}:1", registry.host());
        let pushed = image(
            directory.path(),
            format,
            &[("a", b"hello"), ("b", &noise(9, 2_000_000))],
            &[&name],
        );
        let result = export::registry::push(&client(), &pushed, None)
            .await
            .unwrap();
        assert_eq!(result[0].layers, [PushedBlob::Uploaded; 2]);
        assert_eq!(result[0].manifest.digest, pushed.manifest.digest);
        let raw = run(skopeo()
            .args(["inspect", "--raw", "--tls-verify=false"])
            .arg(format!("docker://{name}")));
        assert_eq!(raw.as_bytes(), pushed.manifest_bytes);
        // Copying makes skopeo read and check every blob.
        run(skopeo()
            .args(["copy", "--src-tls-verify=false"])
            .arg(format!("docker://{name}"))
            .arg(format!("dir:{}", directory.path().join("copy").display())));
    }
}

#[tokio::test]
async fn what_the_registry_has_is_not_sent_again_but_mounted() {
    let registry = DebianRegistry::start();
    let directory = tempfile::tempdir().unwrap();
    let names = ["one:1", "one:2", "two:1"].map(|name| format!("{}/{name}", registry.host()));
    let files: [(&str, &[u8]); 2] = [("a", b"hello"), ("b", &noise(10, 500_000))];
    let first = image(directory.path(), ManifestFormat::Oci, &files, &[&names[0]]);
    let result = export::registry::push(&client(), &first, None)
        .await
        .unwrap();
    assert_eq!(result[0].layers, [PushedBlob::Uploaded; 2]);

    let mut again = first.clone();
    again.names = vec![reference(&names[1])];
    let result = export::registry::push(&client(), &again, None)
        .await
        .unwrap();
    assert_eq!(result[0].layers, [PushedBlob::Present; 2]);

    let mut elsewhere = first.clone();
    elsewhere.names = vec![reference(&names[2])];
    for layer in &mut elsewhere.layers {
        layer.repositories = vec![
            reference("other.example.com/one"),
            reference(&format!("{}/nothing/here", registry.host())),
            reference(&names[0]),
        ];
    }
    let result = export::registry::push(&client(), &elsewhere, None)
        .await
        .unwrap();
    assert_eq!(result[0].layers, [PushedBlob::Mounted; 2]);
}

#[tokio::test]
async fn several_names_share_what_is_sent() {
    let registry = DebianRegistry::start();
    let directory = tempfile::tempdir().unwrap();
    let names = ["one:1", "one:2", "two:1"].map(|name| format!("{}/{name}", registry.host()));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // The same layer twice is sent once.
    let files: [(&str, &[u8]); 2] = [("a", b"hello"), ("a", b"hello")];
    let pushed = image(directory.path(), ManifestFormat::Oci, &files, &names);
    let result = export::registry::push(&client(), &pushed, None)
        .await
        .unwrap();
    let layers: Vec<_> = result.iter().map(|pushed| pushed.layers.clone()).collect();
    assert_eq!(
        layers,
        [
            [PushedBlob::Uploaded, PushedBlob::Present],
            [PushedBlob::Present, PushedBlob::Present],
            [PushedBlob::Mounted, PushedBlob::Present],
        ]
    );
}

#[tokio::test]
async fn a_base_image_that_the_registry_has_is_never_fetched() {
    let registry = DebianRegistry::start();
    let directory = tempfile::tempdir().unwrap();
    let base = format!("{}/base:1", registry.host());
    let files: [(&str, &[u8]); 1] = [("a", &noise(11, 200_000))];
    let pushed = image(directory.path(), ManifestFormat::Oci, &files, &[&base]);
    export::registry::push(&client(), &pushed, None)
        .await
        .unwrap();

    let (_home_directory, home) = home();
    let fetcher = ImageFetcher::new(client(), home.clone());
    let handle = fetcher
        .pull(&reference(&base), &Platform::host())
        .await
        .unwrap();
    let mut derived = pushed.clone();
    derived.layers = vec![fetcher.layer_blob(&handle, 0).unwrap()];
    derived.names = vec![reference(&format!("{}/derived:1", registry.host()))];
    let result = export::registry::push(&client(), &derived, None)
        .await
        .unwrap();
    assert_eq!(result[0].layers, [PushedBlob::Mounted]);
    assert!(!home.blobs().has(&handle.manifest.layers[0]));

    // Another registry needs the bytes.
    let other = DebianRegistry::start();
    derived.names = vec![reference(&format!("{}/derived:1", other.host()))];
    let result = export::registry::push(&client(), &derived, None)
        .await
        .unwrap();
    assert_eq!(result[0].layers, [PushedBlob::Uploaded]);
    assert!(home.blobs().has(&handle.manifest.layers[0]));
}

#[tokio::test]
async fn a_login_over_tls_works_for_large_pushes_with_progress() {
    let registry = DebianRegistry::with(&Options {
        login: Some(("me", "secret")),
        tls: true,
    });
    let directory = tempfile::tempdir().unwrap();
    let auth = directory.path().join("auth.json");
    std::fs::write(
        &auth,
        format!(
            r#"{{"auths":{{"{}":{{"username":"me","password":"secret"}}}}}}"#,
            registry.host()
        ),
    )
    .unwrap();
    let mut settings = settings();
    settings.environment.registry_auth_file = Some(auth);
    settings.extra_certificates = vec![registry.authority()];
    let name = format!("{}/app:1", registry.host());
    let content = noise(12, 20_000_000);
    let pushed = image(
        directory.path(),
        ManifestFormat::Oci,
        &[("big", &content)],
        &[&name],
    );
    let seen = Arc::new(Mutex::new(Vec::new()));
    let report = Arc::clone(&seen);
    let progress: PushProgress =
        Arc::new(move |layer, bytes| report.lock().unwrap().push((layer, bytes)));
    export::registry::push(&RegistryClient::new(settings), &pushed, Some(&progress))
        .await
        .unwrap();
    let size = pushed.layers[0].descriptor.size;
    assert_eq!(seen.lock().unwrap().last(), Some(&(0, size)));
    assert!(seen.lock().unwrap().len() > 10);
}

#[tokio::test]
async fn a_layer_that_cannot_be_read_is_named() {
    let registry = DebianRegistry::start();
    let directory = tempfile::tempdir().unwrap();
    let name = format!("{}/app:1", registry.host());
    let pushed = image(
        directory.path(),
        ManifestFormat::Oci,
        &[("a", &noise(13, 100_000))],
        &[&name],
    );
    let path = pushed.layers[0].source.path().unwrap().to_owned();
    let digest = pushed.layers[0].descriptor.digest.to_string();
    std::fs::write(&path, "short").unwrap();
    let error = export::registry::push(&client(), &pushed, None)
        .await
        .unwrap_err();
    let text = whole_text(&error);
    assert!(text.contains(&digest) && text.contains("5 bytes"), "{text}");
    std::fs::remove_file(&path).unwrap();
    let error = export::registry::push(&client(), &pushed, None)
        .await
        .unwrap_err();
    assert!(
        whole_text(&error).contains("No such file"),
        "{}",
        whole_text(&error)
    );
}
