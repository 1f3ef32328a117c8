//! One change of a layer.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::LayerPath;
use crate::content_hash::{ContentHash, KeyEncoder};
use crate::digest::FileDigest;

/// One path of a layer: what is there after the layer is applied, or that nothing is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where.
    pub path: LayerPath,
    /// What.
    pub kind: EntryKind,
    /// Mode, owner, time and extended attributes. Without meaning for whiteouts (all zero) and,
    /// since they share their target's inode, for hard links (a copy of the target's).
    pub metadata: Metadata,
}

/// The type of an entry and what only that type has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Length in bytes.
        size: u64,
        /// Digest of the bytes; `None` as long as nobody has read them.
        digest: Option<FileDigest>,
    },
    /// A directory.
    Directory {
        /// Whether it hides everything that layers below have under this path.
        opaque: bool,
    },
    /// A symbolic link and its target, as stored.
    Symlink(Vec<u8>),
    /// Another name of a file of the same layer, whose entry comes before this one.
    Hardlink(LayerPath),
    /// A character device: major and minor number.
    CharDevice(u32, u32),
    /// A block device: major and minor number.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
    /// Takes away what layers below have at this path.
    Whiteout,
}

/// What an inode carries besides its content.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Metadata {
    /// The 12 permission bits, set-id and sticky bits included; no type bits.
    pub mode: u16,
    /// Owner, as seen inside the container.
    pub uid: u32,
    /// Group, as seen inside the container.
    pub gid: u32,
    /// Modification time.
    pub mtime: Timestamp,
    /// Extended attributes, sorted by name. `security.capability` is in its version 2 form.
    pub xattrs: Vec<Xattr>,
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Xattr {
    /// Full name with its namespace, such as `user.note`.
    pub name: Vec<u8>,
    /// Value.
    pub value: Vec<u8>,
}

/// A point in time since 1970-01-01 00:00 UTC.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Timestamp {
    /// Whole seconds; negative before 1970.
    pub seconds: i64,
    /// Nanoseconds, 0 to 999,999,999, counted forward from `seconds`.
    pub nanoseconds: u32,
}

impl Entry {
    /// The canonical order of a layer: as a depth-first walk with names compared bytewise, but in
    /// each directory the whiteouts come first, so that no applier removes what it just made.
    pub fn canonical_cmp(&self, other: &Self) -> Ordering {
        let (mut left, mut right) = (self.path.components(), other.path.components());
        loop {
            match (left.next(), right.next()) {
                (None, None) => return Ordering::Equal,
                (None, Some(_)) => return Ordering::Less,
                (Some(_), None) => return Ordering::Greater,
                (Some(a), Some(b)) if a == b => {}
                (Some(a), Some(b)) => {
                    let whiteout =
                        |entry: &Self, at_end: bool| at_end && entry.kind == EntryKind::Whiteout;
                    let left_first = whiteout(self, left.next().is_none());
                    let right_first = whiteout(other, right.next().is_none());
                    return right_first.cmp(&left_first).then(a.cmp(b));
                }
            }
        }
    }

    /// Whether two entries say the same, modification times and paths left out. Files are the
    /// same if both digests are known and equal.
    pub fn same_content(&self, other: &Self) -> bool {
        let kind = match (&self.kind, &other.kind) {
            (
                EntryKind::File {
                    digest: Some(a), ..
                },
                EntryKind::File {
                    digest: Some(b), ..
                },
            ) => a == b,
            (EntryKind::File { .. }, EntryKind::File { .. }) => false,
            (a, b) => a == b,
        };
        kind && self.metadata.same_but_time(&other.metadata)
    }
}

impl Metadata {
    /// Whether all but the modification time is equal.
    pub fn same_but_time(&self, other: &Self) -> bool {
        self.mode == other.mode
            && self.uid == other.uid
            && self.gid == other.gid
            && self.xattrs == other.xattrs
    }
}

/// Everything but the modification time. A file without digest is encoded by its size, and so
/// must not be used where content matters.
impl ContentHash for Entry {
    fn encode(&self, encoder: &mut KeyEncoder) {
        encoder.bytes(self.path.as_bytes());
        match &self.kind {
            EntryKind::File { size, digest } => encoder.tag("file").number(*size).value(digest),
            EntryKind::Directory { opaque } => encoder.tag("directory").value(opaque),
            EntryKind::Symlink(target) => encoder.tag("symlink").bytes(target),
            EntryKind::Hardlink(target) => encoder.tag("hardlink").bytes(target.as_bytes()),
            EntryKind::CharDevice(major, minor) => encoder.tag("char").value(major).value(minor),
            EntryKind::BlockDevice(major, minor) => encoder.tag("block").value(major).value(minor),
            EntryKind::Fifo => encoder.tag("fifo"),
            EntryKind::Whiteout => encoder.tag("whiteout"),
        };
        let Metadata {
            mode,
            uid,
            gid,
            mtime: _,
            xattrs,
        } = &self.metadata;
        encoder
            .value(mode)
            .value(uid)
            .value(gid)
            .number(xattrs.len() as u64);
        for Xattr { name, value } in xattrs {
            encoder.bytes(name).bytes(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry {
            path: LayerPath::new(path.as_bytes()).unwrap(),
            kind,
            metadata: Metadata::default(),
        }
    }

    #[test]
    fn whiteouts_come_before_their_siblings() {
        let directory = || EntryKind::Directory { opaque: false };
        let mut entries = [
            entry("b", EntryKind::Whiteout),
            entry("a/x", directory()),
            entry("a/z", EntryKind::Whiteout),
            entry("a", directory()),
            entry("a/x/y", EntryKind::Fifo),
        ];
        entries.sort_by(Entry::canonical_cmp);
        let order: Vec<String> = entries.iter().map(|e| e.path.to_string()).collect();
        assert_eq!(order, ["/b", "/a", "/a/z", "/a/x", "/a/x/y"]);
    }

    #[test]
    fn time_is_not_content() {
        let hash = |e: &Entry| KeyEncoder::hash_of("test", e);
        let one = entry("a", EntryKind::Fifo);
        let mut two = one.clone();
        two.metadata.mtime.seconds = 9;
        assert_eq!(hash(&one), hash(&two));
        two.metadata.mode = 0o600;
        assert_ne!(hash(&one), hash(&two));
    }
}
