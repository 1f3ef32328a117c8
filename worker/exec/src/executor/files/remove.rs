//! Trees away, and trees from one place to another.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::super::request::WorkError;
use super::failed;

/// Removes files and directories with all that is in them.
pub(in super::super) fn remove(paths: &[PathBuf]) -> Result<(), WorkError> {
    for path in paths {
        remove_one(path)
            .map_err(|e| failed(format_args!("cannot remove {}", path.display()), &e))?;
    }
    Ok(())
}

fn remove_one(path: &Path) -> std::io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let removed = if metadata.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        // An ordinary user without a namespace cannot enter directories of mode 000.
        Err(error) if error.kind() == ErrorKind::PermissionDenied && metadata.is_dir() => {
            open_up(path);
            fs::remove_dir_all(path)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Makes directories that are ours enterable, as far as that goes.
fn open_up(directory: &Path) {
    if fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).is_err() {
        return;
    }
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

/// Moves a tree within the store.
pub(in super::super) fn rename(from: &Path, to: &Path) -> Result<(), WorkError> {
    fs::rename(from, to).map_err(|error| {
        failed(
            format_args!("cannot move {} to {}", from.display(), to.display()),
            &error,
        )
    })
}
