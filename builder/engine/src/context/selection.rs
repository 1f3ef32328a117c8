//! From what a walk found to what a copy takes: paths relative to the item, names of one file
//! joined as hard links.

use std::collections::HashMap;

use ashlar_model::layer::{EntryKind, LayerPath};
use ashlar_model::step::SelectedItem;
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

use super::walk::Found;

/// The item at `path`, called `name`, from the part of a walk that begins with it.
pub(super) fn item(name: Vec<u8>, path: LayerPath, found: &[Found]) -> SelectedItem {
    let relative = |found: &Found| {
        let mut entry = found.entry.clone();
        entry.path = entry.path.strip_prefix(&path).unwrap_or(entry.path);
        entry
    };
    let mut entries: Vec<_> = found.par_iter().map(relative).collect();
    let mut first_names = HashMap::new();
    for (index, identity) in (0..).zip(found.iter().map(|found| found.shared)) {
        let Some(identity) = identity else {
            continue;
        };
        let first = *first_names.entry(identity).or_insert(index);
        if first != index {
            entries[index].kind = EntryKind::Hardlink(entries[first].path.clone());
            entries[index].metadata = entries[first].metadata.clone();
        }
    }
    let ways = (0..).zip(found).filter(|(_, found)| found.is_way);
    let ways = ways.map(|(place, _)| place).collect();
    SelectedItem {
        name,
        path,
        entries,
        ways,
    }
}

/// The part of a walk that is `path` and all below it.
pub(super) fn part<'a>(found: &'a [Found], path: &LayerPath) -> &'a [Found] {
    let start = found.partition_point(|found| found.entry.path < *path);
    let length = found[start..].partition_point(|found| found.entry.path.starts_with(path));
    &found[start..start + length]
}
