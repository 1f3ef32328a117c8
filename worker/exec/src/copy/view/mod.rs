//! A stack of layers as the one filesystem that a container would see.
//!
//! Layers may be trees on disk, recipes, or bare indexes, in any mixture. No mount is needed, so
//! a build without RUN needs no privilege.
//!
//! A directory of the merged filesystem is made of the directories at its path in some of the
//! layers, its *parts*: from the topmost layer down to the first opaque one, or to where a
//! whiteout or something else that is no directory stands. A walk hands the parts down, so that
//! each directory is looked up only in the layers that have it.
//!
//! | module | subject |
//! |---|---|
//! | `part` | walks that take only a part |
//! | `tree` | one layer on disk |
//! | `listed` | one layer that is a list of entries |

mod listed;
mod part;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ashlar_model::layer::{Entry, EntryKind, LayerIndex, LayerPath, Metadata, Timestamp};
use ashlar_model::select::FileView;
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use rayon::slice::ParallelSliceMut as _;

use self::listed::ListedLayer;
use self::tree::TreeLayer;
use super::recipe::{ByteSource, Recipe};
use crate::layer::FileBytes;
use crate::layer::tree::inode::InodeId;

/// Mode of a root that no layer says anything about.
const ROOT_MODE: u16 = 0o755;

/// One layer of a view.
#[derive(Debug, Clone)]
pub enum ViewLayer {
    /// A tree on disk.
    Tree(PathBuf),
    /// A layer that is not made yet, and can be read nevertheless.
    Recipe(Arc<Recipe>),
    /// Only the entries are known: it can be looked into, but no file of it can be read.
    Index(Arc<LayerIndex>),
}

/// Why a stack of layers cannot be looked into.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// A layer's tree is not there.
    #[error("cannot open the layer {}", layer.display())]
    Open {
        /// The tree.
        layer: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in a layer's tree cannot be read.
    #[error("cannot read {path} in the layer {}", layer.display())]
    Read {
        /// The tree.
        layer: PathBuf,
        /// What in it.
        path: LayerPath,
        /// Why.
        source: io::Error,
    },
    /// The bytes of a file that belongs to a recipe cannot be read.
    #[error("cannot read the file that {path} is made from")]
    Source {
        /// The file as a container would see it.
        path: LayerPath,
        /// Why.
        source: io::Error,
    },
    /// A layer must be fetched or unpacked first. (A defect of the caller, not of the input.)
    #[error("the bytes of {path} are not here: its layer is only known by its index")]
    NoBytes {
        /// The file as a container would see it.
        path: LayerPath,
    },
}

/// Layers seen as one filesystem.
#[derive(Debug)]
pub struct LayeredView {
    /// Bottom first.
    layers: Vec<Layer>,
    /// Directories that were looked up, so that the next path through them is found from there.
    /// Held only to look and to add.
    directories: Mutex<HashMap<LayerPath, Seen>>,
}

#[derive(Debug)]
enum Layer {
    Tree(TreeLayer),
    Listed(ListedLayer),
}

/// What one layer has at a path.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// The entry with its full path; may be a whiteout, never a hard link.
    pub(super) entry: Entry,
    /// What a regular file's other names have too.
    pub(super) shared: Option<Shared>,
    /// Where in the layer the bytes are filed, if not under the entry's own path.
    pub(super) filed_under: Option<LayerPath>,
    /// The file on disk that a regular file of a tree is.
    pub(super) inode: Option<InodeId>,
    /// Whether it is a directory that the layer has only by what is in it.
    pub(super) implied: bool,
}

/// What is equal for the names that one file has in one layer, and only for them. It says nothing
/// of other layers: trees share files on disk that containers see as several (a file that two
/// COPYs took from one stage).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Shared {
    Inode(InodeId),
    Path(LayerPath),
}

/// What the stack has at a path.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) node: Node,
    /// Which layer it comes from.
    pub(super) layer: usize,
    /// The parts of a directory, topmost layer first.
    parts: Vec<usize>,
}

impl LayeredView {
    /// A view of a stack, bottom first.
    pub fn open(layers: impl IntoIterator<Item = ViewLayer>) -> Result<Self, ViewError> {
        let open = |layer| match layer {
            ViewLayer::Tree(path) => TreeLayer::open(path).map(Layer::Tree),
            ViewLayer::Recipe(recipe) => Ok(Layer::Listed(ListedLayer::recipe(recipe))),
            ViewLayer::Index(index) => Ok(Layer::Listed(ListedLayer::index(index))),
        };
        let layers = layers.into_iter().map(open);
        Ok(Self {
            layers: layers.collect::<Result<_, _>>()?,
            directories: Mutex::default(),
        })
    }

    /// Whether there is no layer at all (`FROM scratch`).
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// The metadata of the root directory.
    pub fn root_metadata(&self) -> Result<Metadata, ViewError> {
        Ok(self.root()?.node.entry.metadata)
    }

    /// The metadata of the directory at a real path; `None` if there is none.
    pub fn directory_metadata(&self, path: &LayerPath) -> Result<Option<Metadata>, ViewError> {
        let seen = if path.is_root() {
            (!self.is_empty()).then(|| self.root()).transpose()?
        } else {
            self.see(path)?
        };
        let directory = seen.filter(|seen| seen.node.entry.is_directory());
        Ok(directory.map(|seen| seen.node.entry.metadata))
    }

    /// The bytes of the regular file at a real path; `None` if there is none, or if it has more
    /// than `limit` bytes.
    pub fn read_file(&self, path: &LayerPath, limit: u64) -> Result<Option<Vec<u8>>, ViewError> {
        let Some(seen) = self.see(path)? else {
            return Ok(None);
        };
        let EntryKind::File { size, .. } = seen.node.entry.kind else {
            return Ok(None);
        };
        if size > limit {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let failed = |source| ViewError::Source {
            path: path.clone(),
            source,
        };
        let file = self.open_file(&seen)?;
        file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some(bytes))
    }

    /// Opens the bytes of a regular file.
    pub(super) fn open_file(&self, seen: &Seen) -> Result<FileBytes<'_>, ViewError> {
        let own = &seen.node.entry.path;
        let path = seen.node.filed_under.as_ref().unwrap_or(own);
        match &self.layers[seen.layer] {
            Layer::Tree(tree) => tree.open_file(path),
            Layer::Listed(listed) => listed.open_file(path),
        }
    }

    /// Where a recipe finds the bytes of a regular file: a directory on this machine, if it is
    /// in one, and the source with that directory's number left as zero.
    pub(super) fn source_of(
        &self,
        layer: usize,
        path: &LayerPath,
    ) -> Result<(Option<&Path>, ByteSource), ViewError> {
        match &self.layers[layer] {
            Layer::Tree(tree) => {
                let source = ByteSource::Immutable {
                    root: 0,
                    path: path.clone(),
                    same_inode: true,
                };
                Ok((Some(tree.path()), source))
            }
            Layer::Listed(listed) => listed.source_of(path),
        }
    }

    fn root(&self) -> Result<Seen, ViewError> {
        let mut seen: Option<(Node, usize)> = None;
        let mut parts = Vec::with_capacity(self.layers.len());
        for layer in (0..self.layers.len()).rev() {
            parts.push(layer);
            let Some(node) = self.look(layer, &LayerPath::ROOT)? else {
                continue;
            };
            let is_opaque = is_opaque(&node.entry);
            seen.get_or_insert((node, layer));
            if is_opaque {
                break;
            }
        }
        let (node, layer) = seen.unwrap_or_else(|| (Node::plain(default_root()), 0));
        Ok(Seen { node, layer, parts })
    }

    fn look(&self, layer: usize, path: &LayerPath) -> Result<Option<Node>, ViewError> {
        match &self.layers[layer] {
            Layer::Tree(tree) => tree.look(path),
            Layer::Listed(listed) => Ok(listed.look(path)),
        }
    }

    fn list(&self, layer: usize, directory: &LayerPath) -> Result<Vec<Node>, ViewError> {
        match &self.layers[layer] {
            Layer::Tree(tree) => tree.list(directory),
            Layer::Listed(listed) => Ok(listed.list(directory)),
        }
    }

    /// What a container would see at a path, links not followed.
    pub(super) fn see(&self, path: &LayerPath) -> Result<Option<Seen>, ViewError> {
        let known = |path: &LayerPath| {
            let directories = self.directories.lock();
            let directories = directories.unwrap_or_else(PoisonError::into_inner);
            directories.get(path).cloned()
        };
        // Up to a directory that is known, then down again.
        let mut missing = Vec::new();
        let mut at = path.clone();
        let mut seen = loop {
            if let Some(seen) = known(&at) {
                break seen;
            }
            match at.parent() {
                Some(parent) => missing.push(std::mem::replace(&mut at, parent)),
                None => {
                    let root = self.root()?;
                    self.remember(&root);
                    break root;
                }
            }
        };
        while let Some(path) = missing.pop() {
            match self.see_child(&path, &seen.parts)? {
                Some(child) => seen = child,
                None => return Ok(None),
            }
            self.remember(&seen);
        }
        Ok(Some(seen))
    }

    fn remember(&self, seen: &Seen) {
        if !seen.parts.is_empty() || seen.node.entry.path.is_root() {
            let directories = self.directories.lock();
            let mut directories = directories.unwrap_or_else(PoisonError::into_inner);
            directories.insert(seen.node.entry.path.clone(), seen.clone());
        }
    }

    /// Names in a directory, in any order: all that can be seen there, and perhaps some that
    /// cannot. Costs no look at any of them.
    pub fn names_at_most(&self, path: &LayerPath) -> Result<HashSet<Vec<u8>>, ViewError> {
        let mut names = HashSet::new();
        for layer in self.see(path)?.map(|seen| seen.parts).unwrap_or_default() {
            match &self.layers[layer] {
                Layer::Tree(tree) => names.extend(tree.names(path)?),
                Layer::Listed(listed) => {
                    let nodes = listed.list(path).into_iter();
                    let name = |node: Node| node.entry.path.file_name().map(<[u8]>::to_vec);
                    names.extend(nodes.filter_map(name));
                }
            }
        }
        Ok(names)
    }

    fn see_child(&self, path: &LayerPath, parts: &[usize]) -> Result<Option<Seen>, ViewError> {
        let mut seen: Option<Seen> = None;
        for &layer in parts {
            if let Some(node) = self.look(layer, path)?
                && !add_part(&mut seen, node, layer)
            {
                break;
            }
        }
        Ok(seen)
    }

    /// Everything in a directory, by name.
    fn see_children(&self, directory: &LayerPath, parts: &[usize]) -> Result<Vec<Seen>, ViewError> {
        // What a name is, as far as known, and whether lower layers may still add to it.
        let mut names: BTreeMap<Vec<u8>, (Option<Seen>, bool)> = BTreeMap::new();
        for &layer in parts {
            for node in self.list(layer, directory)? {
                let name = node.entry.path.file_name().unwrap_or_default().to_vec();
                match names.entry(name) {
                    Slot::Vacant(slot) => {
                        let mut seen = None;
                        let open = add_part(&mut seen, node, layer);
                        slot.insert((seen, open));
                    }
                    Slot::Occupied(mut slot) => {
                        let (seen, open) = slot.get_mut();
                        *open = *open && add_part(seen, node, layer);
                    }
                }
            }
        }
        Ok(names.into_values().filter_map(|(seen, _)| seen).collect())
    }

    /// A path and all below it, in the order of paths.
    pub(super) fn walk(&self, start: Seen) -> Result<Vec<Seen>, ViewError> {
        let mut all = vec![start];
        let mut listed = 0;
        while listed < all.len() {
            let below: Vec<Vec<Seen>> = all[listed..]
                .par_iter()
                .filter(|seen| !seen.parts.is_empty())
                .map(|seen| self.see_children(&seen.node.entry.path, &seen.parts))
                .collect::<Result<_, _>>()?;
            listed = all.len();
            all.extend(below.into_iter().flatten());
        }
        all.par_sort_unstable_by(|a, b| a.node.entry.path.cmp(&b.node.entry.path));
        Ok(all)
    }
}

/// Adds what a layer has to what the layers above it have; tells whether the layers below it
/// can add anything more.
fn add_part(seen: &mut Option<Seen>, node: Node, layer: usize) -> bool {
    let is_directory = node.entry.is_directory();
    let open = is_directory && !is_opaque(&node.entry);
    if is_directory {
        match seen {
            // It says nothing of its own: what is below shows through.
            Some(seen) if seen.node.implied && !node.implied => {
                seen.node = node;
                seen.parts.push(layer);
            }
            Some(seen) => seen.parts.push(layer),
            None => {
                let parts = vec![layer];
                *seen = Some(Seen { node, layer, parts });
            }
        }
    } else if seen.is_none() && node.entry.kind != EntryKind::Whiteout {
        let parts = Vec::new();
        *seen = Some(Seen { node, layer, parts });
    }
    open
}

const fn is_opaque(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::Directory { opaque: true })
}

/// A directory that is only implied by what is in it.
fn implied_directory(path: LayerPath) -> Entry {
    Entry {
        path,
        kind: EntryKind::Directory { opaque: false },
        metadata: Metadata {
            mode: ROOT_MODE,
            mtime: Timestamp::default(),
            ..Metadata::default()
        },
    }
}

fn default_root() -> Entry {
    implied_directory(LayerPath::ROOT)
}

impl Node {
    const fn plain(entry: Entry) -> Self {
        Self {
            entry,
            shared: None,
            filed_under: None,
            inode: None,
            implied: false,
        }
    }

    /// A directory that is only implied by what is in it.
    fn implied(path: LayerPath) -> Self {
        Self {
            implied: true,
            ..Self::plain(implied_directory(path))
        }
    }
}

impl Seen {
    /// The entry as it is in the merged filesystem.
    pub(super) fn into_entry(self) -> Entry {
        let mut entry = self.node.entry;
        if entry.is_directory() {
            entry.kind = EntryKind::Directory { opaque: false };
        }
        entry
    }
}

impl FileView for LayeredView {
    type Error = ViewError;

    fn lookup(&self, path: &LayerPath) -> Result<Option<Entry>, ViewError> {
        Ok(self.see(path)?.map(Seen::into_entry))
    }

    fn read_directory(&self, path: &LayerPath) -> Result<Vec<Vec<u8>>, ViewError> {
        let Some(directory) = self.see(path)? else {
            return Ok(Vec::new());
        };
        let children = self.see_children(path, &directory.parts)?;
        let name = |seen: Seen| seen.node.entry.path.file_name().map(<[u8]>::to_vec);
        Ok(children.into_iter().filter_map(name).collect())
    }
}
