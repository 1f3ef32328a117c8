//! When trees were last found whole, and what they stand on.
//!
//! Hashing a tree before each use would cost more than all else, and most damage is done when the
//! machine stops (files that never reached the disk) or while it is off (a store that was copied or
//! restored). So a tree is looked at when it is first used after a start of the machine, and what
//! was found, or made, since then is trusted. The kernel tells its runs apart by a random id:
//! `random(4)`, `boot_id`.
//!
//! A layer's tar may have files and not the directories that they are in (those that Bazel makes are
//! so). Then the directories are what layers below have, but an overlay shows those of the topmost
//! tree. So they are given what is below, before a tree is used on other layers than the last time.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::OnceLock;

use ashlar_model::digest::LayerId;
use ashlar_model::layer::LayerPath;
use serde::{Deserialize, Serialize};

use super::layers::SMALL_RECORD;
use super::quota::on_disk;
use super::{Home, StoreError, record};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What of a layer's tree depends on the layers below.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ground {
    /// Directories that the layer's tar has only by what is in them, parents first.
    pub unnamed: Vec<LayerPath>,
    /// Whether the layer hides all that is below: overlays do not look for an opaque mark on a root.
    pub hides_all: bool,
}

impl Ground {
    /// Whether nothing depends on the layers below.
    pub const fn is_empty(&self) -> bool {
        self.unnamed.is_empty() && !self.hides_all
    }
}

/// This run of the machine; the same for all where the kernel does not tell.
fn this_run() -> &'static str {
    static RUN: OnceLock<String> = OnceLock::new();
    RUN.get_or_init(|| fs::read_to_string(BOOT_ID).unwrap_or_else(|_| "unknown".to_owned()))
}

impl Home {
    fn mark_path(&self, id_map: &str, id: &LayerId) -> PathBuf {
        self.layer_directory(id).join(format!("whole-{id_map}"))
    }

    /// Whether a tree was made or found whole since the machine was started.
    pub fn is_tree_trusted(&self, id_map: &str, id: &LayerId) -> bool {
        fs::read_to_string(self.mark_path(id_map, id)).is_ok_and(|run| run == this_run())
    }

    /// Notes that a tree was made or found whole.
    pub fn trust_tree(&self, id_map: &str, id: &LayerId) -> Result<(), StoreError> {
        let path = self.mark_path(id_map, id);
        let _permit = self.admit(SMALL_RECORD)?;
        // A torn mark only means that the tree is looked at again.
        match fs::write(&path, this_run()) {
            // The layer's record comes later, or it was forgotten a moment ago.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let directory = self.layer_directory(id);
                fs::create_dir_all(&directory)
                    .and_then(|()| fs::write(&path, this_run()))
                    .map_err(|e| StoreError::io("write", &path, e))
            }
            other => other.map_err(|e| StoreError::io("write", &path, e)),
        }
    }

    /// What of a layer depends on the layers below; nothing if it was not noted.
    pub fn layer_ground(&self, id: &LayerId) -> Result<Ground, StoreError> {
        let path = self.layer_directory(id).join("ground");
        Ok(record::read(&path)?.unwrap_or_default())
    }

    /// Notes what of a layer depends on the layers below.
    pub fn put_layer_ground(&self, id: &LayerId, ground: &Ground) -> Result<(), StoreError> {
        let _permit = self.admit(on_disk(ground.unnamed.len() as u64 * 256))?;
        record::write(&self.layer_directory(id).join("ground"), ground)
    }

    fn ground_path(&self, id_map: &str, id: &LayerId) -> PathBuf {
        self.layer_directory(id).join(format!("ground-{id_map}"))
    }

    /// Whether a tree's [ground](Ground) was set for these layers, bottom first.
    pub fn is_tree_on(&self, id_map: &str, id: &LayerId, below: &[LayerId]) -> bool {
        fs::read(self.ground_path(id_map, id)).is_ok_and(|noted| noted == ground(below))
    }

    /// Notes that a tree's ground was set for these layers.
    pub fn note_tree_on(
        &self,
        id_map: &str,
        id: &LayerId,
        below: &[LayerId],
    ) -> Result<(), StoreError> {
        let path = self.ground_path(id_map, id);
        let _permit = self.admit(SMALL_RECORD)?;
        // If it is torn, they are only set again.
        fs::write(&path, ground(below)).map_err(|e| StoreError::io("write", &path, e))
    }

    /// Notes that a tree was made anew.
    pub fn forget_ground(&self, id_map: &str, id: &LayerId) {
        // If it cannot be removed, it was not there, or nothing else can be done in the store.
        let _ignored = fs::remove_file(self.ground_path(id_map, id));
    }

    /// Lets a tree be looked at before its next use.
    pub fn distrust_tree(&self, id_map: &str, id: &LayerId) {
        // If it cannot be removed, it cannot be written either, and so was not there.
        let _ignored = fs::remove_file(self.mark_path(id_map, id));
    }
}

/// A stack of layers in few bytes.
fn ground(below: &[LayerId]) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    for id in below {
        hasher.update(id.to_hex().as_bytes());
    }
    hasher.finalize().as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_stands_on_one_stack() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let (layer, below) = (home.new_layer_id().unwrap(), home.new_layer_id().unwrap());
        assert!(home.layer_ground(&layer).unwrap().is_empty());
        let noted = Ground {
            unnamed: vec![LayerPath::ROOT, LayerPath::new(b"a/\xff").unwrap()],
            hides_all: true,
        };
        home.put_layer_ground(&layer, &noted).unwrap();
        assert_eq!(home.layer_ground(&layer).unwrap(), noted);
        assert!(!home.is_tree_on("map", &layer, &[below]));
        home.note_tree_on("map", &layer, &[below]).unwrap();
        assert!(home.is_tree_on("map", &layer, &[below]));
        assert!(!home.is_tree_on("map", &layer, &[]));
        home.forget_ground("map", &layer);
        assert!(!home.is_tree_on("map", &layer, &[below]));
    }

    #[test]
    fn trust_is_for_one_tree_and_one_run() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let layer = home.new_layer_id().unwrap();
        assert!(!home.is_tree_trusted("map", &layer));
        home.trust_tree("map", &layer).unwrap();
        assert!(home.is_tree_trusted("map", &layer));
        assert!(!home.is_tree_trusted("other", &layer));
        fs::write(home.mark_path("map", &layer), "another run").unwrap();
        assert!(!home.is_tree_trusted("map", &layer));
        home.trust_tree("map", &layer).unwrap();
        home.distrust_tree("map", &layer);
        assert!(!home.is_tree_trusted("map", &layer));
    }
}
