//! The bytes of a tree's files, for its tar.

use std::fs::File;
use std::io;
use std::path::Path;

use ashlar_model::layer::Entry;

use super::Root;
use crate::layer::contents::{FileBytes, FileContents};

/// Opens the files of a tree on disk by the paths of its index.
#[derive(Debug)]
pub struct TreeContents {
    root: Root,
}

impl TreeContents {
    /// Of the tree at `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        Root::open(path).map(|root| Self { root })
    }
}

impl FileContents for TreeContents {
    fn open(&self, _position: usize, entry: &Entry) -> io::Result<FileBytes<'_>> {
        let file = self.root.open_file(&entry.path)?;
        Ok(FileBytes::File(File::from(file)))
    }
}
