//! One layer that is a list of entries in canonical order.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_model::layer::{Entry, EntryKind, LayerIndex, LayerPath, Metadata};

use super::{Node, Shared, ViewError, implied_directory};
use crate::copy::recipe::{ByteSource, Recipe};
use crate::layer::FileBytes;

/// A recipe or an index, searched in place.
#[derive(Debug)]
pub(super) struct ListedLayer {
    list: List,
    /// The files that have other names too.
    link_targets: HashSet<LayerPath>,
}

#[derive(Debug)]
enum List {
    Recipe(Arc<Recipe>),
    Index(Arc<LayerIndex>),
}

impl ListedLayer {
    pub(super) fn recipe(recipe: Arc<Recipe>) -> Self {
        Self::new(List::Recipe(recipe))
    }

    pub(super) fn index(index: Arc<LayerIndex>) -> Self {
        Self::new(List::Index(index))
    }

    fn new(list: List) -> Self {
        let target = |index| match &list.entry(index).kind {
            EntryKind::Hardlink(target) => Some(target.clone()),
            _ => None,
        };
        let link_targets = (0..list.len()).filter_map(target).collect();
        Self { list, link_targets }
    }

    /// What the layer has at a path.
    pub(super) fn look(&self, path: &LayerPath) -> Option<Node> {
        if let Some(index) = self.list.find(path) {
            return Some(self.node(self.list.entry(index)));
        }
        if path.is_root() {
            return self.list.root().map(|metadata| {
                Node::plain(Entry {
                    metadata,
                    ..implied_directory(LayerPath::ROOT)
                })
            });
        }
        let next = self.list.first_below(path);
        let implied = next < self.list.len() && self.list.entry(next).path.starts_with(path);
        implied.then(|| Node::implied(path.clone()))
    }

    /// Everything that the layer has in a directory.
    pub(super) fn list(&self, directory: &LayerPath) -> Vec<Node> {
        let mut nodes = Vec::new();
        let mut index = self.list.first_below(directory);
        while index < self.list.len() {
            let entry = self.list.entry(index);
            let Some(below) = entry.path.strip_prefix(directory) else {
                break;
            };
            let name = below.components().next().unwrap_or_default();
            let Ok(child) = directory.join(name) else {
                break;
            };
            if child == entry.path {
                nodes.push(self.node(entry));
            } else {
                nodes.push(Node::implied(child.clone()));
            }
            index = self.list.after_all_below(index, &child);
        }
        nodes
    }

    fn node(&self, entry: &Entry) -> Node {
        let (kind, target) = match &entry.kind {
            EntryKind::Hardlink(target) => match self.list.find(target) {
                Some(index) => (self.list.entry(index).kind.clone(), Some(target)),
                None => (entry.kind.clone(), None),
            },
            kind => (kind.clone(), None),
        };
        let linked = target.or_else(|| self.link_targets.get(&entry.path));
        Node {
            shared: linked.map(|path| Shared::Path(path.clone())),
            filed_under: target.cloned(),
            inode: None,
            implied: false,
            entry: Entry {
                path: entry.path.clone(),
                kind,
                metadata: entry.metadata.clone(),
            },
        }
    }

    pub(super) fn open_file(&self, path: &LayerPath) -> Result<FileBytes<'_>, ViewError> {
        let no_bytes = || ViewError::NoBytes { path: path.clone() };
        let List::Recipe(recipe) = &self.list else {
            return Err(no_bytes());
        };
        let index = self.list.find(path).ok_or_else(no_bytes)?;
        recipe
            .open_source(&recipe.entries[index].source)
            .map_err(|source: io::Error| ViewError::Source {
                path: path.clone(),
                source,
            })
    }

    pub(super) fn source_of(
        &self,
        path: &LayerPath,
    ) -> Result<(Option<&Path>, ByteSource), ViewError> {
        let no_bytes = || ViewError::NoBytes { path: path.clone() };
        let List::Recipe(recipe) = &self.list else {
            return Err(no_bytes());
        };
        let index = self.list.find(path).ok_or_else(no_bytes)?;
        let mut source = recipe.entries[index].source.clone();
        let root = match &mut source {
            ByteSource::Changeable { root, .. } => Some(root),
            ByteSource::Immutable {
                root, same_inode, ..
            } => {
                // It was judged by that recipe's entry, which may say something else.
                *same_inode = false;
                Some(root)
            }
            ByteSource::Nothing | ByteSource::Inline(_) => None,
        };
        let directory = root.and_then(|root| {
            let number = std::mem::take(root);
            recipe
                .roots
                .get(usize::try_from(number).ok()?)
                .map(PathBuf::as_path)
        });
        Ok((directory, source))
    }
}

impl List {
    fn len(&self) -> usize {
        match self {
            Self::Recipe(recipe) => recipe.entries.len(),
            Self::Index(index) => index.entries.len(),
        }
    }

    fn entry(&self, index: usize) -> &Entry {
        match self {
            Self::Recipe(recipe) => &recipe.entries[index].entry,
            Self::Index(list) => &list.entries[index],
        }
    }

    /// What it says of the root without an entry.
    fn root(&self) -> Option<Metadata> {
        match self {
            Self::Recipe(recipe) => Some(recipe.root.clone()),
            Self::Index(_) => None,
        }
    }

    /// The number of the entries that come before `probe`.
    fn position(&self, probe: &Entry) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.entry(middle).canonical_cmp(probe).is_lt() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The entry of a path. Whiteouts come before their siblings, so there are two places to
    /// look at.
    fn find(&self, path: &LayerPath) -> Option<usize> {
        let mut probe = implied_directory(path.clone());
        let mut find = |kind| {
            probe.kind = kind;
            let index = self.position(&probe);
            (index < self.len() && self.entry(index).path == *path).then_some(index)
        };
        find(EntryKind::Directory { opaque: false }).or_else(|| find(EntryKind::Whiteout))
    }

    /// The place of the first entry below a directory, if it has any.
    fn first_below(&self, directory: &LayerPath) -> usize {
        let index = self.position(&implied_directory(directory.clone()));
        let own = index < self.len() && self.entry(index).path == *directory;
        index + usize::from(own)
    }

    /// The place after `path`, which is at `index` or begins there, and all below it.
    fn after_all_below(&self, index: usize, path: &LayerPath) -> usize {
        let (mut low, mut high) = (index, self.len());
        // Most entries have nothing below them.
        if index + 1 < self.len() && !self.entry(index + 1).path.starts_with(path) {
            return index + 1;
        }
        while low < high {
            let middle = low.midpoint(high);
            if self.entry(middle).path.starts_with(path) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}
