//! Sizes of directories that perhaps only the sandbox may enter.
//!
//! Files of subordinate ids may lie in directories that this user cannot look into. Whoever works
//! with rights in there notes the size, so that everybody counts it: `quota/sizes/<path>`, the
//! path below the store with `%` for `/`, holds a number of bytes. It serves any directory of the
//! store: trees, scratch, and what else may come.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::layers::list_names;
use super::super::{Home, StoreError, record};

fn directory(home: &Home) -> PathBuf {
    home.root().join("quota/sizes")
}

impl Home {
    /// Notes how many bytes a directory of the store takes. For who may look into all of it. Others
    /// may read the note at any moment, and would take half of one for none.
    pub fn note_size(&self, path: &Path, bytes: u64) -> Result<(), StoreError> {
        let below = path.strip_prefix(self.root()).ok().and_then(Path::to_str);
        let Some(below) = below.filter(|below| !below.contains('%')) else {
            return Ok(());
        };
        let note = directory(self).join(below.replace('/', "%"));
        record::write_atomically(&note, bytes.to_string().as_bytes())
    }

    /// The files that hold noted sizes, and the directories that these are of. One that is being
    /// written, or that a dead process was writing, is of a directory that is not there.
    pub(in super::super) fn noted_sizes(&self) -> Result<Vec<(PathBuf, PathBuf)>, StoreError> {
        let directory = directory(self);
        list_names(&directory, |name| {
            let path = self.root().join(name.replace('%', "/"));
            Some((directory.join(name), path))
        })
    }
}

/// What a file says.
pub(in super::super) fn read_size(note: &Path) -> Option<u64> {
    fs::read_to_string(note).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_noted_for_a_directory_of_the_store() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let tree = home.tree_path("map", &home.new_layer_id().unwrap());
        home.note_size(&tree, 1).unwrap();
        home.note_size(&tree, 12_345).unwrap();
        // Elsewhere is none of ours.
        home.note_size(Path::new("/elsewhere"), 1).unwrap();
        let noted = home.noted_sizes().unwrap();
        assert_eq!(noted.len(), 1);
        assert_eq!(noted[0].1, tree);
        assert_eq!(read_size(&noted[0].0), Some(12_345));
    }
    #[test]
    fn a_size_is_read_whole_while_it_is_noted() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let tree = home.tree_path("map", &home.new_layer_id().unwrap());
        home.note_size(&tree, 100_000).unwrap();
        let note = home.noted_sizes().unwrap().remove(0).0;
        std::thread::scope(|scope| {
            let noting = scope.spawn(|| {
                for bytes in 100_000..102_000 {
                    home.note_size(&tree, bytes).unwrap();
                }
            });
            while !noting.is_finished() {
                let read = read_size(&note);
                assert!(read.is_some_and(|read| read >= 100_000), "{read:?}");
            }
        });
        assert_eq!(home.noted_sizes().unwrap().len(), 1);
    }
}
