//! What the kernel says of a file without opening it.

use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd;

use ashlar_model::layer::{EntryKind, Timestamp};
use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, StatxTimestamp, statx};

/// The fields of `statx(2)` that a context needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileStat {
    /// Type and permission bits.
    pub(super) mode: u16,
    pub(super) size: u64,
    pub(super) mtime: Timestamp,
    pub(super) ctime: Timestamp,
    /// Device and inode number.
    pub(super) identity: Identity,
    pub(super) links: u32,
    /// Major and minor number of a device.
    pub(super) rdev: (u32, u32),
}

/// What tells one file of a machine from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) device: (u32, u32),
    pub(super) inode: u64,
}

impl FileStat {
    /// Looks at a name in a directory; a symbolic link is not followed.
    pub(super) fn at(directory: impl AsFd, name: &CStr) -> io::Result<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        Ok(statx(directory, name, flags, StatxFlags::BASIC_STATS)?.into())
    }

    /// Looks at an open file.
    pub(super) fn of(file: impl AsFd) -> io::Result<Self> {
        let flags = AtFlags::EMPTY_PATH;
        Ok(statx(file, c"", flags, StatxFlags::BASIC_STATS)?.into())
    }

    pub(super) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(u32::from(self.mode))
    }

    /// The 12 permission bits; those of a symbolic link say nothing and are 0777.
    pub(super) fn permissions(&self) -> u16 {
        match self.file_type() {
            FileType::Symlink => 0o777,
            _ => self.mode & 0o7777,
        }
    }

    /// The entry's kind where this alone tells it. Files have no digest yet. `None` for a
    /// symbolic link, whose target must be read.
    pub(super) fn kind(&self) -> Option<EntryKind> {
        let (major, minor) = self.rdev;
        match self.file_type() {
            FileType::Directory => Some(EntryKind::Directory { opaque: false }),
            FileType::Symlink => None,
            FileType::CharacterDevice => Some(EntryKind::CharDevice(major, minor)),
            FileType::BlockDevice => Some(EntryKind::BlockDevice(major, minor)),
            FileType::Fifo => Some(EntryKind::Fifo),
            // A socket is copied as an empty file, as BuildKit's client does.
            FileType::Socket => Some(EntryKind::File {
                size: 0,
                digest: Some(blake3::hash(b"").into()),
            }),
            _ => Some(EntryKind::File {
                size: self.size,
                digest: None,
            }),
        }
    }
}

impl From<Statx> for FileStat {
    fn from(stat: Statx) -> Self {
        let time = |time: StatxTimestamp| Timestamp {
            seconds: time.tv_sec,
            nanoseconds: time.tv_nsec,
        };
        Self {
            mode: stat.stx_mode,
            size: stat.stx_size,
            mtime: time(stat.stx_mtime),
            ctime: time(stat.stx_ctime),
            identity: Identity {
                device: (stat.stx_dev_major, stat.stx_dev_minor),
                inode: stat.stx_ino,
            },
            links: stat.stx_nlink,
            rdev: (stat.stx_rdev_major, stat.stx_rdev_minor),
        }
    }
}
