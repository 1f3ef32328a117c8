//! Pulling from Debian's registry and from OCI layouts.

use ashlar_image::export::{self, ExportImage};
use ashlar_image::manifest::{ImageIndex, ManifestFormat, describe};
use ashlar_image::oci_layout::LayoutReference;
use ashlar_image::pull::{ImageFetcher, ImageHandle, PullError};
use ashlar_image::registry::FetchedBlob;
use ashlar_model::media_type::OCI_INDEX;
use ashlar_model::platform::Platform;
use ashlar_store::home::Home;
use futures::TryStreamExt as _;

use super::support::debian_registry::DebianRegistry;
use super::support::sample::{image, noise};
use super::support::{client, home, reference, whole_text};

async fn all_layers(fetcher: &ImageFetcher, image: &ImageHandle) -> Vec<FetchedBlob> {
    let mut fetched: Vec<(usize, FetchedBlob)> = fetcher
        .fetch_layers(image, 0..image.manifest.layers.len(), None)
        .try_collect()
        .await
        .unwrap();
    fetched.sort_by_key(|(index, _)| *index);
    fetched.into_iter().map(|(_, fetched)| fetched).collect()
}

fn assert_same(home: &Home, pulled: &ImageHandle, pushed: &ExportImage) {
    assert_eq!(pulled.manifest_descriptor.digest, pushed.manifest.digest);
    assert_eq!(pulled.config_descriptor().digest, pushed.config.digest);
    for layer in &pushed.layers {
        let bytes = home.blobs().read(&layer.descriptor.digest).unwrap();
        let original = std::fs::read(layer.source.path().unwrap()).unwrap();
        assert!(bytes == original);
    }
}

#[tokio::test]
async fn what_was_pushed_is_pulled_lazily_and_once() {
    let registry = DebianRegistry::start();
    let directory = tempfile::tempdir().unwrap();
    let name = format!("{}/team/app:1.0", registry.host());
    let pushed = image(
        directory.path(),
        ManifestFormat::Oci,
        &[("a", b"hello"), ("b", &noise(1, 3_000_000)), ("c", b"")],
        &[&name],
    );
    export::registry::push(&client(), &pushed, None)
        .await
        .unwrap();

    let (_home_directory, home) = home();
    let fetcher = ImageFetcher::new(client(), home.clone());
    let pulled = fetcher
        .pull(&reference(&name), &Platform::host())
        .await
        .unwrap();
    assert_eq!(pulled.config.config.env, ["PATH=/bin"]);
    assert_eq!(pulled.layers().len(), 3);
    assert_eq!(
        home.blobs().list().unwrap().len(),
        2,
        "manifest and configuration"
    );
    let fetched = all_layers(&fetcher, &pulled).await;
    assert!(
        fetched
            .iter()
            .all(|fetched| matches!(fetched, FetchedBlob::Downloaded { .. })),
        "{fetched:?}"
    );
    assert_same(&home, &pulled, &pushed);
    assert_eq!(
        all_layers(&fetcher, &pulled).await,
        [FetchedBlob::Present; 3]
    );

    // With everything there, a name with a digest needs no registry.
    drop(registry);
    let by_digest = reference(&name).with_digest(pulled.manifest_descriptor.digest);
    let again = ImageFetcher::new(client(), home)
        .pull(&by_digest, &Platform::host())
        .await
        .unwrap();
    assert_eq!(again.config, pulled.config);
}

#[tokio::test]
async fn a_pulled_image_is_pushed_elsewhere_unchanged() {
    let (from, to) = (DebianRegistry::start(), DebianRegistry::start());
    let directory = tempfile::tempdir().unwrap();
    let name = format!("{}/app:1", from.host());
    let files: [(&str, &[u8]); 2] = [("a", b"hello"), ("b", b"world")];
    let pushed = image(directory.path(), ManifestFormat::Docker, &files, &[&name]);
    export::registry::push(&client(), &pushed, None)
        .await
        .unwrap();

    let (_home_directory, home) = home();
    let fetcher = ImageFetcher::new(client(), home);
    let pulled = fetcher
        .pull(&reference(&name), &Platform::host())
        .await
        .unwrap();
    let other_name = reference(&format!("{}/other/app:2", to.host()));
    let exported = fetcher
        .to_export(&pulled, vec![other_name.clone()])
        .unwrap();
    let result = export::registry::push(&client(), &exported, None)
        .await
        .unwrap();
    assert_eq!(result[0].manifest.digest, pushed.manifest.digest);
    assert_eq!(
        client().resolve(&other_name).await.unwrap().digest,
        pushed.manifest.digest
    );
}

#[tokio::test]
async fn an_index_gives_the_image_for_the_platform() {
    let registry = DebianRegistry::start();
    let directory = tempfile::tempdir().unwrap();
    let name = reference(&format!("{}/app:1", registry.host()));
    let pushed = image(
        directory.path(),
        ManifestFormat::Oci,
        &[("a", b"hello")],
        &[&format!("{}/app:part", registry.host())],
    );
    export::registry::push(&client(), &pushed, None)
        .await
        .unwrap();
    let mut attestation = pushed.manifest.clone();
    attestation.platform = Some(Platform::new("unknown", "unknown", None));
    let mut wanted = pushed.manifest.clone();
    wanted.platform = Some(Platform::new("linux", "riscv64", None));
    let index = ImageIndex::new(vec![attestation, wanted]).to_vec();
    client()
        .push_manifest(&name, OCI_INDEX, index.clone())
        .await
        .unwrap();

    let (_home_directory, home) = home();
    let fetcher = ImageFetcher::new(client(), home);
    let riscv = Platform::new("linux", "riscv64", None);
    let pulled = fetcher.pull(&name, &riscv).await.unwrap();
    assert_eq!(pulled.resolved.digest, describe(OCI_INDEX, &index).digest);
    assert_eq!(pulled.manifest_descriptor.digest, pushed.manifest.digest);

    let s390x = Platform::new("linux", "s390x", None);
    let error = fetcher.pull(&name, &s390x).await.unwrap_err();
    assert!(
        whole_text(&error).contains("no image for linux/s390x; there are: linux/riscv64"),
        "{}",
        whole_text(&error)
    );
    assert!(error.hint().unwrap().contains("--platform linux/riscv64"));
}

#[tokio::test]
async fn a_missing_image_and_a_missing_tag_are_told() {
    let registry = DebianRegistry::start();
    let (_directory, home) = home();
    let fetcher = ImageFetcher::new(client(), home);
    let name = reference(&format!("{}/no/such:thing", registry.host()));
    let error = fetcher.pull(&name, &Platform::host()).await.unwrap_err();
    let text = whole_text(&error);
    assert!(text.contains("no image tagged thing in no/such"), "{text}");
    assert!(matches!(error, PullError::Registry { .. }));
}

#[tokio::test]
async fn damaged_blobs_of_the_store_are_fetched_again() {
    let registry = DebianRegistry::start();
    let directory = tempfile::tempdir().unwrap();
    let name = format!("{}/app:1", registry.host());
    let pushed = image(
        directory.path(),
        ManifestFormat::Docker,
        &[("a", b"hello")],
        &[&name],
    );
    export::registry::push(&client(), &pushed, None)
        .await
        .unwrap();
    let (_home_directory, home) = home();
    let fetcher = ImageFetcher::new(client(), home.clone());
    let name = reference(&name);
    fetcher.pull(&name, &Platform::host()).await.unwrap();
    for digest in [pushed.manifest.digest, pushed.config.digest] {
        let path = home.blobs().path(&digest);
        let length = std::fs::metadata(&path).unwrap().len();
        std::fs::write(&path, vec![b'x'; usize::try_from(length).unwrap()]).unwrap();
    }
    let pulled = fetcher.pull(&name, &Platform::host()).await.unwrap();
    assert_eq!(pulled.manifest_descriptor.digest, pushed.manifest.digest);
    assert_eq!(
        home.blobs().read(&pushed.config.digest).unwrap(),
        pushed.config_bytes
    );
}

#[tokio::test]
async fn an_image_in_a_layout_is_read_like_one_in_a_registry() {
    let directory = tempfile::tempdir().unwrap();
    let pushed = image(
        directory.path(),
        ManifestFormat::Oci,
        &[("a", b"hello"), ("b", &noise(2, 100_000))],
        &["example.com/app:2.0"],
    );
    let layout = directory.path().join("layout");
    export::oci_layout::write_directory(&pushed, &layout).unwrap();

    let (_home_directory, home) = home();
    let fetcher = ImageFetcher::new(client(), home.clone());
    let open = async |text: String| {
        let reference: LayoutReference = text.parse().unwrap();
        fetcher.open_layout(&reference, &Platform::host()).await
    };
    let layout = layout.display();
    for text in [
        format!("oci-layout://{layout}"),
        format!("oci-layout://{layout}:2.0"),
        format!("oci-layout://{layout}@{}", pushed.manifest.digest),
    ] {
        let handle = open(text).await.unwrap();
        all_layers(&fetcher, &handle).await;
        assert_same(&home, &handle, &pushed);
    }
    let error = open(format!("oci-layout://{layout}:3")).await.unwrap_err();
    assert!(
        whole_text(&error).contains("no image tagged 3"),
        "{}",
        whole_text(&error)
    );
    let error = open("oci-layout:///no/such".to_owned()).await.unwrap_err();
    assert!(
        whole_text(&error).contains("/no/such"),
        "{}",
        whole_text(&error)
    );
}

#[tokio::test]
async fn a_manifest_that_does_not_match_its_configuration_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut broken = image(
        directory.path(),
        ManifestFormat::Oci,
        &[("a", b"hello"), ("b", b"world")],
        &["app"],
    );
    let mut manifest: serde_json::Value = serde_json::from_slice(&broken.manifest_bytes).unwrap();
    manifest["layers"].as_array_mut().unwrap().pop();
    broken.manifest_bytes = serde_json::to_vec(&manifest).unwrap().into();
    broken.manifest = describe(&broken.manifest.media_type, &broken.manifest_bytes);
    let layout = directory.path().join("layout");
    export::oci_layout::write_directory(&broken, &layout).unwrap();
    let (_home_directory, home) = home();
    let reference: LayoutReference = layout.display().to_string().parse().unwrap();
    let error = ImageFetcher::new(client(), home)
        .open_layout(&reference, &Platform::host())
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            PullError::LayerCount {
                layers: 1,
                diff_ids: 2,
                ..
            }
        ),
        "{error}"
    );
}
