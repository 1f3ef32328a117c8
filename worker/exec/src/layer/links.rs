//! Hard links: one name of an inode is the file, the others point to it.

use std::collections::HashMap;
use std::hash::Hash;

use ashlar_model::layer::{Entry, EntryKind};

/// Makes every later entry of the same inode a hard link to its first one. `entries` are in
/// canonical order; `inodes` names the inode of each that may have several names.
pub(super) fn tie<I: Eq + Hash + Copy>(entries: &mut [Entry], inodes: &[Option<I>]) {
    let mut firsts: HashMap<I, usize> = HashMap::new();
    for (position, inode) in inodes.iter().enumerate() {
        let Some(inode) = inode else { continue };
        let first = *firsts.entry(*inode).or_insert(position);
        if first != position {
            entries[position].kind = EntryKind::Hardlink(entries[first].path.clone());
            entries[position].metadata = entries[first].metadata.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use ashlar_model::layer::{LayerPath, Metadata};

    use super::*;

    #[test]
    fn the_first_name_is_the_file() {
        let file = |path: &str| Entry {
            path: LayerPath::new(path.as_bytes()).unwrap(),
            kind: EntryKind::File {
                size: 1,
                digest: None,
            },
            metadata: Metadata::default(),
        };
        let mut entries = [file("a"), file("b"), file("c"), file("d")];
        tie(&mut entries, &[Some(1), None, Some(1), Some(2)]);
        let [a, b, c, d] = entries;
        assert_eq!(c.kind, EntryKind::Hardlink(a.path.clone()));
        for entry in [a, b, d] {
            assert!(matches!(entry.kind, EntryKind::File { .. }));
        }
    }
}
