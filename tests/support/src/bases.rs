//! The base images that `scripts/bases.sh` made: OCI layouts with the tag `latest`.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::TestCommand;
use crate::environment;
use crate::skip::skip;

/// Debian's busybox-static: a shell, some 270 applets, a few users and groups.
pub fn busybox() -> Base {
    Base::find("busybox").unwrap_or_else(|| {
        panic!(
            "there is no busybox base in {}: run `make test-bases`",
            environment::bases().display()
        )
    })
}

/// A minimal Debian with apt, attr and libcap2-bin; `None` where no package source answered.
pub fn debian() -> Option<Base> {
    Base::find("debian")
}

/// [`debian`], on a machine whose package sources answer, so that a build can install packages.
/// Otherwise the test is noted as skipped.
pub fn debian_with_packages(test: &str) -> Option<Base> {
    let base = debian();
    if base.is_none() {
        let reason = "there is no Debian base: mmdebstrap found no package source";
        skip(test, reason);
    } else if !packages_answer() {
        skip(test, "no package source answers");
        return None;
    }
    base
}

/// Whether the host's package sources answer now.
fn packages_answer() -> bool {
    // apt refuses to update twice at once.
    let lock = environment::scratch_root().join("apt.lock");
    let update = TestCommand::root("flock")
        .arg(lock)
        .args(["apt-get", "update"])
        .args(["-o", "APT::Update::Error-Mode=any"])
        .args(["-o", "Acquire::Retries=2"])
        .timeout(Duration::from_secs(300))
        .run();
    update.code() == Some(0)
}

/// A base image, in a place that every user can read.
#[derive(Debug, Clone)]
pub struct Base {
    layout: PathBuf,
}

impl Base {
    fn find(name: &str) -> Option<Self> {
        let source = environment::bases().join(name);
        let index = fs::metadata(source.join("index.json")).ok()?;
        let layout = environment::scratch_root().join(format!(
            "base-{name}-{:x}-{:x}{:09}",
            index.ino(),
            index.mtime(),
            index.mtime_nsec()
        ));
        if !layout.exists() {
            let partial = layout.with_extension(format!("partial-{}", std::process::id()));
            copy_readable(&source, &partial)
                .unwrap_or_else(|error| panic!("{}: {error}", source.display()));
            // Another test process may have been quicker, with the very same files.
            if fs::rename(&partial, &layout).is_err() {
                fs::remove_dir_all(&partial).expect("cannot remove the spare copy of a base");
            }
        }
        Some(Self { layout })
    }

    /// The layout's directory.
    pub fn layout(&self) -> &Path {
        &self.layout
    }

    /// As a Dockerfile of Ashlar names it after FROM.
    pub fn reference(&self) -> String {
        format!("oci-layout://{}:latest", self.layout.display())
    }

    /// A Dockerfile that starts from it.
    pub fn dockerfile(&self, rest: &str) -> String {
        format!("FROM {}\n{rest}", self.reference())
    }

    /// As skopeo and buildah name it.
    pub fn foreign_reference(&self) -> String {
        format!("oci:{}:latest", self.layout.display())
    }
}

/// Copies a tree of directories and regular files, so that everybody can read it.
fn copy_readable(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_readable(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            fs::set_permissions(&target, Permissions::from_mode(0o644))?;
        }
    }
    Ok(())
}
