//! Putting what an archive unpacks to where it goes.
//!
//! An archive is unpacked as tar(1) does it in a root of its own, and not copied (`unpack_root.go`
//! of BuildKit):
//!
//! - Its destination is a directory, and is made if it is missing. `--chmod` applies to nothing.
//! - Symbolic links that are there on the way to an entry are followed, within the destination,
//!   also by directories themselves. Whatever else is in the way is replaced, directories with
//!   all that they hold.
//! - A directory of the archive gives one that is there its owner, mode and time. Those that the
//!   archive does not name are made for root, or left as they are.

use std::collections::HashMap;

use ashlar_model::layer::{Entry, EntryKind, LayerPath, Metadata};
use ashlar_model::select::{FileView, resolve};

use super::super::view::ViewError;
use super::CopyError;
use super::place::{Destination, Item, MADE_DIRECTORY, Rules, make_directories_as, put_leaf};
use super::state::State;

/// Plans an archive's contents.
pub(super) fn place(
    state: &mut State<'_>,
    target: &Destination,
    item: &Item<'_>,
    rules: &Rules,
) -> Result<(), CopyError> {
    let made = |rules: &Rules| Metadata {
        mode: MADE_DIRECTORY,
        ..rules.made_directory()
    };
    let root = resolve(state, target.path.as_bytes())?.path;
    make_directories_as(state, &root, &made(rules))?;
    let unnamed = Metadata {
        uid: 0,
        gid: 0,
        ..made(rules)
    };
    // Where each directory of the archive really is; they come before what is in them.
    let mut real = HashMap::from([(LayerPath::ROOT, root.clone())]);
    for (index, entry) in item.entries.iter().enumerate().skip(1) {
        let place = place_of(&real, &entry.path, &root);
        match &entry.kind {
            EntryKind::Directory { .. } => {
                let at = directory(state, &root, place, &unnamed)?;
                let there = state.find(&at)?.filter(Entry::is_directory).is_some();
                if item.ways.binary_search(&index).is_err() {
                    put_directory(state, at.clone(), rules.apply_owner(entry), there);
                } else if !there {
                    put_directory(state, at.clone(), unnamed.clone(), there);
                }
                real.insert(entry.path.clone(), at);
            }
            EntryKind::Hardlink(target) => {
                let target = place_of(&real, target, &root);
                state.forget_below(&place);
                state.link(place, &target);
            }
            _ => {
                state.forget_below(&place);
                put_leaf(state, place, item, index, rules.apply_owner(entry))?;
            }
        }
    }
    Ok(())
}

/// Where an entry is whose directory has been placed.
fn place_of(real: &HashMap<LayerPath, LayerPath>, path: &LayerPath, root: &LayerPath) -> LayerPath {
    let parent = path.parent().and_then(|parent| real.get(&parent));
    let name = path.file_name().unwrap_or_default();
    let joined = parent.unwrap_or(root).join(name);
    joined.unwrap_or_else(|_| root.clone())
}

/// Where a directory goes: where a link leads that is there, else where it says. Makes what is
/// missing on a link's way.
fn directory(
    state: &mut State<'_>,
    root: &LayerPath,
    place: LayerPath,
    unnamed: &Metadata,
) -> Result<LayerPath, CopyError> {
    let there = state.find(&place)?;
    if !matches!(there.map(|there| there.kind), Some(EntryKind::Symlink(_))) {
        return Ok(place);
    }
    let within = Below { state, root };
    let relative = place.strip_prefix(root).unwrap_or_default();
    let at = root.join_path(&resolve(&within, relative.as_bytes())?.path);
    if let Some(parent) = at.parent() {
        make_directories_as(state, &parent, unnamed)?;
    }
    Ok(at)
}

fn put_directory(state: &mut State<'_>, path: LayerPath, metadata: Metadata, there: bool) {
    if there {
        state.put_directory(path, metadata);
    } else {
        state.make_directory(path, metadata);
    }
}

/// A directory of the destination as a root: no link leads out of it.
struct Below<'s, 'v> {
    state: &'s State<'v>,
    root: &'s LayerPath,
}

impl FileView for Below<'_, '_> {
    type Error = ViewError;

    fn lookup(&self, path: &LayerPath) -> Result<Option<Entry>, ViewError> {
        self.state.find(&self.root.join_path(path))
    }

    fn read_directory(&self, path: &LayerPath) -> Result<Vec<Vec<u8>>, ViewError> {
        self.state.read_directory(&self.root.join_path(path))
    }
}
