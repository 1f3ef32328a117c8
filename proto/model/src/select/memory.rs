//! A filesystem in memory, to try patterns on.

use std::collections::BTreeMap;
use std::convert::Infallible;

use super::FileView;
use crate::layer::{Entry, EntryKind, LayerPath, Metadata};

#[derive(Debug, Default)]
pub(super) struct MemoryView {
    entries: BTreeMap<LayerPath, Entry>,
}

impl MemoryView {
    pub(super) fn new() -> Self {
        Self::default().with("", EntryKind::Directory { opaque: false })
    }

    pub(super) fn directory(self, path: &str) -> Self {
        self.with(path, EntryKind::Directory { opaque: false })
    }

    pub(super) fn file(self, path: &str) -> Self {
        let (size, digest) = (0, None);
        self.with(path, EntryKind::File { size, digest })
    }

    pub(super) fn link(self, path: &str, target: &str) -> Self {
        self.with(path, EntryKind::Symlink(target.into()))
    }

    fn with(mut self, path: &str, kind: EntryKind) -> Self {
        let path = LayerPath::new(path.as_bytes()).unwrap();
        let mut parent = path.parent();
        while let Some(directory) = parent {
            parent = directory.parent();
            self.entries
                .entry(directory.clone())
                .or_insert_with(|| Entry {
                    path: directory,
                    kind: EntryKind::Directory { opaque: false },
                    metadata: Metadata::default(),
                });
        }
        let metadata = Metadata::default();
        self.entries.insert(
            path.clone(),
            Entry {
                path,
                kind,
                metadata,
            },
        );
        self
    }
}

impl FileView for MemoryView {
    type Error = Infallible;

    fn lookup(&self, path: &LayerPath) -> Result<Option<Entry>, Infallible> {
        Ok(self.entries.get(path).cloned())
    }

    fn read_directory(&self, path: &LayerPath) -> Result<Vec<Vec<u8>>, Infallible> {
        let inside = |entry: &LayerPath| entry.parent().as_ref() == Some(path);
        let names = self.entries.keys().filter(|entry| inside(entry));
        Ok(names
            .rev()
            .map(|entry| entry.file_name().unwrap().to_vec())
            .collect())
    }
}
