//! Which workers an operation may go to, and which of them is best.

use std::cmp::Reverse;
use std::time::Duration;

use crate::OperationId;
use crate::hash::{mix, mix_wide, mix2};
use crate::queue::Queue;
use crate::queue::kind::{Class, ClassId, Kind, KindId};
use crate::queue::operation::{Hold, Operation};
use crate::queue::worker::{Worker, WorkerIndex};

/// Holders of one layer that are looked at, and workers in all.
const HOLDERS: usize = 48;
const LOOKS: usize = 128;

/// Free workers that lack nothing: among so many the least loaded is taken.
const ENOUGH: usize = 4;

/// Free workers that are looked at on the ring.
const RING: usize = 16;

/// Holders that are looked at to know whether waiting is worth while.
const PROBES: usize = 8;

/// Waiting for less is not worth while.
const LEAST_HOLD: Duration = Duration::from_millis(10);

/// A worker for an operation: the smallest is the best.
type Rank = (u64, u64, Reverse<u64>, WorkerIndex);

impl Queue {
    pub(super) fn suits(&self, id: OperationId, index: WorkerIndex) -> bool {
        let Some(operation) = self.operations.get(&id) else {
            return false;
        };
        let Some(worker) = self.workers.get(index) else {
            return false;
        };
        let class = operation.class.and_then(|class| self.kinds.class(class));
        class.is_some_and(|class| !self.avoids(operation, class, worker))
    }

    /// An operation does not go where it failed or was declined, as long as there are others.
    pub(super) fn avoids(&self, operation: &Operation, class: &Class, worker: &Worker) -> bool {
        let is_bad = |id: &str| {
            operation
                .failures
                .iter()
                .any(|failure| *failure.worker == *id)
                || operation.declined.as_deref() == Some(id)
        };
        if !is_bad(&worker.id) {
            return false;
        }
        let namespace = &operation.owner.build.namespace;
        let serving = || self.serving(class, namespace);
        let present: usize = serving().map(|(_, kind)| kind.present.len()).sum();
        let mut bad: Vec<&str> = operation
            .failures
            .iter()
            .map(|failure| &*failure.worker)
            .collect();
        bad.extend(operation.declined.as_deref());
        bad.sort_unstable();
        bad.dedup();
        let bad = bad
            .into_iter()
            .filter_map(|id| self.workers.get(self.workers.by_id(id)?))
            .filter(|bad| bad.is_present() && serving().any(|(id, _)| Some(id) == bad.kind))
            .count();
        present > bad
    }

    /// Kinds of workers that an operation of a class may go to.
    pub(in crate::queue) fn serving<'a>(
        &'a self,
        class: &'a Class,
        namespace: &'a str,
    ) -> impl Iterator<Item = (KindId, &'a Kind)> {
        class
            .kinds
            .iter()
            .filter_map(|&id| Some((id, self.kinds.kind(id)?)))
            .filter(move |(_, kind)| kind.serves(namespace))
    }

    /// A worker for a light operation: the same one for the same operation.
    pub(super) fn choose_light(
        &self,
        id: OperationId,
        operation: &Operation,
        class: &Class,
    ) -> Option<WorkerIndex> {
        let start = (mix_wide(id.0), WorkerIndex(0));
        let present = self
            .serving(class, &operation.owner.build.namespace)
            .flat_map(|(_, kind)| {
                kind.present
                    .range(start..)
                    .chain(kind.present.range(..start))
            });
        present.map(|&(_, index)| index).take(LOOKS).find(|&index| {
            self.workers.get(index).is_some_and(|worker| {
                self.takes_light(worker) && !self.avoids(operation, class, worker)
            })
        })
    }

    /// The best free worker, and what it lacks.
    pub(super) fn choose(
        &self,
        id: OperationId,
        operation: &Operation,
        class_id: ClassId,
        class: &Class,
    ) -> Option<(WorkerIndex, u64)> {
        let namespace = &operation.owner.build.namespace;
        let has_free = self
            .serving(class, namespace)
            .any(|(_, kind)| !kind.free.is_empty());
        if !has_free && self.lingering == 0 {
            return None;
        }
        let base = operation
            .submission
            .inputs
            .first()
            .map_or(mix_wide(id.0), |input| mix(input.layer));
        let mut best: Option<Rank> = None;
        let mut looks = LOOKS;
        let mut look = |index: WorkerIndex, worker: &Worker| {
            let missing = if self.settings.placement {
                let most = best.map_or(u64::MAX, |best| best.0);
                self.missing_within(operation, index, most)
            } else {
                0
            };
            let rank = (
                missing,
                worker.load(),
                Reverse(mix2(base, worker.ring)),
                index,
            );
            if best.is_none_or(|best| rank < best) {
                best = Some(rank);
            }
            best.map_or(u64::MAX, |best| best.0)
        };

        let mut above: u64 = 0;
        let last = operation.submission.inputs.len().saturating_sub(1);
        let mut least = u64::MAX;
        let mut enough = ENOUGH;
        for (at, input) in operation.submission.inputs.iter().enumerate().rev() {
            if !self.settings.placement || least <= above || looks == 0 {
                break;
            }
            for index in self.holders_from(input.layer, mix_wide(id.0), HOLDERS.min(looks)) {
                looks -= 1;
                if !self.workers.is_free(index) {
                    continue;
                }
                let Some(worker) = self.workers.get(index) else {
                    continue;
                };
                let is_kept = worker.lingers.is_some() && at != last;
                if worker.free() == 0
                    || is_kept
                    || !self.may_go(operation, class_id, worker)
                    || self.avoids(operation, class, worker)
                {
                    continue;
                }
                least = look(index, worker);
                if least == 0 {
                    enough -= 1;
                    if enough == 0 {
                        break;
                    }
                }
            }
            above = above.saturating_add(input.bytes);
        }
        if least > 0 && has_free {
            let start = (
                if self.settings.placement {
                    base
                } else {
                    mix_wide(id.0)
                },
                WorkerIndex(0),
            );
            for (_, kind) in self.serving(class, namespace) {
                let around = kind.free.range(start..).chain(kind.free.range(..start));
                for &(_, index) in around.take(RING) {
                    let Some(worker) = self.workers.get(index) else {
                        continue;
                    };
                    if !self.avoids(operation, class, worker) {
                        look(index, worker);
                    }
                }
            }
        }
        best.map(|(missing, _, _, index)| (index, missing))
    }

    /// Some of those that hold a layer, each operation's from a place of its own on.
    fn holders_from(
        &self,
        layer: u64,
        from: u64,
        most: usize,
    ) -> impl Iterator<Item = WorkerIndex> {
        let holders = self.layers.holders(layer);
        let len = holders.len();
        let start = usize::try_from(from % u64::try_from(len.max(1)).unwrap_or(1)).unwrap_or(0);
        (0..len.min(most)).map(move |at| holders[(start + at) % len])
    }

    fn may_go(&self, operation: &Operation, class: ClassId, worker: &Worker) -> bool {
        worker
            .kind
            .and_then(|kind| self.kinds.kind(kind))
            .is_some_and(|kind| {
                kind.classes.contains(&class) && kind.serves(&operation.owner.build.namespace)
            })
    }

    /// What a worker lacks of an operation's layers.
    pub(super) fn missing(&self, operation: &Operation, index: WorkerIndex) -> u64 {
        self.missing_within(operation, index, u64::MAX)
    }

    /// The same; where it is more than `most`, any number that is.
    fn missing_within(&self, operation: &Operation, index: WorkerIndex, most: u64) -> u64 {
        let Some(worker) = self.workers.get(index) else {
            return u64::MAX;
        };
        let mut missing: u64 = 0;
        // From the top down: few have what is there.
        for input in operation.submission.inputs.iter().rev() {
            if missing > most {
                break;
            }
            if !worker.holdings.contains(&input.layer) {
                missing = missing.saturating_add(input.bytes);
            }
        }
        missing
    }

    /// For how long it is worth while to wait for a worker that lacks less than `missing`.
    pub(super) fn hold_for(
        &self,
        id: OperationId,
        operation: &Operation,
        class_id: ClassId,
        missing: u64,
    ) -> Option<Hold> {
        if !self.settings.placement {
            return None;
        }
        let class = self.kinds.class(class_id)?;
        let mut above: u64 = 0;
        for input in operation.submission.inputs.iter().rev() {
            if above >= missing {
                return None;
            }
            let mut slots: u32 = 0;
            let mut there = u64::MAX;
            for index in self.holders_from(input.layer, mix_wide(id.0), PROBES) {
                let Some(worker) = self.workers.get(index) else {
                    continue;
                };
                if worker.is_present()
                    && self.may_go(operation, class_id, worker)
                    && !self.avoids(operation, class, worker)
                {
                    slots = slots.saturating_add(worker.slots);
                    there = there.min(self.missing(operation, index));
                }
            }
            if slots > 0 {
                let gain = missing.saturating_sub(there);
                let bytes_per_second = u128::from(self.settings.bytes_per_second.max(1));
                let micros = u128::from(gain) * 1_000_000 / bytes_per_second;
                let transfer = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
                // Waiting pays where it is likely to be much shorter than what it saves. With work
                // of twenty seconds and one holder it is not; with work of a tenth of one it is.
                let is_likely = self.pace / slots * 2 <= transfer;
                return (is_likely && transfer >= LEAST_HOLD).then(|| Hold {
                    until: self.clock.time() + transfer.min(self.settings.hold),
                    missing: there,
                });
            }
            above = above.saturating_add(input.bytes);
        }
        None
    }
}
