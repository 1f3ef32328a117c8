//! Which worker holds which layer.

use std::collections::{HashMap, HashSet};

use super::worker::WorkerIndex;
use crate::hash::Layered;

/// A worker's layers.
pub(super) type Holdings = HashSet<u64, Layered>;

/// Who holds a layer. Most are with one worker only: there is no list for one.
#[derive(Debug)]
enum Holders {
    One(WorkerIndex),
    Many(Vec<WorkerIndex>),
}

impl Holders {
    fn as_slice(&self) -> &[WorkerIndex] {
        match self {
            Self::One(holder) => std::slice::from_ref(holder),
            Self::Many(holders) => holders,
        }
    }

    fn add(&mut self, worker: WorkerIndex) {
        match self {
            Self::One(holder) => *self = Self::Many(vec![*holder, worker]),
            Self::Many(holders) => holders.push(worker),
        }
    }

    /// Gives whether nobody is left.
    fn remove(&mut self, worker: WorkerIndex) -> bool {
        match self {
            Self::One(holder) => *holder == worker,
            Self::Many(holders) => {
                if let Some(at) = holders.iter().position(|&holder| holder == worker) {
                    holders.swap_remove(at);
                }
                holders.is_empty()
            }
        }
    }
}

/// Who holds what. The other direction is with each worker.
#[derive(Debug, Default)]
pub(super) struct Layers {
    // A layer that all hold is a list of all; taking one out is a search through four bytes each.
    holders: HashMap<u64, Holders, Layered>,
}

impl Layers {
    /// Takes note of what a worker holds; no more than `most` altogether.
    pub(super) fn change(
        &mut self,
        worker: WorkerIndex,
        holdings: &mut Holdings,
        added: &[u64],
        removed: &[u64],
        most: usize,
    ) {
        for layer in removed {
            if holdings.remove(layer) {
                self.remove(worker, *layer);
            }
        }
        for &layer in added {
            if holdings.len() >= most {
                break;
            }
            if holdings.insert(layer) {
                self.holders
                    .entry(layer)
                    .and_modify(|holders| holders.add(worker))
                    .or_insert(Holders::One(worker));
            }
        }
    }

    /// A worker holds exactly these.
    pub(super) fn replace(
        &mut self,
        worker: WorkerIndex,
        holdings: &mut Holdings,
        all: &[u64],
        most: usize,
    ) {
        let new: Holdings = all.iter().copied().take(most).collect();
        let removed: Vec<u64> = holdings.difference(&new).copied().collect();
        let added: Vec<u64> = all.iter().copied().take(most).collect();
        self.change(worker, holdings, &added, &removed, most);
    }

    /// A worker is gone.
    pub(super) fn forget(&mut self, worker: WorkerIndex, holdings: &mut Holdings) {
        for layer in holdings.drain() {
            self.remove(worker, layer);
        }
    }

    fn remove(&mut self, worker: WorkerIndex, layer: u64) {
        if self
            .holders
            .get_mut(&layer)
            .is_some_and(|holders| holders.remove(worker))
        {
            self.holders.remove(&layer);
        }
    }

    /// Who holds a layer, in no order that means anything.
    pub(super) fn holders(&self, layer: u64) -> &[WorkerIndex] {
        self.holders.get(&layer).map_or(&[], Holders::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_agree() {
        let mut layers = Layers::default();
        let (a, b) = (WorkerIndex(1), WorkerIndex(2));
        let (mut at_a, mut at_b) = (Holdings::default(), Holdings::default());
        layers.change(a, &mut at_a, &[1, 2, 2, 3], &[], 100);
        layers.change(b, &mut at_b, &[2], &[9], 100);
        assert_eq!(layers.holders(2), [a, b]);
        layers.change(a, &mut at_a, &[], &[2, 2], 100);
        assert_eq!(layers.holders(2), [b]);
        layers.replace(a, &mut at_a, &[3, 4], 100);
        assert_eq!((layers.holders(1), layers.holders(4)), (&[][..], &[a][..]));
        layers.forget(a, &mut at_a);
        layers.forget(b, &mut at_b);
        assert!(layers.holders.is_empty() && at_a.is_empty());
    }

    #[test]
    fn no_worker_holds_more_than_it_may() {
        let mut layers = Layers::default();
        let mut holdings = Holdings::default();
        let many: Vec<u64> = (0..1000).collect();
        layers.change(WorkerIndex(0), &mut holdings, &many, &[], 10);
        assert_eq!(holdings.len(), 10);
        layers.replace(WorkerIndex(0), &mut holdings, &many[500..], 10);
        assert_eq!(holdings.len(), 10);
        assert!(holdings.contains(&500) && layers.holders(0).is_empty());
    }
}
