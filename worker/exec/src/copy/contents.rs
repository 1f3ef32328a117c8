//! The bytes of a recipe's files, for its tar: a layer that no step mounts is never made.

use std::io;

use ashlar_model::layer::Entry;

use super::recipe::{ByteSource, Recipe, bytes_of};
use crate::layer::tree::Root;
use crate::layer::{FileBytes, FileContents};

/// Opens the files of a recipe. What is read must be checked against the entries' digests, as
/// packing a layer does: a context may have changed since it was hashed.
#[derive(Debug)]
pub struct RecipeContents<'a> {
    recipe: &'a Recipe,
    roots: Vec<Root>,
}

impl<'a> RecipeContents<'a> {
    /// Opens the directories that the recipe names.
    pub fn open(recipe: &'a Recipe) -> io::Result<Self> {
        let roots = recipe.roots.iter().map(|path| Root::open(path));
        let roots = roots.collect::<io::Result<_>>()?;
        Ok(Self { recipe, roots })
    }
}

impl FileContents for RecipeContents<'_> {
    fn open(&self, position: usize, entry: &Entry) -> io::Result<FileBytes<'_>> {
        let listed = self.recipe.entries.get(position);
        let listed = listed.filter(|listed| listed.entry.path == entry.path);
        match listed.map(|listed| &listed.source) {
            Some(ByteSource::Inline(bytes)) => Ok(FileBytes::Memory(bytes)),
            Some(
                ByteSource::Changeable { root, path } | ByteSource::Immutable { root, path, .. },
            ) => {
                let root = usize::try_from(*root)
                    .ok()
                    .and_then(|root| self.roots.get(root));
                let root = root.ok_or(io::ErrorKind::InvalidInput)?;
                bytes_of(root, path)
            }
            Some(ByteSource::Nothing) | None => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}
