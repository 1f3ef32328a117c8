//! Putting one match of a source where it goes.

use std::borrow::Cow;
use std::path::Path;

use ashlar_model::chmod::ModeChange;
use ashlar_model::layer::{Entry, EntryKind, LayerPath, Metadata, Timestamp, Xattr};
use ashlar_model::select::{Resolved, resolve};
use ashlar_model::step::SelectedItem;

use super::super::owner::Owner;
use super::super::recipe::ByteSource;
use super::super::select::{LayerSelection, Origin};
use super::super::view::{LayeredView, ViewError};
use super::state::{PlannedInode, State};
use super::{CopyError, SourceFiles, archive};

/// Mode of directories made on the way.
pub(super) const MADE_DIRECTORY: u16 = 0o755;

/// Mode of a file given in the Dockerfile.
const INLINE_FILE: u16 = 0o644;

/// What holds for all that one instruction copies.
#[derive(Debug)]
pub(super) struct Rules {
    /// `--chown`.
    pub(super) owner: Option<Owner>,
    /// `--chmod`.
    pub(super) mode: Option<ModeChange>,
    /// Time of what the copy itself makes.
    pub(super) made_at: Timestamp,
}

/// Where a copy goes, as written.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) path: LayerPath,
    /// Whether it must be a directory: it is the root, or ends with `/` or `/.`.
    is_directory: bool,
}

/// One match of a source.
#[derive(Debug)]
pub(super) struct Item<'a> {
    name: &'a [u8],
    /// It itself, then all below it.
    pub(super) entries: Cow<'a, [Entry]>,
    /// Places in `entries` of directories that are only the way to others.
    pub(super) ways: &'a [usize],
    bytes: Bytes<'a>,
    /// Whether it is an archive's content, for which other rules hold.
    is_archive: bool,
}

/// Where the bytes of an item's files are.
#[derive(Debug)]
enum Bytes<'a> {
    Directory {
        root: &'a Path,
        base: &'a LayerPath,
    },
    Layers {
        view: &'a LayeredView,
        origins: &'a [Option<Origin>],
    },
    Inline(&'a [u8]),
}

impl Destination {
    pub(super) fn parse(written: &[u8]) -> Result<Self, CopyError> {
        let path = LayerPath::clamped(written)?;
        let is_directory = path.is_root() || written.ends_with(b"/") || written.ends_with(b"/.");
        Ok(Self { path, is_directory })
    }
}

impl Rules {
    /// The metadata of a copied entry.
    fn apply(&self, entry: &Entry) -> Metadata {
        let mut metadata = self.apply_owner(entry);
        let is_link = matches!(entry.kind, EntryKind::Symlink(_));
        if let Some(change) = &self.mode
            && !is_link
        {
            metadata.mode = change.apply(metadata.mode, entry.is_directory());
        }
        metadata
    }

    /// The metadata of an entry of an archive, to which `--chmod` does not apply.
    pub(super) fn apply_owner(&self, entry: &Entry) -> Metadata {
        let mut metadata = entry.metadata.clone();
        if let Some(Owner { uid, gid }) = self.owner {
            metadata.uid = uid;
            metadata.gid = gid;
        }
        metadata
    }

    /// The metadata of a directory made on the way.
    pub(super) fn made_directory(&self) -> Metadata {
        let Owner { uid, gid } = self.owner.unwrap_or_default();
        let mode = match &self.mode {
            Some(change) => change.apply_to_made_directory(MADE_DIRECTORY),
            None => MADE_DIRECTORY,
        };
        Metadata {
            mode,
            uid,
            gid,
            mtime: self.made_at,
            xattrs: Vec::new(),
        }
    }
}

impl<'a> Item<'a> {
    /// The matches of a source, in order.
    pub(super) fn all_of(source: &SourceFiles<'a>, rules: &Rules) -> Vec<Self> {
        match *source {
            SourceFiles::Directory { root, selection } => {
                let item = |item: &'a SelectedItem| Self {
                    name: &item.name,
                    entries: Cow::Borrowed(item.entries.as_slice()),
                    ways: &item.ways,
                    bytes: Bytes::Directory {
                        root,
                        base: &item.path,
                    },
                    is_archive: false,
                };
                selection.items.iter().map(item).collect()
            }
            SourceFiles::Layers { view, selection } => Self::of_layers(view, selection, false),
            SourceFiles::Unpacked { view, selection } => Self::of_layers(view, selection, true),
            SourceFiles::Inline { name, data } => vec![Self {
                name: name.as_bytes(),
                entries: Cow::Owned(vec![inline_entry(data, rules.made_at)]),
                ways: &[],
                bytes: Bytes::Inline(data),
                is_archive: false,
            }],
        }
    }

    fn of_layers(
        view: &'a LayeredView,
        selection: &'a LayerSelection,
        is_archive: bool,
    ) -> Vec<Self> {
        let items = selection.selection.items.iter().zip(&selection.origins);
        let item = |(item, origins): (&'a SelectedItem, &'a Vec<Option<Origin>>)| Self {
            name: &item.name,
            entries: Cow::Borrowed(item.entries.as_slice()),
            ways: &item.ways,
            bytes: Bytes::Layers { view, origins },
            is_archive,
        };
        items.map(item).collect()
    }

    /// Where the bytes of an entry are.
    fn source(&self, state: &mut State<'_>, index: usize) -> Result<ByteSource, ViewError> {
        let entry = &self.entries[index];
        if !matches!(entry.kind, EntryKind::File { .. }) {
            return Ok(ByteSource::Nothing);
        }
        match self.bytes {
            Bytes::Inline(data) => Ok(ByteSource::Inline(data.to_vec())),
            Bytes::Directory { root, base } => Ok(ByteSource::Changeable {
                root: state.root_number(root),
                path: base.join_path(&entry.path),
            }),
            Bytes::Layers { view, origins } => {
                let Some(origin) = origins.get(index).and_then(Option::as_ref) else {
                    return Ok(ByteSource::Nothing);
                };
                let (directory, mut source) = view.source_of(origin.layer, &origin.path)?;
                if let ByteSource::Immutable { same_inode, .. } = &mut source {
                    // Two names of one file in a tree are a hard link in its layer.
                    *same_inode &= origin.inode.is_some_and(|inode| state.is_first_use(inode));
                }
                if let Some(directory) = directory
                    && let ByteSource::Changeable { root, .. } | ByteSource::Immutable { root, .. } =
                        &mut source
                {
                    *root = state.root_number(directory);
                }
                Ok(source)
            }
        }
    }
}

fn inline_entry(data: &[u8], mtime: Timestamp) -> Entry {
    Entry {
        path: LayerPath::ROOT,
        kind: EntryKind::File {
            size: data.len() as u64,
            digest: Some(blake3::hash(data).into()),
        },
        metadata: Metadata {
            mode: INLINE_FILE,
            mtime,
            ..Metadata::default()
        },
    }
}

/// Plans one match.
pub(super) fn place(
    state: &mut State<'_>,
    target: &Destination,
    item: &Item<'_>,
    rules: &Rules,
) -> Result<(), CopyError> {
    let Some(own) = item.entries.first() else {
        return Ok(());
    };
    if item.is_archive {
        return archive::place(state, target, item, rules);
    }
    let must_be_there = match target.path.parent() {
        Some(parent) if !target.is_directory => parent,
        _ => target.path.clone(),
    };
    let must_be_there = resolve(state, must_be_there.as_bytes())?.path;
    make_directories(state, &must_be_there, rules)?;
    let Resolved { path, entry: there } = resolve(state, target.path.as_bytes())?;
    if own.is_directory() {
        return place_contents(state, &path, there, item, rules);
    }
    let into = there.is_some_and(|there| there.is_directory());
    let path = if into { path.join(item.name)? } else { path };
    if let Some(parent) = path.parent() {
        make_directories(state, &parent, rules)?;
    }
    place_leaf(state, (&path, path.clone()), item, 0, rules)
}

/// Plans the contents of a directory into the directory at `path`.
fn place_contents(
    state: &mut State<'_>,
    path: &LayerPath,
    there: Option<Entry>,
    item: &Item<'_>,
    rules: &Rules,
) -> Result<(), CopyError> {
    let mut metadata = match there {
        Some(there) if there.is_directory() => there.metadata,
        Some(_) => return Err(CopyError::DirectoryOntoFile { path: path.clone() }),
        None => {
            make_directories(state, path, rules)?;
            rules.made_directory()
        }
    };
    metadata.mtime = item.entries[0].metadata.mtime;
    state.put_directory(path.clone(), metadata);
    for index in 1..item.entries.len() {
        let entry = &item.entries[index];
        let below = path.join_path(&entry.path);
        if entry.is_directory() {
            let metadata = rules.apply(entry);
            if item.ways.binary_search(&index).is_ok() {
                place_way(state, below, entry, metadata)?;
            } else {
                place_directory(state, below, entry, metadata)?;
            }
        } else {
            place_leaf(state, (path, below), item, index, rules)?;
        }
    }
    Ok(())
}

/// Plans a directory below the one that is copied.
fn place_directory(
    state: &mut State<'_>,
    path: LayerPath,
    entry: &Entry,
    mut metadata: Metadata,
) -> Result<(), CopyError> {
    match state.find(&path)? {
        None => state.make_directory(path, metadata),
        Some(there) if there.is_directory() => {
            let is_own = |xattr: &Xattr| entry.metadata.xattrs.iter().all(|x| x.name != xattr.name);
            let kept = there.metadata.xattrs.into_iter().filter(is_own);
            metadata.xattrs.extend(kept);
            metadata.xattrs.sort_unstable();
            state.put_directory(path, metadata);
        }
        Some(_) => return Err(CopyError::DirectoryOntoFile { path }),
    }
    Ok(())
}

/// Plans a directory that is only the way to what is below it. One that is there already takes
/// its mode, without `--chmod`, and nothing else (`createParentDirs` in fsutil).
fn place_way(
    state: &mut State<'_>,
    path: LayerPath,
    entry: &Entry,
    metadata: Metadata,
) -> Result<(), CopyError> {
    match state.find(&path)? {
        None => state.make_directory(path, metadata),
        Some(there) if there.is_directory() => {
            let metadata = Metadata {
                mode: entry.metadata.mode,
                ..there.metadata
            };
            state.put_directory(path, metadata);
        }
        Some(_) => return Err(CopyError::DirectoryOntoFile { path }),
    }
    Ok(())
}

/// Plans anything but a directory, in place of what is there. The item goes to `base`, this part
/// of it to `path`.
fn place_leaf(
    state: &mut State<'_>,
    (base, path): (&LayerPath, LayerPath),
    item: &Item<'_>,
    index: usize,
    rules: &Rules,
) -> Result<(), CopyError> {
    if state.find(&path)?.is_some_and(|there| there.is_directory()) {
        return Err(CopyError::FileOntoDirectory { path });
    }
    let entry = &item.entries[index];
    if let EntryKind::Hardlink(target) = &entry.kind {
        state.link(path, &base.join_path(target));
        return Ok(());
    }
    put_leaf(state, path, item, index, rules.apply(entry))
}

/// Plans a part of an item, with this metadata, in place of what may be there.
pub(super) fn put_leaf(
    state: &mut State<'_>,
    path: LayerPath,
    item: &Item<'_>,
    index: usize,
    metadata: Metadata,
) -> Result<(), CopyError> {
    let entry = &item.entries[index];
    let mut source = item.source(state, index)?;
    if let ByteSource::Immutable { same_inode, .. } = &mut source {
        *same_inode = *same_inode && metadata == entry.metadata;
    }
    let inode = PlannedInode {
        kind: entry.kind.clone(),
        metadata,
        source,
    };
    state.put(path, inode);
    Ok(())
}

/// Plans a directory and its missing parents. `written` is followed as a process would.
pub(super) fn make_directory(
    state: &mut State<'_>,
    written: &[u8],
    rules: &Rules,
) -> Result<(), CopyError> {
    let path = resolve(state, written)?.path;
    make_directories(state, &path, rules)
}

/// Plans what is missing of a real path.
fn make_directories(
    state: &mut State<'_>,
    path: &LayerPath,
    rules: &Rules,
) -> Result<(), CopyError> {
    make_directories_as(state, path, &rules.made_directory())
}

/// The same, with these metadata for what is missing.
pub(super) fn make_directories_as(
    state: &mut State<'_>,
    path: &LayerPath,
    metadata: &Metadata,
) -> Result<(), CopyError> {
    let mut missing = Vec::new();
    let mut at = Some(path.clone());
    while let Some(path) = at {
        match state.find(&path)? {
            Some(there) if there.is_directory() => break,
            Some(_) => return Err(CopyError::NotADirectory { path }),
            None => {
                at = path.parent();
                missing.push(path);
            }
        }
    }
    for path in missing.into_iter().rev() {
        state.make_directory(path, metadata.clone());
    }
    Ok(())
}
