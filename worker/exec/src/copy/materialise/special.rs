//! Symbolic links, devices, pipes and whiteouts.

use std::os::fd::BorrowedFd;

use ashlar_model::layer::{Entry, EntryKind};
use rustix::fs::{AtFlags, FileType, chmodat, makedev, mknodat, symlinkat};
use rustix::io::Errno;

use super::MaterialiseError;
use super::metadata::{Creator, mode, set_at};
use crate::layer::Warning;
use crate::layer::tree::whiteout::make_whiteout;

/// Makes anything that is no file, directory or hard link. A device that this process may not
/// make is left out of the tree, with a warning where one may miss it: the layer has it
/// nevertheless.
pub(super) fn make(
    directory: BorrowedFd<'_>,
    entry: &Entry,
    creator: Creator,
) -> Result<Option<Warning>, MaterialiseError> {
    let name = entry.path.file_name().unwrap_or_default();
    let failed = |errno| MaterialiseError::make(&entry.path, errno);
    let (file_type, device) = match &entry.kind {
        EntryKind::Whiteout => {
            make_whiteout(directory, name).map_err(failed)?;
            return Ok(None);
        }
        EntryKind::Symlink(target) => {
            symlinkat(target.as_slice(), directory, name).map_err(failed)?;
            set_at(directory, name, &entry.path, &entry.metadata, creator)?;
            return Ok(None);
        }
        EntryKind::Fifo => (FileType::Fifo, 0),
        EntryKind::CharDevice(major, minor) => (FileType::CharacterDevice, makedev(*major, *minor)),
        EntryKind::BlockDevice(major, minor) => (FileType::BlockDevice, makedev(*major, *minor)),
        EntryKind::File { .. } | EntryKind::Directory { .. } | EntryKind::Hardlink(_) => {
            return Err(failed(Errno::INVAL));
        }
    };
    match (
        mknodat(directory, name, file_type, mode(&entry.metadata), device),
        &entry.kind,
    ) {
        (
            Err(Errno::PERM),
            EntryKind::CharDevice(major, minor) | EntryKind::BlockDevice(major, minor),
        ) => {
            return Ok(Warning::device_skipped(&entry.path, (*major, *minor)));
        }
        (made, _) => made.map_err(failed)?,
    }
    set_at(directory, name, &entry.path, &entry.metadata, creator)?;
    // After the owner, and whatever the process's umask has taken away.
    chmodat(directory, name, mode(&entry.metadata), AtFlags::empty()).map_err(failed)?;
    Ok(None)
}
