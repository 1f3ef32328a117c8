//! Layers: records, indexes, tars and trees.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use ashlar_model::digest::{ContentDigest, LayerId};
use ashlar_model::layer::{LayerIndex, LayerOrigin, LayerRecord};

use super::quota::{Claim, on_disk};
use super::{Home, StoreError, record};

/// Context of the index file's checksum; names its format.
const INDEX_CONTEXT: &str = "ashlar 2026-11 layer index file v1";

/// The most that a record takes on disk: few are longer than a block.
pub(super) const SMALL_RECORD: u64 = on_disk(4096);

/// How often the removal of a directory is tried into which others may still write.
const REMOVAL_TRIES: usize = 10;

pub(super) fn random_hex() -> Result<String, StoreError> {
    let mut bytes = [0; 16];
    fill_random(&mut bytes)?;
    Ok(LayerId::from_bytes(bytes).to_hex())
}

fn fill_random(bytes: &mut [u8; 16]) -> Result<(), StoreError> {
    let error = |e: rustix::io::Errno| StoreError::Io {
        action: "read random numbers from",
        path: PathBuf::from("the kernel"),
        source: e.into(),
    };
    // Sixteen bytes come whole or not at all: getrandom(2), "up to 256 bytes".
    rustix::rand::getrandom(bytes.as_mut_slice(), rustix::rand::GetRandomFlags::empty())
        .map_err(error)?;
    Ok(())
}

impl Home {
    /// A name for a layer that is about to be made.
    pub fn new_layer_id(&self) -> Result<LayerId, StoreError> {
        let mut bytes = [0; 16];
        fill_random(&mut bytes)?;
        let id = LayerId::from_bytes(bytes);
        self.claim(&[Claim::Layer(id)])?;
        Ok(id)
    }

    pub(super) fn layer_directory(&self, id: &LayerId) -> PathBuf {
        self.root().join("layers").join(id.to_hex())
    }

    /// What is known of a layer; `None` if nothing (left) is.
    pub fn layer(&self, id: &LayerId) -> Result<Option<LayerRecord>, StoreError> {
        record::read(&self.layer_directory(id).join("record"))
    }

    /// Stores what is known of a layer.
    pub fn put_layer(&self, layer: &LayerRecord) -> Result<(), StoreError> {
        self.claim(&[Claim::Layer(layer.id)])?;
        // The directory and the record.
        let _permit = self.admit(2 * SMALL_RECORD)?;
        record::write(&self.layer_directory(&layer.id).join("record"), layer)
    }

    /// All layers that have a directory, whatever state they are in.
    pub fn layer_ids(&self) -> Result<Vec<LayerId>, StoreError> {
        list_names(&self.root().join("layers"), |name| {
            LayerId::from_hex(name).ok()
        })
    }

    /// Where a layer's files lie for an id map, bottom of an overlay. May not exist.
    pub fn tree_path(&self, id_map: &str, id: &LayerId) -> PathBuf {
        self.root().join("trees").join(id_map).join(id.to_hex())
    }

    /// All id maps that trees were ever made for.
    pub fn tree_id_maps(&self) -> Result<Vec<String>, StoreError> {
        list_names(&self.root().join("trees"), |name| Some(name.to_owned()))
    }

    /// Whether a layer's files are anywhere in the store, in whatever form, or can be fetched again.
    /// A tree counts whatever id map it was made for; it is not looked into.
    pub fn holds_files_of(&self, layer: &LayerRecord) -> Result<bool, StoreError> {
        let packed = match layer.origin {
            LayerOrigin::Image { .. } | LayerOrigin::Shared { .. } => true,
            LayerOrigin::Step => {
                self.holds_tar_of(layer)
                    || layer
                        .blobs
                        .iter()
                        .any(|blob| self.blobs().has(&blob.descriptor))
            }
        };
        if packed {
            return Ok(true);
        }
        let maps = self.tree_id_maps()?;
        Ok(maps
            .iter()
            .any(|map| self.tree_path(map, &layer.id).is_dir()))
    }

    /// Whether a layer's plain tar is kept, with the length that its record gives.
    pub fn holds_tar_of(&self, layer: &LayerRecord) -> bool {
        fs::metadata(self.tar_path(&layer.id))
            .is_ok_and(|tar| layer.tar_size.is_none_or(|size| size == tar.len()))
    }

    /// Where a layer's plain tar lies, if it is kept. May not exist.
    pub fn tar_path(&self, id: &LayerId) -> PathBuf {
        self.layer_directory(id).join("tar")
    }

    /// Keeps layers from being evicted as long as this process [uses](Home::in_use) the store. For
    /// who knows them from elsewhere than from the store, before it looks whether they are there.
    pub fn claim_layers(&self, layers: &[LayerId]) -> Result<(), StoreError> {
        let claims: Vec<Claim> = layers.iter().copied().map(Claim::Layer).collect();
        self.claim(&claims)
    }

    /// A layer's entries, if they were stored.
    pub fn layer_index(&self, id: &LayerId) -> Result<Option<LayerIndex>, StoreError> {
        let path = self.layer_directory(id).join("index");
        match fs::read(&path) {
            Ok(bytes) => Ok(decode_index(&bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("read", &path, error)),
        }
    }

    /// Stores a layer's entries.
    pub fn put_layer_index(&self, id: &LayerId, index: &LayerIndex) -> Result<(), StoreError> {
        let path = self.layer_directory(id).join("index");
        let mut bytes = vec![0; 32];
        bytes = postcard::to_extend(index, bytes)
            .map_err(|e| StoreError::io("encode", &path, io::Error::other(e)))?;
        let checksum = blake3::derive_key(INDEX_CONTEXT, &bytes[32..]);
        bytes[..32].copy_from_slice(&checksum);
        let _permit = self.admit(on_disk(bytes.len() as u64))?;
        record::write_atomically(&path, &bytes)
    }

    /// The layer that was the first to have this content.
    pub fn layer_with_content(
        &self,
        content: &ContentDigest,
    ) -> Result<Option<LayerId>, StoreError> {
        let found = record::read(&self.root().join("content").join(content.to_hex()))?;
        // Before the caller looks whether it is there.
        self.claim_layers(found.as_slice())?;
        Ok(found)
    }

    /// Notes that a layer has this content, unless another already has it. Returns that layer.
    pub fn note_content(
        &self,
        content: &ContentDigest,
        id: &LayerId,
    ) -> Result<LayerId, StoreError> {
        if let Some(earlier) = self.layer_with_content(content)?
            && self.layer(&earlier)?.is_some()
        {
            return Ok(earlier);
        }
        self.replace_content(content, id)?;
        Ok(*id)
    }

    /// Notes that a layer has this content, whichever had it before.
    pub fn replace_content(&self, content: &ContentDigest, id: &LayerId) -> Result<(), StoreError> {
        let _permit = self.admit(SMALL_RECORD)?;
        record::write(&self.root().join("content").join(content.to_hex()), id)
    }

    /// Forgets a layer's record, index and tar. Its trees are the sandbox's to remove.
    ///
    /// Others may store something of the layer at this moment, so its directory is first moved to
    /// where nobody looks for it; what they store afterwards is without a record, and counts as
    /// nothing.
    pub fn forget_layer(&self, id: &LayerId) -> Result<(), StoreError> {
        let path = self.layer_directory(id);
        let scratch = self.scratch()?;
        let removed = match fs::rename(&path, scratch.path().join("layer")) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(StoreError::io("remove", &path, error))
            }
            _ => Ok(()),
        };
        for _ in 0..REMOVAL_TRIES {
            // Who looked the directory up before it was moved may still put a file into it. What
            // stays is swept later.
            match fs::remove_dir_all(scratch.path()) {
                Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
                _ => break,
            }
        }
        removed
    }
}

fn decode_index(bytes: &[u8]) -> Option<LayerIndex> {
    let (checksum, body) = bytes.split_at_checked(32)?;
    if blake3::derive_key(INDEX_CONTEXT, body) != *checksum {
        return None;
    }
    postcard::from_bytes(body).ok()
}

pub(super) fn list_names<T>(
    directory: &std::path::Path,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, StoreError> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(StoreError::io("list", directory, error)),
    };
    for entry in entries {
        let entry = entry.map_err(|e| StoreError::io("list", directory, e))?;
        if let Some(value) = entry.file_name().to_str().and_then(&parse) {
            found.push(value);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use ashlar_model::descriptor::Descriptor;
    use ashlar_model::layer::{Entry, EntryKind, LayerPath, Metadata, StoredBlob};
    use ashlar_model::media_type::{Compression, OCI_LAYER_GZIP};

    use super::*;

    #[test]
    fn records_and_indexes_are_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let id = home.new_layer_id().unwrap();
        assert_eq!(home.layer(&id).unwrap(), None);
        let layer = LayerRecord::made_by_step(id);
        home.put_layer(&layer).unwrap();
        assert_eq!(home.layer(&id).unwrap(), Some(layer));
        assert_eq!(home.layer_ids().unwrap(), [id]);

        let index = LayerIndex::new(vec![Entry {
            path: LayerPath::new(b"a/\xff").unwrap(),
            kind: EntryKind::Fifo,
            metadata: Metadata::default(),
        }]);
        home.put_layer_index(&id, &index).unwrap();
        assert_eq!(home.layer_index(&id).unwrap(), Some(index));

        let file = directory
            .path()
            .join("layers")
            .join(id.to_hex())
            .join("index");
        let mut bytes = fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&file, bytes).unwrap();
        assert_eq!(home.layer_index(&id).unwrap(), None);

        home.forget_layer(&id).unwrap();
        assert_eq!(home.layer(&id).unwrap(), None);
    }

    #[test]
    fn a_layer_is_forgotten_while_somebody_stores_something_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let layer = LayerRecord::made_by_step(home.new_layer_id().unwrap());
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    home.put_layer_index(&layer.id, &LayerIndex::default())
                        .unwrap();
                }
            });
            for _ in 0..200 {
                home.put_layer(&layer).unwrap();
                let forgotten = home.forget_layer(&layer.id);
                let known = home.layer(&layer.id);
                if forgotten.is_err() || !matches!(known, Ok(None)) {
                    over.store(true, Ordering::Relaxed);
                    panic!("{forgotten:?} {known:?}");
                }
            }
            over.store(true, Ordering::Relaxed);
        });
        let scratch = fs::read_dir(directory.path().join("tmp")).unwrap();
        assert_eq!(scratch.count(), 0);
    }

    #[test]
    fn equal_content_keeps_the_earlier_layer() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let content = LayerIndex::default().content_digest();
        let (first, second) = (home.new_layer_id().unwrap(), home.new_layer_id().unwrap());
        home.put_layer(&LayerRecord::made_by_step(first)).unwrap();
        assert_eq!(home.note_content(&content, &first).unwrap(), first);
        assert_eq!(home.note_content(&content, &second).unwrap(), first);
        // A layer that is gone gives way.
        home.forget_layer(&first).unwrap();
        assert_eq!(home.note_content(&content, &second).unwrap(), second);
        let third = home.new_layer_id().unwrap();
        home.replace_content(&content, &third).unwrap();
        assert_eq!(home.layer_with_content(&content).unwrap(), Some(third));
    }

    #[test]
    fn a_layer_is_here_as_long_as_any_form_of_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let mut layer = LayerRecord::made_by_step(home.new_layer_id().unwrap());
        home.put_layer(&layer).unwrap();
        assert!(!home.holds_files_of(&layer).unwrap());

        let digest = home.blobs().put(b"blob").unwrap();
        let descriptor = Descriptor::new(OCI_LAYER_GZIP, digest, 4);
        layer.blobs = vec![StoredBlob {
            descriptor,
            compression: Compression::Gzip,
            level: Some(6),
        }];
        assert!(home.holds_files_of(&layer).unwrap());
        fs::write(home.blobs().path(&digest), "b").unwrap();
        assert!(!home.holds_files_of(&layer).unwrap());

        layer.tar_size = Some(3);
        fs::write(home.tar_path(&layer.id), "tar").unwrap();
        assert!(home.holds_files_of(&layer).unwrap());
        fs::write(home.tar_path(&layer.id), "ta").unwrap();
        assert!(!home.holds_files_of(&layer).unwrap());

        // What came from elsewhere comes from there again.
        let repositories = Vec::new();
        layer.origin = LayerOrigin::Image { repositories };
        assert!(home.holds_files_of(&layer).unwrap());
        let copies = Vec::new();
        layer.origin = LayerOrigin::Shared { copies };
        assert!(home.holds_files_of(&layer).unwrap());
    }
}
