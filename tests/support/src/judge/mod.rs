//! Foreign readers of images. What Ashlar writes is right if they all read the same from it.
//!
//! Images are named as skopeo names them: `oci:DIR[:TAG]`, `oci-archive:FILE`,
//! `docker-archive:FILE`, `docker://HOST/NAME:TAG`.

mod buildah;
pub mod gnu_tar;
mod umoci;

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::command::TestCommand;
use crate::environment;
use crate::tree::Tree;

pub use buildah::Buildah;

/// What a reader found in an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The root filesystem.
    pub tree: Tree,
    /// The configuration.
    pub config: Value,
}

/// Reads an image with skopeo, and its layers with GNU tar.
pub fn skopeo_and_tar(image: &str) -> Reading {
    let scratch = scratch();
    let copy = scratch.path().join("copy");
    skopeo_copy(image, &format!("dir:{}", copy.display()));
    Reading {
        tree: gnu_tar::apply_layers(&copy, &scratch.path().join("root")),
        config: skopeo_config(image),
    }
}

/// Reads an image with umoci; skopeo brings it where it can.
pub fn umoci(image: &str) -> Reading {
    let scratch = scratch();
    let plain = scratch.path().join("plain");
    let layout = scratch.path().join("layout");
    // umoci reads neither archives nor zstd: both are taken away on the way.
    let target = format!("dir:{}", plain.display());
    skopeo(&[
        "copy",
        "--dest-decompress",
        "--src-tls-verify=false",
        image,
        &target,
    ]);
    skopeo_copy(
        &format!("dir:{}", plain.display()),
        &format!("oci:{}:image", layout.display()),
    );
    Reading {
        tree: umoci::unpack(&layout, &scratch.path().join("bundle")),
        config: skopeo_config(image),
    }
}

/// Reads an image with buildah, as root and through a mount.
pub fn buildah(image: &str) -> Reading {
    let buildah = Buildah::new();
    let container = buildah.from(image);
    Reading {
        tree: buildah.tree(&container),
        config: buildah.config(&container),
    }
}

/// Reads an image with all of them, and asserts that they agree.
#[track_caller]
pub fn everyone(image: &str) -> Reading {
    let reading = skopeo_and_tar(image);
    let by_umoci = umoci(image);
    let by_buildah = buildah(image);
    reading.tree.assert_same("GNU tar", &by_umoci.tree, "umoci");
    let without_root = reading.tree.clone().without(str::is_empty);
    without_root.assert_same("GNU tar", &by_buildah.tree, "buildah");
    assert_eq!(
        reading.config["rootfs"], by_buildah.config["rootfs"],
        "skopeo and buildah read other diff ids"
    );
    reading
}

/// An image's configuration, by skopeo.
pub fn skopeo_config(image: &str) -> Value {
    let config = skopeo(&["inspect", "--config", "--raw", image]);
    serde_json::from_str(&config).expect("skopeo gives JSON")
}

/// An image's manifest or index as it is, by skopeo.
pub fn skopeo_manifest(image: &str) -> Value {
    serde_json::from_str(&skopeo(&["inspect", "--raw", image])).expect("skopeo gives JSON")
}

/// Copies an image. Registries are expected to be on the loopback interface and to speak HTTP.
pub fn skopeo_copy(from: &str, to: &str) {
    skopeo(&[
        "copy",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        from,
        to,
    ]);
}

fn skopeo(arguments: &[&str]) -> String {
    let needs_flag =
        arguments[0] == "inspect" && arguments.iter().any(|a| a.starts_with("docker:"));
    TestCommand::root("skopeo")
        .arg("--insecure-policy")
        .arg(arguments[0])
        .args(needs_flag.then_some("--tls-verify=false"))
        .args(&arguments[1..])
        .text()
}

/// A directory on a disk, where device nodes and extended attributes can be made.
fn scratch() -> TempDir {
    environment::scratch_directory("judge")
}

/// A file of JSON.
fn read_json(path: &Path) -> Value {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use crate::bases;

    /// The judges must agree about an image that none of them made, or they are none.
    #[test]
    fn the_judges_agree_about_the_busybox_base() {
        let reading = super::everyone(&bases::busybox().foreign_reference());
        reading
            .tree
            .at("home/app")
            .is_directory()
            .is_owned(0o755, 1000, 1000);
        reading.tree.at("tmp").is_owned(0o1777, 0, 0);
        reading.tree.at("bin/sh").links_to("busybox");
        assert_eq!(reading.config["config"]["Cmd"][0], "/bin/sh");
    }
}
