//! Reads the whole store and tells what of it is damaged.
//!
//! Trees are not looked into: their files may belong to ids that only the sandbox has.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ashlar_model::digest::LayerId;
use ashlar_model::layer::LayerRecord;

use super::gc::forget;
use super::images::ImageRecord;
use super::layers::list_names;
use super::results::{ContentResult, DefinitionResult};
use super::{Home, StoreError, blobs, record};

/// What a damaged file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A blob whose bytes are not what its name says.
    Blob,
    /// A layer's record.
    Record,
    /// A layer's list of entries.
    Index,
    /// A layer's plain tar.
    Tar,
    /// A layer's tree.
    Tree,
    /// A cached result, or a note that serves finding one.
    Result,
    /// A tagged image: its record is damaged, or something that it needs is gone.
    Image,
}

/// Something damaged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damaged {
    /// What it is.
    pub kind: Kind,
    /// The file, or the directory of a tree.
    pub path: PathBuf,
    /// The layer that it is part of, if it is of one.
    pub layer: Option<LayerId>,
}

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Examined {
    /// How many files.
    pub files: usize,
    /// How many bytes of them were read.
    pub bytes: u64,
}

/// An examination under way.
struct Examination<'a> {
    home: &'a Home,
    remove: bool,
    examined: Examined,
    damaged: Vec<Damaged>,
}

impl Home {
    /// Reads all but trees, and tells what is damaged. With `remove` it is removed as well: then
    /// the store is sound, and what is missing is made or fetched again when it is needed. An image
    /// that has lost something it needs loses its name.
    pub fn examine(&self, remove: bool) -> Result<(Examined, Vec<Damaged>), StoreError> {
        let mut examination = Examination {
            home: self,
            remove,
            examined: Examined::default(),
            damaged: Vec::new(),
        };
        // Whatever names something after what it names.
        examination.blobs()?;
        examination.layers()?;
        examination.records::<ContentResult>("results/content", Kind::Result)?;
        examination.records::<DefinitionResult>("results/definition", Kind::Result)?;
        examination.records::<LayerId>("content", Kind::Result)?;
        examination.images()?;
        Ok((examination.examined, examination.damaged))
    }
}

impl Examination<'_> {
    fn blobs(&mut self) -> Result<(), StoreError> {
        for (digest, _) in self.home.blobs().list()? {
            let path = self.home.blobs().path(&digest);
            if self
                .hash(&path)?
                .is_some_and(|found| found != *digest.as_bytes())
            {
                self.note(Kind::Blob, path, None)?;
            }
        }
        Ok(())
    }

    fn layers(&mut self) -> Result<(), StoreError> {
        for id in self.home.layer_ids()? {
            let directory = self.home.layer_directory(&id);
            let path = directory.join("record");
            let exists = self.count(&path);
            let Some(layer) = self.home.layer(&id)? else {
                // Without a record nothing names it: then it is garbage, and no damage.
                if exists {
                    self.note(Kind::Record, path, Some(id))?;
                }
                continue;
            };
            let path = directory.join("index");
            if self.count(&path) && !self.is_index_of(&layer)? {
                self.note(Kind::Index, path, Some(id))?;
            }
            let path = self.home.tar_path(&id);
            if let (Some(found), Some(diff_id)) = (self.hash(&path)?, layer.diff_id)
                && found != *diff_id.as_bytes()
            {
                self.note(Kind::Tar, path, Some(id))?;
            }
        }
        Ok(())
    }

    /// Whether a layer's index can be read, and is the one that its record speaks of. The content
    /// of an image's layer is not that of its index.
    fn is_index_of(&self, layer: &LayerRecord) -> Result<bool, StoreError> {
        let index = self.home.layer_index(&layer.id)?;
        Ok(match (index, layer.content) {
            (None, _) => false,
            (Some(index), Some(content)) if layer.origin.is_of_step() => {
                index.content_digest() == content
            }
            _ => true,
        })
    }

    fn records<T: serde::de::DeserializeOwned>(
        &mut self,
        directory: &str,
        kind: Kind,
    ) -> Result<(), StoreError> {
        let directory = self.home.root().join(directory);
        for path in finished(&directory)? {
            if self.count(&path) && record::read::<T>(&path)?.is_none() {
                self.note(kind, path, None)?;
            }
        }
        Ok(())
    }

    fn images(&mut self) -> Result<(), StoreError> {
        let directory = self.home.root().join("images");
        for path in finished(&directory)? {
            self.count(&path);
            let whole = match record::read::<ImageRecord>(&path)? {
                None => false,
                Some(image) => self.has_its_parts(&image)?,
            };
            if !whole {
                self.note(Kind::Image, path, None)?;
            }
        }
        Ok(())
    }

    fn has_its_parts(&self, image: &ImageRecord) -> Result<bool, StoreError> {
        let blobs = [Some(&image.config), image.manifest.as_ref()];
        let gone = |path: PathBuf| self.damaged.iter().any(|damaged| damaged.path == path);
        if blobs
            .iter()
            .flatten()
            .any(|blob| !self.home.blobs().has(blob) || gone(self.home.blobs().path(&blob.digest)))
        {
            return Ok(false);
        }
        for id in &image.layers {
            match self.home.layer(id)? {
                Some(layer) if self.home.holds_files_of(&layer)? => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Whether a file is there; it counts then.
    fn count(&mut self, path: &Path) -> bool {
        let Ok(metadata) = fs::metadata(path) else {
            return false;
        };
        self.examined.files += 1;
        self.examined.bytes += metadata.len();
        true
    }

    /// A file's SHA-256; `None` if there is no file.
    fn hash(&mut self, path: &Path) -> Result<Option<[u8; 32]>, StoreError> {
        if !self.count(path) {
            return Ok(None);
        }
        match blobs::sha256(path) {
            Ok(digest) => Ok(Some(digest)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("read", path, error)),
        }
    }

    fn note(
        &mut self,
        kind: Kind,
        path: PathBuf,
        layer: Option<LayerId>,
    ) -> Result<(), StoreError> {
        if self.remove {
            match (kind, &layer) {
                (Kind::Record, Some(id)) => self.home.forget_layer(id)?,
                _ => forget(&path)?,
            }
        }
        self.damaged.push(Damaged { kind, path, layer });
        Ok(())
    }
}

/// The files of a directory, without those that are being written under temporary names.
fn finished(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    list_names(directory, |name| {
        (!name.contains(".new-")).then(|| directory.join(name))
    })
}

#[cfg(test)]
mod tests {
    use ashlar_model::descriptor::Descriptor;
    use ashlar_model::digest::DefinitionKey;
    use ashlar_model::layer::{LayerIndex, Timestamp};
    use ashlar_model::platform::Platform;

    use super::*;

    /// A store with one thing of each kind.
    fn store(root: &Path) -> Home {
        let home = Home::open(root).unwrap();
        let mut layer = LayerRecord::made_by_step(home.new_layer_id().unwrap());
        let index = LayerIndex::default();
        layer.content = Some(index.content_digest());
        layer.diff_id = Some(ashlar_model::digest::DiffId::of(b"tar"));
        home.put_layer_index(&layer.id, &index).unwrap();
        fs::write(home.tar_path(&layer.id), "tar").unwrap();
        home.put_layer(&layer).unwrap();
        let key = DefinitionKey::from(blake3::hash(b"key"));
        let stack = vec![layer.id];
        home.put_definition_result(&key, &DefinitionResult::own(stack.clone()))
            .unwrap();
        home.note_content(&index.content_digest(), &layer.id)
            .unwrap();
        let config = home.blobs().put(b"config").unwrap();
        home.put_image(&ImageRecord {
            reference: "image".parse().unwrap(),
            config: Descriptor::new("x", config, 6),
            manifest: None,
            platform: Platform::host(),
            layers: stack,
            tagged: Timestamp::default(),
        })
        .unwrap();
        home
    }

    fn kinds(damaged: &[Damaged]) -> Vec<Kind> {
        damaged.iter().map(|damaged| damaged.kind).collect()
    }

    #[test]
    fn a_sound_store_is_sound() {
        let directory = tempfile::tempdir().unwrap();
        let home = store(directory.path());
        fs::write(home.root().join("images/x.new-1"), "being written").unwrap();
        let (examined, damaged) = home.examine(true).unwrap();
        assert_eq!(damaged, []);
        assert_eq!(examined.files, 7);
    }

    #[test]
    fn each_kind_of_damage_is_found_and_removed() {
        for (below, expected) in [
            ("blobs", vec![Kind::Blob, Kind::Image]),
            ("layers/*/record", vec![Kind::Record, Kind::Image]),
            ("layers/*/index", vec![Kind::Index]),
            // It was the layer's last form.
            ("layers/*/tar", vec![Kind::Tar, Kind::Image]),
            ("results", vec![Kind::Result]),
            ("content", vec![Kind::Result]),
            ("images", vec![Kind::Image]),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let home = store(directory.path());
            let found = files(home.root(), below);
            assert_eq!(found.len(), 1, "{below}");
            fs::write(&found[0], "dam").unwrap();
            // To look is not to touch.
            let (_, told) = home.examine(false).unwrap();
            assert_eq!(kinds(&told)[0], expected[0], "{below}");
            assert!(found[0].exists(), "{below}");
            let (_, removed) = home.examine(true).unwrap();
            assert_eq!(kinds(&removed), expected, "{below}");
            assert!(!found[0].exists(), "{below}");
            assert_eq!(home.examine(true).unwrap().1, [], "{below}");
        }
    }

    /// Files below a directory; of a layer if there is a star.
    fn files(root: &Path, below: &str) -> Vec<PathBuf> {
        let (directory, name) = below.split_once("/*/").unwrap_or((below, ""));
        let mut pending = vec![root.join(directory)];
        let mut found = Vec::new();
        while let Some(path) = pending.pop() {
            match fs::read_dir(&path) {
                Ok(entries) => pending.extend(entries.map(|entry| entry.unwrap().path())),
                Err(_) => found.push(path),
            }
        }
        found.retain(|path| name.is_empty() || path.ends_with(name));
        found
    }
}
