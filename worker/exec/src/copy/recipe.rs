//! A layer that is not made yet: its entries, and where the bytes of each come from.
//!
//! A recipe says as much as a tree does. It can be made into one
//! (`materialise`), or be streamed into a tar without ever being one.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use ashlar_model::layer::{Entry, EntryKind, LayerIndex, LayerPath, Metadata};
use serde::{Deserialize, Serialize};

use crate::layer::FileBytes;
use crate::layer::tree::Root;
use crate::layer::tree::inode::Inode;

/// The entries of a layer in canonical order, with their bytes' sources.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Recipe {
    /// Directories on this machine that [`ByteSource`]s number.
    pub roots: Vec<PathBuf>,
    /// Mode, owner, times and attributes of the filesystem's root, as the layers below have it.
    /// The root is never an entry, but a tree has one, and an overlay takes it from the topmost.
    pub root: Metadata,
    /// The entries in canonical order ([`Entry::canonical_cmp`]), each path once, parents first.
    pub entries: Vec<RecipeEntry>,
}

/// One entry of a [`Recipe`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipeEntry {
    /// What it will be.
    pub entry: Entry,
    /// Where its bytes are.
    pub source: ByteSource,
}

/// Where the bytes of a file are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ByteSource {
    /// There are none: it is no regular file, or a hard link to one.
    Nothing,
    /// In a file that others may change at any time. What is read is checked against the entry's
    /// digest, or, where the entry has none, against its size.
    Changeable {
        /// Index into [`Recipe::roots`].
        root: u32,
        /// Path below that directory; no component of it is a symbolic link.
        path: LayerPath,
    },
    /// In a file of a layer's tree, which nobody changes any more.
    Immutable {
        /// Index into [`Recipe::roots`].
        root: u32,
        /// Path below that directory; no component of it is a symbolic link.
        path: LayerPath,
        /// Whether owner, mode, times and attributes are the entry's too, so that a hard link
        /// does as well as a copy.
        same_inode: bool,
    },
    /// Here.
    Inline(Vec<u8>),
}

impl Recipe {
    /// A layer as its index describes it, the bytes of whose files are in a tree. The tree may lack
    /// owners and devices that could not be made where it was.
    pub fn of_tree(tree: PathBuf, index: LayerIndex) -> Self {
        let root = index.entries.iter().find(|entry| entry.path.is_root());
        let root = root.map(|entry| entry.metadata.clone());
        // One that the layer does not name is as the tree has it from the layers below.
        let root = root.or_else(|| {
            let opened = Root::open(&tree).ok()?;
            let inode = Inode::of(opened.as_fd()).ok()?;
            Some(inode.metadata(Vec::new()))
        });
        let root = root.unwrap_or_else(|| Metadata {
            mode: 0o755,
            ..Metadata::default()
        });
        let entries = index.entries.into_iter();
        let entries = entries.filter(|entry| !entry.path.is_root()).map(|entry| {
            let source = match entry.kind {
                EntryKind::File { .. } => ByteSource::Immutable {
                    root: 0,
                    path: entry.path.clone(),
                    same_inode: false,
                },
                _ => ByteSource::Nothing,
            };
            RecipeEntry { entry, source }
        });
        Self {
            roots: vec![tree],
            root,
            entries: entries.collect(),
        }
    }

    /// The same files, none of which is the very file of another layer: for a tree whose files
    /// will be written to.
    #[must_use]
    pub fn with_own_files(mut self) -> Self {
        for item in &mut self.entries {
            if let ByteSource::Immutable { same_inode, .. } = &mut item.source {
                *same_inode = false;
            }
        }
        self
    }

    /// The layer's index: the entries without their sources.
    pub fn index(&self) -> LayerIndex {
        LayerIndex {
            entries: self.entries.iter().map(|item| item.entry.clone()).collect(),
        }
    }
}

impl Recipe {
    /// Opens the bytes of one of its files.
    pub fn open_source<'a>(&'a self, source: &'a ByteSource) -> io::Result<FileBytes<'a>> {
        let (root, path) = match source {
            ByteSource::Nothing => return Ok(FileBytes::Memory(&[])),
            ByteSource::Inline(bytes) => return Ok(FileBytes::Memory(bytes)),
            ByteSource::Changeable { root, path } | ByteSource::Immutable { root, path, .. } => {
                (root, path)
            }
        };
        let directory = usize::try_from(*root)
            .ok()
            .and_then(|root| self.roots.get(root));
        let directory = directory.ok_or(io::ErrorKind::InvalidInput)?;
        bytes_of(&Root::open(directory)?, path)
    }
}

/// The bytes of a file. A socket, which is listed as an empty file, has none.
pub(super) fn bytes_of(root: &Root, path: &LayerPath) -> io::Result<FileBytes<'static>> {
    match root.open_file(path) {
        Ok(file) => Ok(FileBytes::File(File::from(file))),
        Err(rustix::io::Errno::NXIO) => Ok(FileBytes::Memory(&[])),
        Err(errno) => Err(errno.into()),
    }
}
