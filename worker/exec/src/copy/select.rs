//! The files of a stack of layers that sources stand for (COPY --from).

use std::collections::HashMap;

use ashlar_model::layer::{Entry, EntryKind, LayerPath};
use ashlar_model::select::{PatternError, SelectError, Source, SourceQuery};
use ashlar_model::step::{SelectedItem, Selection};
use rayon::iter::{IndexedParallelIterator as _, IntoParallelRefMutIterator as _};
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

use super::digest::digest_of;
use super::view::{LayeredView, Seen, ViewError};
use crate::layer::tree::inode::InodeId;

/// Whether selected files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digests {
    /// Every regular file gets its digest, as keys need it.
    Compute,
    /// Files whose digest is not known stay without, as a copy into a tree needs none.
    Skip,
}

/// Files selected from a stack of layers, and where in it their bytes are.
#[derive(Debug, Clone, Default)]
pub struct LayerSelection {
    /// The files.
    pub selection: Selection,
    /// For each entry of each item: where the bytes of a regular file are.
    pub(super) origins: Vec<Vec<Option<Origin>>>,
}

/// Where in a stack the bytes of a file are.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) layer: usize,
    pub(super) path: LayerPath,
    /// The file on disk, if there is one.
    pub(super) inode: Option<InodeId>,
}

/// Why files could not be selected from layers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelectFilesError {
    /// The source is no pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The files are not there, or cannot be reached.
    #[error(transparent)]
    Select(#[from] SelectError<ViewError>),
    /// A file cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
}

/// The files that a source stands for in a stack of layers. Owners and modes are those of the
/// files.
pub fn select(
    view: &LayeredView,
    source: impl Into<SourceQuery>,
    digests: Digests,
) -> Result<LayerSelection, SelectFilesError> {
    let source = Source::parse(&source.into())?;
    let mut selected = LayerSelection::default();
    for found in source.find(view)? {
        let Some(start) = view.see(&found.path)? else {
            continue;
        };
        let (mut seen, ways) = match source.filter() {
            Some(filter) if found.entry.is_directory() => view.walk_part(start, filter)?,
            _ => (view.walk(start)?, Vec::new()),
        };
        if digests == Digests::Compute {
            fill_in(view, &mut seen)?;
        }
        let (entries, origins) = relative(seen, &found.path);
        selected.selection.items.push(SelectedItem {
            name: found.name,
            path: found.path,
            entries,
            ways,
        });
        selected.origins.push(origins);
    }
    Ok(selected)
}

/// Reads the files that have no digest yet.
fn fill_in(view: &LayeredView, seen: &mut [Seen]) -> Result<(), ViewError> {
    let digest = |buffer: &mut Vec<u8>, seen: &Seen| match seen.node.entry.kind {
        EntryKind::File { size, digest: None } => {
            let failed = |source| ViewError::Source {
                path: seen.node.entry.path.clone(),
                source,
            };
            let bytes = view.open_file(seen)?;
            digest_of(bytes, size, buffer).map(Some).map_err(failed)
        }
        _ => Ok(None),
    };
    let learnt: Vec<_> = seen
        .par_iter()
        .map_init(Vec::new, digest)
        .collect::<Result<_, _>>()?;
    seen.par_iter_mut().zip(learnt).for_each(|(seen, learnt)| {
        if let Some((digest, size)) = learnt {
            let digest = Some(digest);
            seen.node.entry.kind = EntryKind::File { size, digest };
        }
    });
    Ok(())
}

/// The entries relative to the item at `base`, names of one file joined as hard links.
fn relative(seen: Vec<Seen>, base: &LayerPath) -> (Vec<Entry>, Vec<Option<Origin>>) {
    let mut first_names = HashMap::new();
    let mut entries: Vec<Entry> = Vec::with_capacity(seen.len());
    let mut origins = Vec::with_capacity(seen.len());
    for mut seen in seen {
        let (layer, filed_under) = (seen.layer, seen.node.filed_under.take());
        let (shared, inode) = (seen.node.shared.take(), seen.node.inode);
        let mut entry = seen.into_entry();
        let is_file = matches!(entry.kind, EntryKind::File { .. });
        let mut origin = is_file.then(|| Origin {
            layer,
            path: filed_under.unwrap_or_else(|| entry.path.clone()),
            inode,
        });
        entry.path = entry.path.strip_prefix(base).unwrap_or(entry.path);
        if let Some(shared) = shared {
            let index = entries.len();
            let first = *first_names.entry((layer, shared)).or_insert(index);
            if first != index {
                entry.kind = EntryKind::Hardlink(entries[first].path.clone());
                origin = None;
            }
        }
        entries.push(entry);
        origins.push(origin);
    }
    (entries, origins)
}
