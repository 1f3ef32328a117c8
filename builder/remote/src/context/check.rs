//! What no honest listing says. The entries of a listing come from somebody else: what reads them
//! relies on what is checked here.

use ashlar_model::layer::{Entry, EntryKind, LayerPath, Metadata};
use ashlar_model::step::{SelectedItem, Selection};

use super::ContextError;

/// Permission, set-id and sticky bits.
const MODE_BITS: u16 = 0o7777;

/// The longest name or value of an extended attribute (`xattr(7)`).
const LONGEST_NAME: usize = 255;
const LONGEST_VALUE: usize = 64 << 10;

/// The longest path: what no tool can work with is no file of a context.
const LONGEST_PATH: usize = 64 << 10;

/// Checks a selection that somebody else has sent.
pub(super) fn check(selection: &Selection) -> Result<(), ContextError> {
    for item in &selection.items {
        check_item(item).map_err(ContextError::Malformed)?;
    }
    Ok(())
}

fn check_item(item: &SelectedItem) -> Result<(), &'static str> {
    check_path(&item.path)?;
    if !item.name.is_empty() {
        let name = LayerPath::new(&item.name);
        let is_name = name.is_ok_and(|name| name.as_bytes() == item.name);
        // With `--parents` an item keeps the directories that led to it.
        if !is_name || item.name.len() > LONGEST_PATH {
            return Err("an item has a name that no file has");
        }
    }
    let Some(own) = item.entries.first() else {
        return Err("an item is nothing");
    };
    if !own.path.is_root() {
        return Err("an item does not begin with itself");
    }
    for (index, entry) in item.entries.iter().enumerate() {
        check_path(&entry.path)?;
        check_metadata(&entry.metadata)?;
        if let Some(before) = index.checked_sub(1)
            && item.entries[before].canonical_cmp(entry).is_ge()
        {
            return Err("entries are not in order");
        }
        check_kind(item, index, entry)?;
    }
    if !own.is_directory() && item.entries.len() > 1 {
        return Err("there is something below a file");
    }
    let mut last = None;
    for place in &item.ways {
        let is_directory = item.entries.get(*place).is_some_and(Entry::is_directory);
        if !is_directory || last.is_some_and(|last| last >= *place) {
            return Err("a way leads nowhere");
        }
        last = Some(*place);
    }
    Ok(())
}

fn check_kind(item: &SelectedItem, index: usize, entry: &Entry) -> Result<(), &'static str> {
    match &entry.kind {
        EntryKind::File { digest: None, .. } => Err("a file has no digest"),
        EntryKind::Directory { opaque: true } | EntryKind::Whiteout => {
            Err("a directory hides something")
        }
        EntryKind::Symlink(target) => {
            let is_target =
                !target.is_empty() && !target.contains(&0) && target.len() <= LONGEST_PATH;
            is_target.then_some(()).ok_or("a link has no target")
        }
        EntryKind::Hardlink(target) => {
            check_path(target)?;
            // Its target comes before it, and is a file.
            let before = &item.entries[..index];
            let place = before.binary_search_by(|other| {
                // Without whiteouts the canonical order is that of paths.
                other.path.cmp(target)
            });
            let is_file = place.is_ok_and(|place| {
                !matches!(
                    before[place].kind,
                    EntryKind::Directory { .. } | EntryKind::Hardlink(_)
                )
            });
            is_file.then_some(()).ok_or("a hard link leads nowhere")
        }
        EntryKind::File { .. }
        | EntryKind::Directory { opaque: false }
        | EntryKind::CharDevice(..)
        | EntryKind::BlockDevice(..)
        | EntryKind::Fifo => Ok(()),
    }
}

/// A path is decoded as bytes: here it is seen whether it is one.
fn check_path(path: &LayerPath) -> Result<(), &'static str> {
    if path.as_bytes().len() > LONGEST_PATH {
        return Err("a path is too long");
    }
    match LayerPath::new(path.as_bytes()) {
        Ok(clean) if clean == *path => Ok(()),
        _ => Err("a path leads out of the context"),
    }
}

fn check_metadata(metadata: &Metadata) -> Result<(), &'static str> {
    if metadata.mode & !MODE_BITS != 0 {
        return Err("a mode has bits that no mode has");
    }
    if metadata.mtime.nanoseconds >= 1_000_000_000 {
        return Err("a time is none");
    }
    let sound = metadata.xattrs.iter().all(|xattr| {
        !xattr.name.is_empty()
            && !xattr.name.contains(&0)
            && xattr.name.len() <= LONGEST_NAME
            && xattr.value.len() <= LONGEST_VALUE
    });
    let sorted = metadata.xattrs.is_sorted_by(|a, b| a.name < b.name);
    (sound && sorted)
        .then_some(())
        .ok_or("an extended attribute is none")
}
