//! Which layers this worker has as files: the farm gives work to whom it has to bring least.
//!
//! Layers go by the first eight bytes of their diff IDs: a hint that may be wrong now and then, and
//! costs a transfer then.

use std::collections::{BTreeSet, HashMap};
use std::time::SystemTime;

use ashlar_model::digest::{DiffId, LayerId};
use ashlar_store::home::Home;

/// The most that are told of.
const MOST: usize = 4096;

/// A layer as the farm knows it.
pub fn short(layer: &DiffId) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&layer.as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

/// What has changed since the farm was told last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// This is all there is.
    pub is_all: bool,
    /// New ones.
    pub added: Vec<u64>,
    /// Those that are gone.
    pub removed: Vec<u64>,
}

/// What the farm was told.
#[derive(Debug, Default)]
pub struct Told(BTreeSet<u64>);

impl Told {
    /// What to tell so that the farm knows of `now`; `None` if it does.
    pub fn change(&mut self, now: BTreeSet<u64>, is_all: bool) -> Option<Change> {
        let change = if is_all {
            Change {
                is_all,
                added: now.iter().copied().collect(),
                removed: Vec::new(),
            }
        } else {
            Change {
                is_all,
                added: now.difference(&self.0).copied().collect(),
                removed: self.0.difference(&now).copied().collect(),
            }
        };
        self.0 = now;
        let says_nothing = !is_all && change.added.is_empty() && change.removed.is_empty();
        (!says_nothing).then_some(change)
    }
}

/// Looks into stores, and remembers what it saw of layers, which never changes but for their files.
#[derive(Debug, Default)]
pub struct Survey {
    known: HashMap<LayerId, DiffId>,
}

impl Survey {
    /// The layers that are there as files: those that came last, if there are too many.
    pub fn held(&mut self, homes: &[Home]) -> BTreeSet<u64> {
        let mut held: Vec<(SystemTime, u64)> = Vec::new();
        let mut seen = HashMap::new();
        for home in homes {
            // A store that cannot be read has nothing to offer.
            let maps = home.tree_id_maps().unwrap_or_default();
            for id in home.layer_ids().unwrap_or_default() {
                let Some((diff_id, when)) = self.look(home, &maps, &id) else {
                    continue;
                };
                seen.insert(id, diff_id);
                held.push((when, short(&diff_id)));
            }
        }
        self.known = seen;
        if held.len() > MOST {
            held.sort_unstable();
            held.drain(..held.len() - MOST);
        }
        held.into_iter().map(|(_, layer)| layer).collect()
    }

    fn look(&self, home: &Home, maps: &[String], id: &LayerId) -> Option<(DiffId, SystemTime)> {
        let is_tree = |map: &String| home.tree_path(map, id).is_dir();
        let has_tree = maps.iter().any(is_tree);
        let diff_id = match self.known.get(id) {
            Some(known) if has_tree => *known,
            _ => {
                let record = home.layer(id).ok()??;
                let mut blobs = record.blobs.iter();
                let is_here = has_tree
                    || home.holds_tar_of(&record)
                    || blobs.any(|blob| home.blobs().has(&blob.descriptor));
                record.diff_id.filter(|_| is_here)?
            }
        };
        let directory = home.tar_path(id).parent()?.to_owned();
        let when = std::fs::metadata(directory).ok()?.modified().ok()?;
        Some((diff_id, when))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(layers: &[u64]) -> BTreeSet<u64> {
        layers.iter().copied().collect()
    }

    #[test]
    fn only_changes_are_told() {
        let mut told = Told::default();
        let change = told.change(set(&[1, 2]), true).unwrap();
        assert_eq!((change.is_all, change.added), (true, vec![1, 2]));
        assert_eq!(told.change(set(&[1, 2]), false), None);
        let change = told.change(set(&[2, 3]), false).unwrap();
        assert_eq!((change.added, change.removed), (vec![3], vec![1]));
        let change = told.change(set(&[]), true).unwrap();
        assert_eq!((change.is_all, change.added), (true, vec![]));
    }

    #[test]
    fn the_first_bytes_come_first() {
        let mut bytes = [0; 32];
        bytes[..3].copy_from_slice(&[1, 2, 3]);
        assert_eq!(short(&DiffId::from_bytes(bytes)), 0x03_02_01);
    }
}
