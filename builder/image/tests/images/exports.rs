//! Archives and layouts, judged by skopeo, umoci and podman.

use std::path::Path;

use ashlar_image::export::{Destination, ExportError, ExportImage, docker_archive, oci_layout};
use ashlar_image::manifest::ManifestFormat;
use ashlar_image::oci_layout::OciLayout;

use super::support::sample::{image, noise};
use super::support::tool::{run, skopeo, tool};

fn sample(directory: &Path, format: ManifestFormat, names: &[&str]) -> ExportImage {
    image(
        directory,
        format,
        &[
            ("a", b"hello"),
            ("b", &noise(30, 700_001)),
            // The same layer again: its blob is in the archive once.
            ("a", b"hello"),
        ],
        names,
    )
}

fn file(path: &Path) -> Destination {
    Destination::File(path.to_owned())
}

#[test]
fn an_oci_tar_is_read_by_skopeo_and_always_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let image = sample(
        directory.path(),
        ManifestFormat::Oci,
        &["example.com/app:1.0"],
    );
    let (one, two) = (
        directory.path().join("1.tar"),
        directory.path().join("2.tar"),
    );
    oci_layout::write_tar(&image, &file(&one)).unwrap();
    oci_layout::write_tar(&image, &file(&two)).unwrap();
    assert!(std::fs::read(&one).unwrap() == std::fs::read(&two).unwrap());

    let source = format!("oci-archive:{}:1.0", one.display());
    let raw = run(skopeo().args(["inspect", "--raw"]).arg(&source));
    assert_eq!(raw.as_bytes(), image.manifest_bytes);
    let config = run(skopeo().args(["inspect", "--raw", "--config"]).arg(&source));
    assert_eq!(config.as_bytes(), image.config_bytes);
    let copy = directory.path().join("copy");
    run(skopeo()
        .arg("copy")
        .arg(&source)
        .arg(format!("dir:{}", copy.display())));
    let blob = image.layers[1].descriptor.digest.to_hex();
    assert_eq!(
        std::fs::metadata(copy.join(blob)).unwrap().len(),
        image.layers[1].descriptor.size
    );
}

#[test]
fn gnu_tar_finds_the_layout_and_each_blob_once() {
    let directory = tempfile::tempdir().unwrap();
    let image = sample(directory.path(), ManifestFormat::Oci, &["app"]);
    let path = directory.path().join("out.tar");
    oci_layout::write_tar(&image, &file(&path)).unwrap();
    let listed = run(tool("tar", "tar").arg("-tf").arg(&path));
    let mut blobs = [
        image.manifest.digest,
        image.config.digest,
        image.layers[0].descriptor.digest,
        image.layers[1].descriptor.digest,
    ]
    .iter()
    .map(|digest| format!("blobs/sha256/{}", digest.to_hex()))
    .collect::<Vec<_>>();
    let mut expected = vec![
        "oci-layout".to_owned(),
        "index.json".to_owned(),
        "blobs/".to_owned(),
        "blobs/sha256/".to_owned(),
    ];
    expected.append(&mut blobs);
    assert_eq!(listed.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn an_oci_directory_is_unpacked_by_umoci() {
    let directory = tempfile::tempdir().unwrap();
    let image = sample(directory.path(), ManifestFormat::Oci, &["app:1.0"]);
    let layout = directory.path().join("layout");
    oci_layout::write_directory(&image, &layout).unwrap();
    let bundle = directory.path().join("bundle");
    run(tool("umoci", "umoci")
        .args(["unpack", "--rootless", "--image"])
        .arg(format!("{}:1.0", layout.display()))
        .arg(&bundle));
    let data = bundle.join("rootfs/data");
    assert_eq!(std::fs::read(data.join("a")).unwrap(), b"hello");
    assert!(std::fs::read(data.join("b")).unwrap() == noise(30, 700_001));
}

#[test]
fn an_oci_directory_takes_several_images_and_moves_names() {
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("layout");
    let first = sample(directory.path(), ManifestFormat::Oci, &["app:1", "app:2"]);
    oci_layout::write_directory(&first, &layout).unwrap();
    let second = image(
        directory.path(),
        ManifestFormat::Oci,
        &[("c", b"other")],
        &["app:2", "app:3"],
    );
    oci_layout::write_directory(&second, &layout).unwrap();
    // Writing the same again changes nothing.
    oci_layout::write_directory(&second, &layout).unwrap();

    let opened = OciLayout::open(&layout).unwrap();
    let digest = |tag| opened.find(Some(tag), None).unwrap().digest;
    assert_eq!(digest("1"), first.manifest.digest);
    assert_eq!(digest("2"), second.manifest.digest);
    assert_eq!(digest("3"), second.manifest.digest);
    let index = std::fs::read_to_string(layout.join("index.json")).unwrap();
    assert_eq!(
        index.matches("io.containerd.image.name").count(),
        3,
        "{index}"
    );
    for tag in ["1", "2", "3"] {
        run(skopeo()
            .args(["inspect", "--raw"])
            .arg(format!("oci:{}:{tag}", layout.display())));
    }
}

#[test]
fn an_image_without_name_is_in_a_layout_once() {
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("layout");
    let image = sample(directory.path(), ManifestFormat::Oci, &[]);
    oci_layout::write_directory(&image, &layout).unwrap();
    oci_layout::write_directory(&image, &layout).unwrap();
    let raw = run(skopeo()
        .args(["inspect", "--raw"])
        .arg(format!("oci:{}", layout.display())));
    assert_eq!(raw.as_bytes(), image.manifest_bytes);
}

#[test]
fn a_docker_archive_is_read_by_skopeo_under_all_its_names() {
    let directory = tempfile::tempdir().unwrap();
    for format in [ManifestFormat::Docker, ManifestFormat::Oci] {
        let names = ["app:1", "example.com/team/app:2"];
        let image = sample(directory.path(), format, &names);
        let path = directory.path().join("out.tar");
        docker_archive::write(&image, &file(&path)).unwrap();
        for name in names {
            let source = format!("docker-archive:{}:{name}", path.display());
            let config = run(skopeo().args(["inspect", "--raw", "--config"]).arg(&source));
            assert_eq!(config.as_bytes(), image.config_bytes);
            let copy = directory
                .path()
                .join(format!("copy-{}", name.replace('/', "-")));
            // Skopeo checks every layer against its diff ID.
            run(skopeo()
                .arg("copy")
                .arg(&source)
                .arg(format!("dir:{}", copy.display())));
        }
    }
}

#[test]
fn podman_loads_a_docker_archive() {
    let directory = tempfile::tempdir().unwrap();
    let image = sample(
        directory.path(),
        ManifestFormat::Docker,
        &["example.com/app:1"],
    );
    let path = directory.path().join("out.tar");
    docker_archive::write(&image, &file(&path)).unwrap();
    let podman = || {
        let mut command = tool("podman", "podman");
        command
            .arg("--root")
            .arg(directory.path().join("root"))
            .arg("--runroot")
            .arg(directory.path().join("run"))
            .args(["--storage-driver", "vfs"]);
        command
    };
    run(podman().args(["load", "-i"]).arg(&path));
    let id = run(podman().args([
        "image",
        "inspect",
        "--format",
        "{{.Id}}",
        "example.com/app:1",
    ]));
    assert_eq!(id.trim(), image.config.digest.to_hex());
    run(podman().args(["rmi", "--all", "--force"]));
}

#[test]
fn a_layer_of_the_wrong_size_makes_no_archive() {
    let directory = tempfile::tempdir().unwrap();
    let image = sample(directory.path(), ManifestFormat::Oci, &["app"]);
    let layer = image.layers[1].source.path().unwrap();
    std::fs::write(layer, "short").unwrap();
    let path = directory.path().join("out.tar");
    let error = oci_layout::write_tar(&image, &file(&path)).unwrap_err();
    assert!(
        matches!(error, ExportError::BlobSize { actual: 5, .. }),
        "{error}"
    );
    assert!(!path.exists());
    let layout = directory.path().join("layout");
    let error = oci_layout::write_directory(&image, &layout).unwrap_err();
    assert!(matches!(error, ExportError::BlobSize { .. }), "{error}");
    assert!(!layout.join("index.json").exists());
}
