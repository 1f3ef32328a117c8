//! What header, records and long names together say of an entry.

use ashlar_model::layer::{Timestamp, Xattr};

use super::Damage;
use super::header::Header;
use super::pax::Records;

/// One entry of a tar, as it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarEntry {
    /// Its name, as it stands there: may be absolute, climb, or end with a slash.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: TarKind,
    /// The 12 permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Timestamp,
    /// Length in bytes of a regular file, with the holes that it may have; 0 for others.
    pub size: u64,
    /// Extended attributes in the order of their records.
    pub xattrs: Vec<Xattr>,
}

/// The type of a tar's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TarKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A hard link and its target, as it stands there.
    Hardlink(Vec<u8>),
    /// A character device: major and minor number.
    CharDevice(u32, u32),
    /// A block device: major and minor number.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
}

/// Names that entries of types `L` and `K` give to the next one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LongNames {
    pub(super) name: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
}

/// Puts an entry together. Its size is that of its stored bytes.
pub(super) fn describe(
    header: &Header,
    records: &mut Records,
    long: LongNames,
) -> Result<TarEntry, Damage> {
    let path = records
        .sparse
        .name
        .take()
        .or(records.path.take())
        .or(long.name)
        .unwrap_or_else(|| header.name());
    let target = || {
        records
            .linkpath
            .take()
            .or(long.link)
            .unwrap_or_else(|| header.link())
    };
    let kind = match header.type_flag() {
        // The old way to say directory.
        0 if path.ends_with(b"/") => TarKind::Directory,
        0 | b'0' | b'7' | b'S' => TarKind::File,
        b'1' => TarKind::Hardlink(target()),
        b'2' => TarKind::Symlink(target()),
        b'3' => TarKind::CharDevice(header.major()?, header.minor()?),
        b'4' => TarKind::BlockDevice(header.major()?, header.minor()?),
        b'5' => TarKind::Directory,
        b'6' => TarKind::Fifo,
        other => return Err(Damage::Type(other)),
    };
    let size = match (&kind, records.size) {
        (TarKind::File, Some(size)) => size,
        (TarKind::File, None) => header.size()?,
        _ => 0,
    };
    // What follows is counted in signed 64-bit numbers by everyone.
    if i64::try_from(size).is_err() {
        return Err(Damage::Number("size"));
    }
    let mtime = match records.mtime {
        Some(mtime) => mtime,
        None => Timestamp {
            seconds: header.mtime()?,
            nanoseconds: 0,
        },
    };
    Ok(TarEntry {
        path,
        kind,
        mode: header.mode()?,
        uid: records.uid.map_or_else(|| header.uid(), Ok)?,
        gid: records.gid.map_or_else(|| header.gid(), Ok)?,
        mtime,
        size,
        xattrs: std::mem::take(&mut records.xattrs),
    })
}
