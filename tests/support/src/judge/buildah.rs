//! Debian's buildah, run as root in a storage of its own.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::scratch;
use crate::command::{Output, TestCommand};
use crate::processes;
use crate::tree::Tree;

/// A storage of buildah's, removed in the end with all that is mounted below it.
#[derive(Debug)]
pub struct Buildah {
    directory: TempDir,
}

impl Default for Buildah {
    fn default() -> Self {
        Self::new()
    }
}

impl Buildah {
    /// An empty storage.
    pub fn new() -> Self {
        Self {
            directory: scratch(),
        }
    }

    fn command(&self) -> TestCommand {
        let path = |name: &str| self.directory.path().join(name);
        TestCommand::root("buildah")
            .arg("--root")
            .arg(path("root"))
            .arg("--runroot")
            .arg(path("run"))
            .args(["--storage-driver", "overlay"])
            .env("TMPDIR", self.directory.path())
            .env("BUILDAH_ISOLATION", "chroot")
    }

    /// Makes a container of an image.
    pub fn from(&self, image: &str) -> String {
        self.command()
            .args(["from", "--quiet", "--pull", "--tls-verify=false", image])
            .text()
    }

    /// Builds a context under a name.
    pub fn build(&self, context: &Path, name: &str, options: &[&str]) -> Output {
        self.command()
            .args(["build", "--layers", "--format", "docker", "--tag", name])
            .args(options)
            .arg(context)
            .run()
    }

    /// Copies an image to where skopeo's word for it says.
    pub fn push(&self, name: &str, to: &str) {
        self.command().args(["push", name, to]).run().success();
    }

    /// A container's root filesystem. Its root directory itself is left out: buildah's storage
    /// gives that a mode of its own, 0555, whatever the layers say.
    pub fn tree(&self, container: &str) -> Tree {
        let root = PathBuf::from(self.command().args(["mount", container]).text());
        let tree = Tree::read(&root).without(str::is_empty);
        self.command().args(["umount", container]).run().success();
        tree
    }

    /// The configuration of the image that a container was made of, as the image has it.
    pub fn config(&self, container: &str) -> Value {
        let format = ["inspect", "--type", "container", "--format", "{{.Config}}"];
        let config = self.command().args(format).arg(container).text();
        serde_json::from_str(&config).expect("buildah gives JSON")
    }
}

impl Drop for Buildah {
    fn drop(&mut self) {
        for point in processes::mounts_under(self.directory.path()).iter().rev() {
            // Best effort: what stays mounted makes the removal of the directory fail, quietly.
            let _ = rustix::mount::unmount(point.as_str(), rustix::mount::UnmountFlags::DETACH);
        }
    }
}
