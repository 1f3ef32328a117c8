//! What `stat` says of one inode, in a layer's words.

use std::os::fd::{AsFd as _, BorrowedFd};

use ashlar_model::layer::{Metadata, Timestamp};
use rustix::fs::{AtFlags, FileType, Statx, StatxAttributes, StatxFlags, StatxTimestamp};

/// Type, owner, mode and times of an inode; never those of what a symbolic link points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inode {
    /// Its type.
    pub file_type: FileType,
    /// The 12 permission bits.
    pub mode: u16,
    /// Owner, as this process's user namespace shows it.
    pub uid: u32,
    /// Group, as this process's user namespace shows it.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Modification time.
    pub mtime: Timestamp,
    /// Number of names.
    pub links: u32,
    /// Which inode it is.
    pub id: InodeId,
    /// Major and minor number, of a device.
    pub device: (u32, u32),
    /// Whether it is immutable or append-only.
    pub locked: bool,
}

/// An inode's identity on this machine: its filesystem's device number and its own number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InodeId(u32, u32, u64);

impl Inode {
    /// Looks at a name in a directory.
    pub fn at(directory: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        rustix::fs::statx(directory, name, flags, StatxFlags::BASIC_STATS).map(Self::from)
    }

    /// Looks at an open file or directory.
    pub fn of(file: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        let flags = AtFlags::EMPTY_PATH;
        rustix::fs::statx(file.as_fd(), "", flags, StatxFlags::BASIC_STATS).map(Self::from)
    }

    /// Whether this is how an overlay marks an absent path.
    pub fn is_whiteout(&self) -> bool {
        self.file_type == FileType::CharacterDevice && self.device == (0, 0)
    }

    /// The metadata, with these attributes.
    pub fn metadata(&self, xattrs: Vec<ashlar_model::layer::Xattr>) -> Metadata {
        Metadata {
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
            xattrs,
        }
    }

    /// Whether type, mode, owner and, of a device, numbers are equal.
    pub fn same_kind_and_rights(&self, other: &Self) -> bool {
        self.file_type == other.file_type
            && self.mode == other.mode
            && self.uid == other.uid
            && self.gid == other.gid
            && self.device == other.device
    }
}

impl From<Statx> for Inode {
    fn from(stat: Statx) -> Self {
        let locks = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
        Self {
            file_type: FileType::from_raw_mode(stat.stx_mode.into()),
            mode: stat.stx_mode & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            size: stat.stx_size,
            mtime: timestamp(stat.stx_mtime),
            links: stat.stx_nlink,
            id: InodeId(stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino),
            device: (stat.stx_rdev_major, stat.stx_rdev_minor),
            locked: stat.stx_attributes.intersects(locks),
        }
    }
}

fn timestamp(time: StatxTimestamp) -> Timestamp {
    Timestamp {
        seconds: time.tv_sec,
        nanoseconds: time.tv_nsec,
    }
}
