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

mod choose;

use super::Queue;
use super::fair::Ready;
use super::kind::{ClassId, Kind, KindId, serves};
use super::operation::{Hold, State};
use super::timers::Timer;
use super::worker::{Worker, WorkerIndex};
use crate::OperationId;

/// How many of the next operations a free worker may choose from. All are about as near to their
/// turn: with 16 of them one that fits is likely, and nobody waits for long.
const WALK: usize = 16;

/// Every how many decisions of a kind of workers go to who got nothing for too long.
const OVERDUE_TURN: u32 = 4;

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
            self.waiting_light += 1;
        } else {
            class
                .ready
                .insert(operation, &held.place(), &mut self.accounts);
            self.waiting += 1;
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
            self.waiting_light = self.waiting_light.saturating_sub(1);
        } else {
            class.ready.remove(operation, &held.place());
            self.waiting = self.waiting.saturating_sub(1);
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
        if self.waiting_light > 0 {
            self.offer_light(index);
        }
        while self.waiting > 0 {
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

    pub(super) const fn takes_light(&self, worker: &Worker) -> bool {
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

    /// What a namespace that gets nothing wants, now and then. Accounts alone starve nobody among
    /// those that want the same workers; this is for those who want different ones, each a part of
    /// what others want.
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
            .filter_map(|class| class.ready.hungriest(&self.accounts, &serves))
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
        let serves = |namespace: &str| serves(&namespaces, namespace);
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
            let found = Ready::next(&mut orders, &self.accounts, &serves, WALK);
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
