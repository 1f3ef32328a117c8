//! What of this store is in shared caches as well, as far as it was last known.
//!
//! It saves reading layers again to find out what a cache has of them. A cache may have evicted it
//! meanwhile: whoever relies on it must bear that.

use std::fs;
use std::path::PathBuf;

use ashlar_model::cas::SharedLayer;
use ashlar_model::digest::{DefinitionKey, LayerId};

use super::layers::SMALL_RECORD;
use super::{Home, StoreError, record};

impl Home {
    fn copies_path(&self, layer: &LayerId) -> PathBuf {
        self.layer_directory(layer).join("copies")
    }

    /// Where a layer's split form is known to be.
    pub fn copies_of(&self, layer: &LayerId) -> Result<Vec<SharedLayer>, StoreError> {
        let copies = record::read(&self.copies_path(layer))?;
        Ok(copies.unwrap_or_default())
    }

    /// Notes that a cache has a layer's split form. The layer must have a record.
    pub fn note_copy(&self, layer: &LayerId, copy: SharedLayer) -> Result<(), StoreError> {
        let mut copies = self.copies_of(layer)?;
        if copies.contains(&copy) {
            return Ok(());
        }
        copies.retain(|known| known.cache != copy.cache);
        copies.push(copy);
        let _permit = self.admit(SMALL_RECORD)?;
        record::write(&self.copies_path(layer), &copies)
    }

    /// Forgets that a cache has a layer's split form.
    pub fn forget_copy(&self, layer: &LayerId, cache: &str) -> Result<(), StoreError> {
        let mut copies = self.copies_of(layer)?;
        let before = copies.len();
        copies.retain(|known| known.cache != cache);
        if copies.len() == before {
            return Ok(());
        }
        let _permit = self.admit(SMALL_RECORD)?;
        record::write(&self.copies_path(layer), &copies)
    }

    fn sent_path(&self, cache: &str, result: &DefinitionKey) -> PathBuf {
        let cache = blake3::hash(cache.as_bytes()).to_hex();
        let directory = self.hints().join("shared").join(&cache.as_str()[..16]);
        directory.join(result.to_hex())
    }

    /// Whether a result came from a cache, or was sent to it.
    pub fn is_result_in(&self, cache: &str, result: &DefinitionKey) -> bool {
        self.sent_path(cache, result).exists()
    }

    /// Notes that a cache has a result.
    pub fn note_result_in(&self, cache: &str, result: &DefinitionKey) -> Result<(), StoreError> {
        let path = self.sent_path(cache, result);
        if path.exists() {
            return Ok(());
        }
        let _permit = self.admit(SMALL_RECORD)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|e| StoreError::io("create", parent, e))?;
        }
        fs::write(&path, b"").map_err(|e| StoreError::io("write", &path, e))
    }
}

#[cfg(test)]
mod tests {
    use ashlar_model::cas::{CasDigest, DigestFunction};
    use ashlar_model::layer::LayerRecord;

    use super::*;

    fn copy(cache: &str, tree: &str) -> SharedLayer {
        SharedLayer {
            cache: cache.to_owned(),
            trees: vec![CasDigest::of(DigestFunction::Sha256, tree.as_bytes())],
        }
    }

    #[test]
    fn a_layer_has_one_copy_in_each_cache() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let layer = home.new_layer_id().unwrap();
        assert!(home.copies_of(&layer).unwrap().is_empty());
        home.put_layer(&LayerRecord::made_by_step(layer)).unwrap();
        for (cache, tree) in [("a", "1"), ("b", "1"), ("a", "2")] {
            home.note_copy(&layer, copy(cache, tree)).unwrap();
        }
        assert_eq!(
            home.copies_of(&layer).unwrap(),
            [copy("b", "1"), copy("a", "2")]
        );
        home.forget_copy(&layer, "b").unwrap();
        home.forget_copy(&layer, "c").unwrap();
        assert_eq!(home.copies_of(&layer).unwrap(), [copy("a", "2")]);
        home.forget_layer(&layer).unwrap();
        assert!(home.copies_of(&layer).unwrap().is_empty());
    }

    #[test]
    fn results_are_noted_for_each_cache() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let key = DefinitionKey::from_bytes([1; 32]);
        assert!(!home.is_result_in("a", &key));
        home.note_result_in("a", &key).unwrap();
        home.note_result_in("a", &key).unwrap();
        assert!(home.is_result_in("a", &key));
        assert!(!home.is_result_in("b", &key));
    }
}
