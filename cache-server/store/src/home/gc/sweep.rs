//! Taking away what was not marked, fast: by renaming it into a scratch directory.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use ashlar_model::digest::LayerId;

use super::super::layers::list_names;
use super::super::scratch::Scratch;
use super::super::{Home, StoreError, record};
use super::inventory::Inventory;
use super::mark::Marks;
use super::{Report, leftovers};

/// Takes away what was not marked. The caller is alone. What needs to be deleted is in the scratch
/// directory that is returned, if there is anything.
///
/// Order: results before layers, layers before blobs; a crash in between leaves nothing that
/// names what is gone.
pub(super) fn sweep(
    home: &Home,
    inventory: &Inventory,
    marks: &Marks,
    trash: &mut Trash<'_>,
    report: &mut Report,
) -> Result<(), StoreError> {
    for (index, result) in inventory.results.iter().enumerate() {
        if !marks.results.contains(&index) {
            leftovers::forget(&result.path)?;
            report.results += 1;
            report.freed += result.size;
        }
    }
    forget_notes(home, marks)?;
    for (id, layer) in &inventory.layers {
        if !marks.layers.contains(id) {
            trash.take(&home.root().join("layers").join(id.to_hex()))?;
            for (tree, _) in &layer.trees {
                trash.take(tree)?;
            }
            report.layers += 1;
            report.freed += layer.size();
        }
    }
    for (index, source) in inventory.sources.iter().enumerate() {
        if !marks.sources.contains(&index) {
            trash.take(&source.path)?;
            report.sources += 1;
            report.freed += source.size;
        }
    }
    for (digest, size) in &inventory.blobs {
        if !marks.blobs.contains(digest) {
            trash.take(&home.blobs().path(digest))?;
            report.blobs += 1;
            report.freed += size;
        }
    }
    Ok(())
}

/// Takes away what steps keep for later ones. The caller is alone: nobody uses any of it.
pub(super) fn sweep_caches(
    home: &Home,
    inventory: &Inventory,
    trash: &mut Trash<'_>,
    report: &mut Report,
) -> Result<(), StoreError> {
    let caches = home.caches_directory();
    for id_map in list_names(&caches, |name| Some(caches.join(name)))? {
        trash.take(&id_map)?;
    }
    report.caches += inventory.caches.0;
    report.freed += inventory.caches.1;
    Ok(())
}

/// Forgets which layer has some content where that layer goes, and, once no content result is
/// left, which instructions ever ran.
fn forget_notes(home: &Home, marks: &Marks) -> Result<(), StoreError> {
    let contents = home.root().join("content");
    for name in list_names(&contents, |name| Some(name.to_owned()))? {
        let path = contents.join(name);
        let layer: Option<LayerId> = record::read(&path)?;
        if layer.is_none_or(|layer| !marks.layers.contains(&layer)) {
            leftovers::forget(&path)?;
        }
    }
    let results = home.root().join("results/content");
    if list_names(&results, |_| Some(()))?.is_empty() {
        let instructions = home.root().join("instructions");
        for name in list_names(&instructions, |name| Some(name.to_owned()))? {
            leftovers::forget(&instructions.join(name))?;
        }
    }
    Ok(())
}

/// A scratch directory, made when there is something to put into it.
pub(super) struct Trash<'a> {
    home: &'a Home,
    scratch: Option<Scratch>,
    count: usize,
}

impl<'a> Trash<'a> {
    pub(super) const fn new(home: &'a Home) -> Self {
        Self {
            home,
            scratch: None,
            count: 0,
        }
    }

    /// What has to be deleted, if there is anything.
    pub(super) fn into_scratch(self) -> Option<Scratch> {
        self.scratch
    }

    fn take(&mut self, path: &Path) -> Result<(), StoreError> {
        let scratch = match &self.scratch {
            Some(scratch) => scratch,
            None => self.scratch.insert(self.home.scratch()?),
        };
        let target = scratch.path().join(self.count.to_string());
        self.count += 1;
        match fs::rename(path, &target) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(StoreError::io("rename", path, error))
            }
            _ => Ok(()),
        }
    }
}
