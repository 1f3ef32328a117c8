//! The destination filesystem with what is planned so far, as one filesystem.
//!
//! Files are kept apart from their names, so that a file that replaces one name of a hard-linked
//! file leaves the others as they were; which name is the file and which are links to it is
//! settled only in the end, by their order.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use ashlar_model::layer::{Entry, EntryKind, LayerPath, Metadata};
use ashlar_model::select::FileView;

use super::super::recipe::{ByteSource, Recipe, RecipeEntry};
use super::super::view::{LayeredView, ViewError};
use super::CopyError;
use crate::layer::tree::inode::InodeId;

/// What lies below, and what will lie above it.
#[derive(Debug)]
pub(super) struct State<'a> {
    below: &'a LayeredView,
    planned: BTreeMap<LayerPath, usize>,
    inodes: Vec<PlannedInode>,
    roots: Vec<PathBuf>,
    /// Files on disk that files are taken from.
    used: HashSet<InodeId>,
    /// What is known of the directories below, so that the many new files of a copy need no
    /// lookup each.
    listings: RefCell<HashMap<LayerPath, Listing>>,
}

/// What is known of a directory below.
#[derive(Debug)]
enum Listing {
    /// Nothing; that many names were looked up in it.
    Asked(usize),
    /// No other names than these are in it.
    AtMost(HashSet<Vec<u8>>),
}

/// After that many lookups in one directory it is worth listing.
const WORTH_LISTING: usize = 8;

/// Something planned, apart from its name.
#[derive(Debug, Clone)]
pub(super) struct PlannedInode {
    pub(super) kind: EntryKind,
    pub(super) metadata: Metadata,
    pub(super) source: ByteSource,
}

impl<'a> State<'a> {
    pub(super) fn new(below: &'a LayeredView) -> Self {
        Self {
            below,
            planned: BTreeMap::new(),
            inodes: Vec::new(),
            roots: Vec::new(),
            used: HashSet::new(),
            listings: RefCell::default(),
        }
    }

    /// What is at a real path: planned, or below.
    pub(super) fn find(&self, path: &LayerPath) -> Result<Option<Entry>, ViewError> {
        if let Some(inode) = self.planned.get(path) {
            let PlannedInode { kind, metadata, .. } = &self.inodes[*inode];
            return Ok(Some(Entry {
                path: path.clone(),
                kind: kind.clone(),
                metadata: metadata.clone(),
            }));
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return self.below.lookup(path);
        };
        if !self.may_be_below(&parent, name)? {
            return Ok(None);
        }
        self.below.lookup(path)
    }

    /// Whether a directory below may have a name.
    fn may_be_below(&self, directory: &LayerPath, name: &[u8]) -> Result<bool, ViewError> {
        let mut listings = self.listings.borrow_mut();
        let listing = match listings.get_mut(directory) {
            Some(listing) => listing,
            None => listings
                .entry(directory.clone())
                .or_insert(Listing::Asked(0)),
        };
        match listing {
            Listing::AtMost(names) => return Ok(names.contains(name)),
            Listing::Asked(times) if *times < WORTH_LISTING => {
                *times += 1;
                return Ok(true);
            }
            Listing::Asked(_) => {}
        }
        let names = self.below.names_at_most(directory)?;
        let may_be = names.contains(name);
        *listing = Listing::AtMost(names);
        Ok(may_be)
    }

    /// Notes that nothing below is in a directory, for it is new.
    fn nothing_below(&self, directory: &LayerPath) {
        let nothing = Listing::AtMost(HashSet::new());
        self.listings
            .borrow_mut()
            .insert(directory.clone(), nothing);
    }

    /// Plans a directory that is not there yet.
    pub(super) fn make_directory(&mut self, path: LayerPath, metadata: Metadata) {
        self.nothing_below(&path);
        self.put_directory(path, metadata);
    }

    /// Plans a directory with these metadata, whether it is there or not.
    pub(super) fn put_directory(&mut self, path: LayerPath, metadata: Metadata) {
        self.put(
            path,
            PlannedInode {
                kind: EntryKind::Directory { opaque: false },
                metadata,
                source: ByteSource::Nothing,
            },
        );
    }

    /// Plans anything, in place of what may be there.
    pub(super) fn put(&mut self, path: LayerPath, inode: PlannedInode) {
        self.planned.insert(path, self.inodes.len());
        self.inodes.push(inode);
    }

    /// Forgets what is planned below a path: something else than a directory comes there.
    pub(super) fn forget_below(&mut self, path: &LayerPath) {
        let below = self.planned.range(path.clone()..);
        let below: Vec<LayerPath> = below
            .map(|(planned, _)| planned)
            .take_while(|planned| planned.starts_with(path))
            .filter(|planned| *planned != path)
            .cloned()
            .collect();
        for path in below {
            self.planned.remove(&path);
        }
    }

    /// Plans one more name of a planned file; nothing if there is none.
    pub(super) fn link(&mut self, path: LayerPath, file: &LayerPath) {
        if let Some(inode) = self.planned.get(file) {
            self.planned.insert(path, *inode);
        }
    }

    /// The number of a directory in the recipe.
    pub(super) fn root_number(&mut self, directory: &Path) -> u32 {
        let known = self.roots.iter().position(|root| root == directory);
        let number = known.unwrap_or_else(|| {
            self.roots.push(directory.to_owned());
            self.roots.len() - 1
        });
        // There are as many as sources and layers: far fewer than this can count.
        u32::try_from(number).unwrap_or(u32::MAX)
    }

    /// Whether no planned file was taken from this file on disk so far.
    pub(super) fn is_first_use(&mut self, inode: InodeId) -> bool {
        self.used.insert(inode)
    }

    /// All that is planned, with the directories that lead to it.
    pub(super) fn into_recipe(mut self) -> Result<Recipe, CopyError> {
        self.planned.remove(&LayerPath::ROOT);
        self.list_parents()?;
        let mut first_names: HashMap<usize, LayerPath> = HashMap::new();
        let mut entries = Vec::with_capacity(self.planned.len());
        for (path, number) in self.planned {
            let inode = &mut self.inodes[number];
            let (kind, source) = match first_names.get(&number) {
                Some(first) => (EntryKind::Hardlink(first.clone()), ByteSource::Nothing),
                None => {
                    if matches!(inode.kind, EntryKind::File { .. }) {
                        first_names.insert(number, path.clone());
                    }
                    let source = std::mem::replace(&mut inode.source, ByteSource::Nothing);
                    (inode.kind.clone(), source)
                }
            };
            let metadata = inode.metadata.clone();
            let entry = Entry {
                path,
                kind,
                metadata,
            };
            entries.push(RecipeEntry { entry, source });
        }
        Ok(Recipe {
            roots: self.roots,
            root: self.below.root_metadata()?,
            entries,
        })
    }

    /// Adds the directories on the way to what is planned, as they are below.
    fn list_parents(&mut self) -> Result<(), CopyError> {
        let mut missing: BTreeMap<LayerPath, Metadata> = BTreeMap::new();
        for path in self.planned.keys() {
            let mut parent = path.parent();
            while let Some(directory) = parent {
                let known =
                    self.planned.contains_key(&directory) || missing.contains_key(&directory);
                if directory.is_root() || known {
                    break;
                }
                let entry = self.below.lookup(&directory)?;
                parent = directory.parent();
                missing.extend(entry.map(|entry| (directory, entry.metadata)));
            }
        }
        for (path, metadata) in missing {
            self.put_directory(path, metadata);
        }
        Ok(())
    }
}

impl FileView for State<'_> {
    type Error = ViewError;

    fn lookup(&self, path: &LayerPath) -> Result<Option<Entry>, ViewError> {
        self.find(path)
    }

    fn read_directory(&self, path: &LayerPath) -> Result<Vec<Vec<u8>>, ViewError> {
        let planned = self.planned.range(path.clone()..);
        let planned = planned
            .map(|(planned, _)| planned)
            .take_while(|planned| planned.starts_with(path))
            .filter(|planned| planned.parent().as_ref() == Some(path))
            .filter_map(|planned| planned.file_name().map(<[u8]>::to_vec));
        let mut names: HashSet<Vec<u8>> = self.below.read_directory(path)?.into_iter().collect();
        names.extend(planned);
        Ok(names.into_iter().collect())
    }
}
