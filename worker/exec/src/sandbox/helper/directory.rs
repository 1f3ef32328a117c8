//! The sandbox's directory: what containers need to find on a disk.
//!
//! ```text
//! mount/               empty; the launcher mounts a tmpfs here, in its own mount namespace
//! stubs/               bottom layer of every root: mount points that an image may lack, so that
//!   dev/ proc/ sys/    they need not be made in a container's upper directory
//!   etc/hosts
//!   etc/resolv.conf
//! ```
//!
//! It is made by whoever comes first and the same for all; two makers at once do no harm.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::SystemTime;

use super::super::error::StartError;

/// Mount point of the launcher's tmpfs, below the directory.
pub(in super::super) const MOUNT: &str = "mount";
/// The stub layer, below the directory.
pub(in super::super) const STUBS: &str = "stubs";

/// Directories, parents first, then files of the stub layer.
const DIRECTORIES: [&str; 6] = [
    MOUNT,
    STUBS,
    "stubs/dev",
    "stubs/proc",
    "stubs/sys",
    "stubs/etc",
];
const FILES: [&str; 2] = ["stubs/etc/hosts", "stubs/etc/resolv.conf"];

/// Makes what is missing.
pub(super) fn prepare(directory: &Path) -> Result<(), StartError> {
    // The last thing that is made: where it is, all is.
    if directory.join(FILES[1]).exists() {
        return Ok(());
    }
    let at = |path: &Path, result: io::Result<()>| match result {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(StartError::Directory {
            path: path.display().to_string(),
            source: error,
        }),
        _ => Ok(()),
    };
    at(directory, fs::create_dir_all(directory))?;
    for name in DIRECTORIES {
        let path = directory.join(name);
        at(&path, DirBuilder::new().mode(0o755).create(&path))?;
        at(&path, make_reproducible(&path, 0o755))?;
    }
    for name in FILES {
        let path = directory.join(name);
        let open = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&path);
        at(&path, open.map(drop))?;
        at(&path, make_reproducible(&path, 0o644))?;
    }
    // Making the files changed their directory.
    let etc = directory.join("stubs/etc");
    at(&etc, make_reproducible(&etc, 0o755))
}

/// A stub's mode and time can get into an image (`RUN chmod 700 /etc` on an empty root), so they
/// depend on neither the umask nor the day.
fn make_reproducible(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    let file = File::open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.set_modified(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn all_is_made_once_with_fixed_modes_and_times() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("a/b");
        prepare(&directory).unwrap();
        prepare(&directory).unwrap();
        for (names, mode) in [
            (DIRECTORIES.as_slice(), 0o40755),
            (FILES.as_slice(), 0o100_644),
        ] {
            for name in names {
                let metadata = fs::metadata(directory.join(name)).unwrap();
                assert_eq!(metadata.mode(), mode, "{name}");
            }
        }
        for name in ["stubs/etc", "stubs/etc/hosts", "stubs/proc"] {
            assert_eq!(
                fs::metadata(directory.join(name)).unwrap().mtime(),
                0,
                "{name}"
            );
        }
    }

    #[test]
    fn what_cannot_be_made_is_named() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("file"), "").unwrap();
        let error = prepare(&home.path().join("file/sandbox")).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("file/sandbox cannot be prepared for the sandbox")
        );
    }
}
