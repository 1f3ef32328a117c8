//! Owner, mode, attributes and times of what was made.

use std::os::fd::{AsFd, BorrowedFd};

use ashlar_model::layer::{LayerPath, Metadata};
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid};
use rustix::fs::{chownat, fchmod, fchown, futimens, utimensat};

use super::MaterialiseError;
use crate::layer::tree::xattrs;

/// Who owns what this process makes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Creator {
    uid: u32,
    gid: u32,
}

impl Creator {
    pub(super) fn of_this_process() -> Self {
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }

    /// Whether something must be given away.
    const fn is_not(self, metadata: &Metadata) -> bool {
        self.uid != metadata.uid || self.gid != metadata.gid
    }
}

/// Sets all metadata of an open file or directory that this process has made.
pub(super) fn set(
    file: BorrowedFd<'_>,
    path: &LayerPath,
    metadata: &Metadata,
    creator: Creator,
) -> Result<(), MaterialiseError> {
    // In this order: a new owner takes away set-id bits and capabilities, and a mode without
    // write permission forbids attributes.
    if creator.is_not(metadata) {
        let (uid, gid) = owner(metadata);
        fchown(file, Some(uid), Some(gid))
            .map_err(|errno| MaterialiseError::owner(path, metadata, errno))?;
    }
    xattrs::write_to_file(file, &metadata.xattrs)
        .map_err(|errno| MaterialiseError::attributes(path, errno))?;
    fchmod(file, mode(metadata)).map_err(|errno| MaterialiseError::make(path, errno))?;
    futimens(file, &times(metadata)).map_err(|errno| MaterialiseError::make(path, errno))
}

/// Sets all metadata of an open directory, whoever owns it so far. Attributes that it has beside
/// them stay.
pub fn set_directory(
    directory: impl AsFd,
    path: &LayerPath,
    metadata: &Metadata,
) -> Result<(), MaterialiseError> {
    let (uid, gid) = owner(metadata);
    fchown(&directory, Some(uid), Some(gid))
        .map_err(|errno| MaterialiseError::owner(path, metadata, errno))?;
    let creator = Creator {
        uid: metadata.uid,
        gid: metadata.gid,
    };
    set(directory.as_fd(), path, metadata, creator)
}

/// Sets all metadata of something that cannot be opened; its mode was given when it was made.
pub(super) fn set_at(
    directory: BorrowedFd<'_>,
    name: &[u8],
    path: &LayerPath,
    metadata: &Metadata,
    creator: Creator,
) -> Result<(), MaterialiseError> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    if creator.is_not(metadata) {
        let (uid, gid) = owner(metadata);
        chownat(directory, name, Some(uid), Some(gid), flags)
            .map_err(|errno| MaterialiseError::owner(path, metadata, errno))?;
    }
    xattrs::write(directory, name, &metadata.xattrs)
        .map_err(|errno| MaterialiseError::attributes(path, errno))?;
    utimensat(directory, name, &times(metadata), flags)
        .map_err(|errno| MaterialiseError::make(path, errno))
}

pub(super) fn mode(metadata: &Metadata) -> Mode {
    Mode::from_raw_mode(metadata.mode.into())
}

fn owner(metadata: &Metadata) -> (Uid, Gid) {
    (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid))
}

/// The access time says nothing in an image; it is set with the other, so that the same recipe
/// gives the same tree.
fn times(metadata: &Metadata) -> Timestamps {
    let time = Timespec {
        tv_sec: metadata.mtime.seconds,
        tv_nsec: metadata.mtime.nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
