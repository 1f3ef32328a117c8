//! Which entries of a recipe are in which directory.

use ashlar_model::layer::{EntryKind, LayerPath};

use super::super::recipe::RecipeEntry;

/// The directories of a tree and what each holds, as numbers of entries.
#[derive(Debug)]
pub(super) struct Layout {
    /// In canonical order; the first is the tree's root.
    pub(super) directories: Vec<Directory>,
    /// The hard links of the whole tree.
    pub(super) links: Vec<usize>,
}

/// One directory.
#[derive(Debug, Default)]
pub(super) struct Directory {
    /// Its entry; `None` for the root, and for one that is only implied.
    pub(super) entry: Option<usize>,
    /// How many directories it lies below.
    depth: usize,
    /// Numbers of the directories in it.
    pub(super) directories: Vec<usize>,
    /// Numbers of the entries in it that are neither directories nor hard links.
    pub(super) others: Vec<usize>,
}

impl Layout {
    /// The number of the root.
    pub(super) const ROOT: usize = 0;

    /// Sorts entries, which are in canonical order with parents first, by directory.
    pub(super) fn of(entries: &[RecipeEntry]) -> Self {
        let mut directories = vec![Directory::default()];
        let mut links = Vec::new();
        // The directories that lead to the entry at hand: path and number.
        let mut way: Vec<(&LayerPath, usize)> = Vec::new();
        for (index, RecipeEntry { entry, .. }) in entries.iter().enumerate() {
            while way
                .last()
                .is_some_and(|(path, _)| !entry.path.starts_with(path))
            {
                way.pop();
            }
            let parent = way.last().map_or(Self::ROOT, |(_, number)| *number);
            match entry.kind {
                _ if entry.path.is_root() => {}
                EntryKind::Directory { .. } => {
                    let number = directories.len();
                    directories[parent].directories.push(number);
                    directories.push(Directory {
                        entry: Some(index),
                        depth: way.len() + 1,
                        ..Directory::default()
                    });
                    way.push((&entry.path, number));
                }
                EntryKind::Hardlink(_) => links.push(index),
                _ => directories[parent].others.push(index),
            }
        }
        Self { directories, links }
    }

    /// The numbers of the directories by depth, those that lie deepest first.
    pub(super) fn levels_deepest_first(&self) -> Vec<Vec<usize>> {
        let mut levels: Vec<Vec<usize>> = Vec::new();
        for (number, directory) in self.directories.iter().enumerate() {
            if levels.len() <= directory.depth {
                levels.resize_with(directory.depth + 1, Vec::new);
            }
            levels[directory.depth].push(number);
        }
        levels.reverse();
        levels
    }
}
