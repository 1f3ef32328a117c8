//! The canonical listing of a file tree: what must be equal for two images to have the same root
//! filesystem. Times are left out.

mod difference;
mod read;

use std::collections::BTreeMap;

/// Every path of a tree, relative to its root and without leading slash; the root itself is "".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    entries: BTreeMap<String, TreeEntry>,
}

/// One path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// Its type, and what only that type has.
    pub kind: Kind,
    /// The 12 permission bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Extended attributes. A label that the reading machine's security module adds is not one.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Of a file with several names in this tree the first of them.
    pub linked_to: Option<String>,
}

/// The type of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file: its length and the SHA-256 of its bytes.
    File(u64, String),
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Symlink(String),
    /// A character device.
    CharDevice(u32, u32),
    /// A block device.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl Tree {
    /// The entry of a path; panics if there is none.
    #[track_caller]
    pub fn at(&self, path: &str) -> &TreeEntry {
        self.get(path)
            .unwrap_or_else(|| panic!("the tree has no {path}; it has {:#?}", self.names()))
    }

    /// The entry of a path.
    pub fn get(&self, path: &str) -> Option<&TreeEntry> {
        self.entries.get(path.trim_start_matches('/'))
    }

    /// All paths, in order.
    pub fn names(&self) -> Vec<&str> {
        self.entries.keys().map(String::as_str).collect()
    }

    /// How many paths there are, the root included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is nothing, not even a root.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The tree without the paths for which something holds.
    pub fn without(mut self, left_out: impl Fn(&str) -> bool) -> Self {
        self.entries.retain(|path, _| !left_out(path));
        self
    }

    /// Applies a change to every entry: to leave out what two readers cannot agree about.
    pub fn map(mut self, change: impl Fn(&str, &mut TreeEntry)) -> Self {
        for (path, entry) in &mut self.entries {
            change(path, entry);
        }
        self
    }
}

impl TreeEntry {
    /// Asserts mode and owner.
    #[track_caller]
    pub fn is_owned(&self, mode: u32, uid: u32, gid: u32) -> &Self {
        assert_eq!(
            (format!("{:o}", self.mode), self.uid, self.gid),
            (format!("{mode:o}"), uid, gid),
            "mode and owner of {self}"
        );
        self
    }

    /// Asserts that it is a file with some content.
    #[track_caller]
    pub fn has_content(&self, content: impl AsRef<[u8]>) -> &Self {
        let content = content.as_ref();
        let wanted = Kind::File(content.len() as u64, read::sha256(content));
        assert_eq!(
            self.kind,
            wanted,
            "the content should be {:?}",
            String::from_utf8_lossy(content)
        );
        self
    }

    /// Asserts that it is a symbolic link to some place.
    #[track_caller]
    pub fn links_to(&self, target: &str) -> &Self {
        assert_eq!(self.kind, Kind::Symlink(target.to_owned()));
        self
    }

    /// Asserts that it has an extended attribute.
    #[track_caller]
    pub fn has_xattr(&self, name: &str, value: impl AsRef<[u8]>) -> &Self {
        assert_eq!(
            self.xattrs.get(name).map(Vec::as_slice),
            Some(value.as_ref()),
            "{name} of {self}"
        );
        self
    }

    /// Asserts that it is a directory.
    #[track_caller]
    pub fn is_directory(&self) -> &Self {
        assert_eq!(self.kind, Kind::Directory);
        self
    }
}
