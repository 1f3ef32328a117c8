//! What dead processes have left: removable at any time, whoever uses the store.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::super::images::ImageRecord;
use super::super::layers::list_names;
use super::super::lock::FileLock;
use super::super::{Home, StoreError, record};
use super::removal::Removal;
use super::{CollectError, Report};

/// Removes scratch directories that nobody holds and downloads that nobody continues.
pub(super) fn remove(
    home: &Home,
    report: &mut Report,
    removal: &mut Removal<'_>,
) -> Result<(), CollectError> {
    // Each stays locked until it is gone.
    let stale = home.stale_scratch()?;
    for scratch in &stale {
        report.leftovers += 1;
        report.freed += size_below(scratch.path());
        removal.remove(scratch.path())?;
    }
    removal.finish()?;
    drop(stale);
    partial_downloads(home, report, removal)
}

fn partial_downloads(
    home: &Home,
    report: &mut Report,
    removal: &mut Removal<'_>,
) -> Result<(), CollectError> {
    let directory = home.root().join("partial");
    for name in list_names(&directory, |name| Some(name.to_owned()))? {
        let lock = home.root().join("locks").join(format!("blob-{name}"));
        if let Some(_held) = FileLock::try_acquire(&lock)? {
            let path = directory.join(name);
            report.leftovers += 1;
            report.freed += size_below(&path);
            removal.remove(&path)?;
        }
    }
    Ok(())
}

/// Removes all hints, and tells their bytes. Only for those who are alone.
pub(super) fn remove_hints(home: &Home) -> Result<u64, StoreError> {
    let mut bytes = 0;
    for name in list_names(&home.hints(), |name| Some(name.to_owned()))? {
        let path = home.hints().join(name);
        bytes += size_below(&path);
        forget(&path)?;
    }
    Ok(bytes)
}

/// Removes lock files without a holder, and files under temporary names. Only for those who are
/// alone: somebody may be about to rename such a file.
pub(super) fn remove_names(home: &Home) -> Result<(), StoreError> {
    for (directory, only_locks) in [("locks", false), ("tmp", true)] {
        let directory = home.root().join(directory);
        for name in list_names(&directory, |name| Some(name.to_owned()))? {
            if !only_locks || name.ends_with(".lock") {
                // The lock file goes with the lock.
                drop(FileLock::try_acquire(&directory.join(name))?);
            }
        }
    }
    for directory in [
        "blobs/sha256",
        "content",
        "instructions",
        "results/definition",
        "results/content",
    ] {
        let directory = home.root().join(directory);
        for name in list_names(&directory, |name| Some(name.to_owned()))? {
            // These directories have names of hexadecimal digits only.
            if name.contains('.') {
                forget(&directory.join(name))?;
            }
        }
    }
    let images = home.root().join("images");
    for name in list_names(&images, |name| Some(name.to_owned()))? {
        // A tag may look like a temporary name, but then the image in it has that tag.
        let path = images.join(&name);
        let image: Option<ImageRecord> = record::read(&path)?;
        let own_name = |image: ImageRecord| image.reference.to_string().replace('/', "%");
        if name.contains(".new-") && image.map(own_name) != Some(name) {
            forget(&path)?;
        }
    }
    Ok(())
}

/// Removes noted sizes of what is gone.
pub(super) fn forget_sizes(home: &Home) -> Result<(), StoreError> {
    for (noted, path) in home.noted_sizes()? {
        if !path.exists() {
            forget(&noted)?;
        }
    }
    Ok(())
}

/// Removes a file; no error if it is gone.
pub(in super::super) fn forget(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(StoreError::io("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Bytes on disk below a path, as far as can be seen.
fn size_below(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return 0;
    };
    let own = metadata.blocks() * 512;
    if !metadata.is_dir() {
        return own;
    }
    let mut bytes = own;
    let mut pending = vec![path.to_owned()];
    while let Some(directory) = pending.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            bytes += metadata.blocks() * 512;
            if metadata.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    bytes
}
