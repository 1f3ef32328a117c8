//! Which worker: the one that lacks the fewest bytes, then the least loaded, then the nearest.
//!
//! Two questions are asked. When an operation becomes ready: which of the free workers is best for
//! it ([`Queue::place`])? When a worker has a slot: which of the next operations is it good for
//! ([`Queue::offer`])? An operation whose layers are on a worker that is busy is held for a moment,
//! no longer than it would take to bring them elsewhere.
//!
//! No decision looks at all workers. Those that have a layer are found through it, from the top
//! layer down, since few have that one; others on a ring, from the place of the base layer on, so
//! that work on one base comes to the same few as long as those are free. Both looks are bounded.

use std::cmp::Reverse;
use std::time::Duration;

use super::Queue;
use super::fair::Ready;
use super::kind::{Class, ClassId, Kind, KindId};
use super::operation::{Hold, Operation, State};
use super::timers::Timer;
use super::worker::{Worker, WorkerIndex};
use crate::OperationId;
use crate::hash::{mix, mix_wide, mix2};

/// How many of the next operations a free worker may choose from. All are about as near to their
/// turn: with 16 of them one that fits is likely, and nobody waits for long.
const WALK: usize = 16;

/// Holders of one layer that are looked at, and workers in all.
const HOLDERS: usize = 64;
const LOOKS: usize = 192;

/// Free workers that are looked at on the ring.
const RING: usize = 24;

/// Holders that are looked at to know whether waiting is worth while.
const PROBES: usize = 16;

/// Waiting for less is not worth while.
const LEAST_HOLD: Duration = Duration::from_millis(10);

/// Every how many decisions of a kind of workers go to what has waited too long.
const OVERDUE_TURN: u32 = 4;

/// A worker for an operation: the smallest is the best.
type Rank = (u64, u64, Reverse<u64>, WorkerIndex);

impl Queue {
    /// Puts an operation among those that wait for a worker.
    pub(super) fn enqueue(&mut self, operation: OperationId) {
        self.set_state(operation, State::Ready);
        let Some(held) = self.operations.get_mut(&operation) else {
            return;
        };
        held.hold = None;
        self.put_in(operation);
        self.place(operation);
    }

    /// Into the order of its class.
    pub(super) fn put_in(&mut self, operation: OperationId) {
        let Some(held) = self.operations.get(&operation) else {
            return;
        };
        let Some(class) = held.class.and_then(|class| self.kinds.class_mut(class)) else {
            return;
        };
        if held.submission.light {
            class.light.insert((held.urgency.sequence, operation));
        } else {
            let platform = class.platform.clone();
            class
                .ready
                .insert(operation, &held.place(), &platform, &mut self.accounts);
        }
    }

    /// Out of the order of its class.
    pub(super) fn take_out(&mut self, operation: OperationId) {
        let Some(held) = self.operations.get(&operation) else {
            return;
        };
        let Some(class) = held.class.and_then(|class| self.kinds.class_mut(class)) else {
            return;
        };
        if held.submission.light {
            class.light.remove(&(held.urgency.sequence, operation));
        } else {
            class.ready.remove(operation, &held.place());
        }
    }

    /// Gives an operation that waits to a free worker, if there is one that it is good for.
    pub(super) fn place(&mut self, id: OperationId) {
        let time = self.clock.time();
        let Some(operation) = self.operations.get(&id) else {
            return;
        };
        if !matches!(operation.state, State::Ready) {
            return;
        }
        let Some(class_id) = operation.class else {
            return;
        };
        let Some(class) = self.kinds.class(class_id) else {
            return;
        };
        if operation.submission.light {
            if let Some(worker) = self.choose_light(id, operation, class) {
                self.grant(id, worker);
            }
            return;
        }
        let Some((worker, missing)) = self.choose(id, operation, class_id, class) else {
            return;
        };
        match operation.hold {
            _ if missing == 0 => {}
            Some(hold) if time >= hold.until || missing <= hold.missing => {}
            Some(_) => return,
            None => {
                if let Some(hold) = self.hold_for(id, operation, class_id, missing) {
                    self.hold(id, hold);
                    return;
                }
            }
        }
        self.grant(id, worker);
    }

    /// Gives a worker what it has room for.
    pub(super) fn offer(&mut self, index: WorkerIndex) {
        self.offer_light(index);
        loop {
            let Some(worker) = self.workers.get(index) else {
                return;
            };
            if worker.free() == 0 || worker.lingers.is_some() {
                return;
            }
            let Some(kind) = worker.kind else { return };
            let Some(operation) = self.pick(index, kind) else {
                return;
            };
            self.grant(operation, index);
        }
    }

    fn offer_light(&mut self, index: WorkerIndex) {
        loop {
            let Some(worker) = self.workers.get(index) else {
                return;
            };
            if !self.takes_light(worker) {
                return;
            }
            let Some(kind) = worker.kind.and_then(|kind| self.kinds.kind(kind)) else {
                return;
            };
            let found = kind
                .classes
                .iter()
                .filter_map(|&class| self.kinds.class(class))
                .find_map(|class| {
                    class
                        .light
                        .iter()
                        .map(|&(_, operation)| operation)
                        .find(|id| {
                            self.operations.get(id).is_some_and(|operation| {
                                kind.serves(&operation.owner.build.namespace)
                                    && !self.avoids(operation, class, worker)
                            })
                        })
                });
            match found {
                Some(operation) => self.grant(operation, index),
                None => return,
            }
        }
    }

    const fn takes_light(&self, worker: &Worker) -> bool {
        worker.is_present() && worker.light < self.settings.light_per_worker
    }

    /// What a worker with a free slot is to do.
    fn pick(&mut self, index: WorkerIndex, kind_id: KindId) -> Option<OperationId> {
        if let Some(overdue) = self.overdue(kind_id)
            && self.suits(overdue, index)
        {
            return Some(overdue);
        }
        let candidates = self.candidates(kind_id);
        let time = self.clock.time();
        let mut first = None;
        for &id in &candidates {
            if !self.suits(id, index) {
                continue;
            }
            first.get_or_insert(id);
            let operation = self.operations.get(&id)?;
            let missing = self.missing(operation, index);
            match operation.hold {
                _ if missing == 0 || !self.settings.placement => return Some(id),
                Some(hold) if time >= hold.until || missing <= hold.missing => return Some(id),
                Some(_) => {}
                None => {
                    let class = operation.class?;
                    match self.hold_for(id, operation, class, missing) {
                        Some(hold) => self.hold(id, hold),
                        None => return Some(id),
                    }
                }
            }
        }
        // Where so many wait, slots are what is short: none waits for a better one.
        if candidates.len() >= WALK {
            first
        } else {
            None
        }
    }

    /// What has waited for too long, now and then.
    fn overdue(&mut self, kind_id: KindId) -> Option<OperationId> {
        let kind = self.kinds.kind_mut(kind_id)?;
        kind.turn = kind.turn.wrapping_add(1);
        if !kind.turn.is_multiple_of(OVERDUE_TURN) {
            return None;
        }
        let kind = self.kinds.kind(kind_id)?;
        let serves = |namespace: &str| kind.serves(namespace);
        let classes = kind
            .classes
            .iter()
            .filter_map(|&class| self.kinds.class(class));
        let (since, oldest) = classes
            .filter_map(|class| class.ready.oldest(&serves))
            .min()?;
        (self.clock.time().saturating_sub(since) >= self.settings.overdue).then_some(oldest)
    }

    /// The next operations for workers of a kind, those of one platform.
    fn candidates(&mut self, kind_id: KindId) -> Vec<OperationId> {
        let Some(kind) = self.kinds.kind(kind_id) else {
            return Vec::new();
        };
        let turn = kind.turn as usize;
        let classes: Vec<ClassId> = kind
            .classes
            .iter()
            .copied()
            .filter(|&class| {
                self.kinds
                    .class(class)
                    .is_some_and(|class| !class.ready.is_empty())
            })
            .collect();
        let mut platforms: Vec<_> = classes
            .iter()
            .filter_map(|&class| Some(self.kinds.class(class)?.platform.clone()))
            .collect();
        platforms.sort_unstable();
        platforms.dedup();
        let namespaces = kind.namespaces.clone();
        let serves = |namespace: &str| super::kind::serves(&namespaces, namespace);
        // Work that does not say which platform it needs has accounts of its own: turns are taken.
        for at in 0..platforms.len() {
            let platform = &platforms[(turn + at) % platforms.len()];
            let mut ids = Vec::with_capacity(classes.len());
            let mut orders = Vec::with_capacity(classes.len());
            for &id in &classes {
                if let Some(class) = self.kinds.class_mut(id)
                    && class.platform == *platform
                {
                    ids.push(id);
                    orders.push(std::mem::take(&mut class.ready));
                }
            }
            let found = Ready::next(&mut orders, platform, &self.accounts, &serves, WALK);
            for (id, ready) in ids.into_iter().zip(orders) {
                if let Some(class) = self.kinds.class_mut(id) {
                    class.ready = ready;
                }
            }
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }

    fn suits(&self, id: OperationId, index: WorkerIndex) -> bool {
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
    fn avoids(&self, operation: &Operation, class: &Class, worker: &Worker) -> bool {
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
    pub(super) fn serving<'a>(
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
    fn choose_light(
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
    fn choose(
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
            .inputs
            .first()
            .map_or(mix_wide(id.0), |input| mix(input.layer));
        let mut best: Option<Rank> = None;
        let mut looks = LOOKS;
        let mut look = |index: WorkerIndex, worker: &Worker| {
            let missing = if self.settings.placement {
                self.missing(operation, index)
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
        let last = operation.inputs.len().saturating_sub(1);
        let mut least = u64::MAX;
        for (at, input) in operation.inputs.iter().enumerate().rev() {
            if !self.settings.placement || least <= above || looks == 0 {
                break;
            }
            for index in self.holders_from(input.layer, mix_wide(id.0), HOLDERS.min(looks)) {
                looks -= 1;
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
    fn missing(&self, operation: &Operation, index: WorkerIndex) -> u64 {
        let Some(worker) = self.workers.get(index) else {
            return u64::MAX;
        };
        operation
            .inputs
            .iter()
            .filter(|input| !worker.holdings.contains(&input.layer))
            .fold(0, |sum: u64, input| sum.saturating_add(input.bytes))
    }

    /// For how long it is worth while to wait for a worker that lacks less than `missing`.
    fn hold_for(
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
        for input in operation.inputs.iter().rev() {
            if above >= missing {
                return None;
            }
            let found = self
                .holders_from(input.layer, mix_wide(id.0), PROBES)
                .find(|&index| {
                    self.workers.get(index).is_some_and(|worker| {
                        worker.is_present()
                            && self.may_go(operation, class_id, worker)
                            && !self.avoids(operation, class, worker)
                    })
                });
            if let Some(index) = found {
                let there = self.missing(operation, index);
                let gain = missing.saturating_sub(there);
                let micros = u128::from(gain) * 1_000_000
                    / u128::from(self.settings.bytes_per_second.max(1));
                let wait = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
                    .min(self.settings.hold);
                return (wait >= LEAST_HOLD).then(|| Hold {
                    until: self.clock.time() + wait,
                    missing: there,
                });
            }
            above = above.saturating_add(input.bytes);
        }
        None
    }

    fn hold(&mut self, id: OperationId, hold: Hold) {
        if let Some(operation) = self.operations.get_mut(&id) {
            operation.hold = Some(hold);
            self.set_timer(hold.until, Timer::Hold { operation: id });
        }
    }

    /// Finds work for free workers that no event told of: what avoided a worker that is now the
    /// only one, for example.
    pub(super) fn nudge(&mut self) {
        let waits = |queue: &Self, kind: &Kind| {
            kind.classes
                .iter()
                .filter_map(|&class| queue.kinds.class(class))
                .any(|class| {
                    !class.light.is_empty() || (!class.ready.is_empty() && !kind.free.is_empty())
                })
        };
        let found: Vec<WorkerIndex> = self
            .kinds
            .iter()
            .filter(|(_, kind)| waits(self, kind))
            .flat_map(|(_, kind)| {
                let free = kind.free.iter().take(4);
                free.chain(kind.present.iter().take(1))
                    .map(|&(_, index)| index)
            })
            .collect();
        for index in found {
            self.offer(index);
        }
    }
}
