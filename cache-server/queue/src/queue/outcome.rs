//! What comes of assignments: ends, failures, hand-backs, and what is set aside.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Queue;
use super::operation::{Operation, State};
use super::timers::Timer;
use crate::hash::{mix_wide, mix2};
use crate::{
    Action, Assignment, ConnectionId, Effect, End, Failure, OperationId, Outcome, Poison, Refusal,
};

/// Actions that are set aside at most.
const POISONS: usize = 4096;

/// Until when, and why.
type Aside = (Duration, Poison);

/// Actions that took workers down with them.
#[derive(Debug, Default)]
pub(super) struct Poisons {
    aside: HashMap<(Arc<str>, Action), Aside>,
}

impl Poisons {
    fn add(&mut self, key: (Arc<str>, Action), until: Duration, poison: Poison) {
        if self.aside.len() < POISONS {
            self.aside.insert(key, (until, poison));
        }
    }

    /// Why an action is not taken, if it is set aside.
    pub(super) fn refusal(&self, key: &(Arc<str>, Action), time: Duration) -> Option<Refusal> {
        let (until, end) = self.aside.get(key)?;
        let retry_after = until.checked_sub(time).filter(|left| !left.is_zero())?;
        Some(Refusal::Poison {
            end: end.clone(),
            retry_after,
        })
    }

    pub(super) fn forget(&mut self, time: Duration) {
        self.aside.retain(|_, (until, _)| *until > time);
    }

    pub(super) fn len(&self) -> usize {
        self.aside.len()
    }
}

impl Queue {
    pub(super) fn outcome(
        &mut self,
        connection: ConnectionId,
        assignment: Assignment,
        outcome: Outcome,
    ) {
        let Some(index) = self.hear(connection) else {
            return;
        };
        let Assignment {
            operation: id,
            fencing,
        } = assignment;
        let Some(worker) = self.workers.get_mut(index) else {
            return;
        };
        let (worker_id, name) = (worker.id.clone(), worker.name.clone());
        let held = worker.release_if(id, fencing);
        self.relist(index);
        // Fencing numbers are the queue's own, and each goes to one worker only: what is current
        // is this worker's. One that made up the number of another is refused all the same.
        if held.is_none() || !self.is_current(id, fencing) {
            let is_as_told = held.is_some() && outcome == Outcome::Cancelled;
            if !is_as_told {
                self.counts.late += 1;
            }
            let too_late = !is_as_told;
            self.effects.push(Effect::OutcomeTaken {
                connection,
                assignment,
                too_late,
            });
            self.offer(index);
            return;
        }
        self.settle_account(id);
        self.keep_pace(id);
        let taken = Effect::OutcomeTaken {
            connection,
            assignment,
            too_late: false,
        };
        if let Outcome::Done(done) = outcome {
            let follows = !done.failed && held.is_some_and(|held| !held.light);
            // The journal has it before the worker may forget it.
            self.end(id, End::Done(done));
            self.effects.push(taken);
            if follows {
                self.linger(index);
            }
            self.offer(index);
            return;
        }
        // Before anything that the worker may be given for it.
        self.effects.push(taken);
        match outcome {
            Outcome::Infrastructure {
                message,
                is_exhaustion: false,
            } => {
                self.fail(
                    id,
                    Failure {
                        worker: worker_id,
                        name,
                        lost: false,
                        message,
                    },
                );
            }
            Outcome::Infrastructure {
                message,
                is_exhaustion: true,
            } => {
                // One that has other work may have room when that has ended.
                let is_idle = self
                    .workers
                    .get(index)
                    .is_some_and(|worker| worker.used == 0);
                if is_idle && self.is_cramped_again(id) {
                    let message = format!("there is no room: {message}");
                    self.give_up(id, &worker_id, message.into());
                } else {
                    let why = format!("{name} has no room: {message}");
                    self.hand_back(id, &worker_id, why.into(), true);
                }
            }
            Outcome::HandedBack => {
                self.hand_back(id, &worker_id, format!("{name} gave it back").into(), false);
            }
            Outcome::Cancelled | Outcome::Done(_) => {
                self.hand_back(id, &worker_id, format!("{name} gave it up").into(), true);
            }
        }
        self.offer(index);
    }

    /// An attempt has failed for want of a working worker.
    pub(super) fn fail(&mut self, id: OperationId, failure: Failure) {
        let Some(operation) = self.operations.get_mut(&id) else {
            return;
        };
        let why = format!("{}: {}", failure.name, failure.message);
        operation.failures.push(failure);
        operation.declines = 0;
        let failed = u32::try_from(operation.failures.len()).unwrap_or(u32::MAX);
        if failed >= self.settings.attempts || operation.grants >= self.settings.grants {
            self.poison(id);
            return;
        }
        self.rest(id, failed - 1, why.into());
    }

    /// A worker gave something back, which costs no attempt.
    pub(super) fn hand_back(
        &mut self,
        id: OperationId,
        worker: &Arc<str>,
        why: Arc<str>,
        rests: bool,
    ) {
        let Some(operation) = self.operations.get_mut(&id) else {
            return;
        };
        operation.declined = Some(worker.clone());
        let declines = operation.declines;
        operation.declines += 1;
        if operation.grants >= self.settings.grants {
            self.give_up(id, worker, why);
        } else if rests || declines > 0 {
            self.rest(id, declines, why);
        } else {
            self.effects.push(Effect::Requeued { operation: id, why });
            self.enqueue(id);
            self.persist_if_waiting(id);
        }
    }

    /// Notes that a worker with nothing else to do had no room for something. That costs no attempt;
    /// but whether there will be room is to be doubted when it was so again and again.
    fn is_cramped_again(&mut self, id: OperationId) -> bool {
        let Some(operation) = self.operations.get_mut(&id) else {
            return false;
        };
        operation.cramped += 1;
        let times = operation.cramped;
        times >= self.attempts_of_all(id)
    }

    /// How often all workers together may try an operation, if each may as often as one.
    fn attempts_of_all(&self, id: OperationId) -> u32 {
        let operation = self.operations.get(&id);
        let class =
            operation.and_then(|operation| Some((operation, self.kinds.class(operation.class?)?)));
        let present: usize = class.map_or(0, |(operation, class)| {
            let namespace = &operation.owner.build.namespace;
            let serving = self.serving(class, namespace);
            serving.map(|(_, kind)| kind.present.len()).sum()
        });
        let workers = u32::try_from(present.max(1)).unwrap_or(u32::MAX);
        self.settings.attempts.saturating_mul(workers)
    }

    /// Ends what no worker takes.
    fn give_up(&mut self, id: OperationId, worker: &Arc<str>, message: Arc<str>) {
        let index = self.workers.by_id(worker);
        let known = index.and_then(|index| self.workers.get(index));
        let name = known.map_or_else(|| worker.clone(), |known| known.name.clone());
        if let Some(operation) = self.operations.get_mut(&id) {
            operation.failures.push(Failure {
                worker: worker.clone(),
                name,
                lost: false,
                message,
            });
        }
        self.poison(id);
    }

    /// An operation waits a while before it is tried again: the longer the more often it failed,
    /// and not all that failed together come back together.
    fn rest(&mut self, id: OperationId, times: u32, why: Arc<str>) {
        let doubled = self.settings.backoff.saturating_mul(1 << times.min(16));
        let most = doubled.min(self.settings.backoff_most);
        let chance = mix2(mix_wide(id.0), u64::from(times)) % 1024;
        let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX / 2048);
        let rest = Duration::from_millis(millis / 2 + millis * chance / 1024);
        let until = self.clock.time() + rest;
        self.effects.push(Effect::Requeued {
            operation: id,
            why: why.clone(),
        });
        self.set_state(id, State::Resting { until, why });
        self.set_timer(until, Timer::Rest { operation: id });
        self.persist(id);
    }

    pub(super) fn rested(&mut self, id: OperationId) {
        let time = self.clock.time();
        let Some(operation) = self.operations.get(&id) else {
            return;
        };
        if matches!(operation.state, State::Resting { until, .. } if until <= time) {
            self.enqueue(id);
        }
    }

    /// What was granted again at once is persisted already.
    fn persist_if_waiting(&mut self, id: OperationId) {
        if self.operations.get(&id).is_some_and(Operation::is_queued) {
            self.persist(id);
        }
    }

    fn poison(&mut self, id: OperationId) {
        let Some(operation) = self.operations.get(&id) else {
            return;
        };
        let poison = Poison {
            name: operation.submission.name.clone(),
            failures: operation.failures.clone(),
        };
        // A registry that does not answer fails three times as well: only what workers did not
        // come back from is dangerous.
        if poison
            .failures
            .iter()
            .filter(|failure| failure.lost)
            .count()
            > 1
        {
            let namespace = operation.owner.build.namespace.clone();
            let key = (namespace, operation.submission.action.clone());
            let until = self.clock.time() + self.settings.quarantine;
            self.poisons.add(key, until, poison.clone());
        }
        self.end(id, End::Poison(poison));
    }

    /// Ends an operation that nobody wants, wherever it is.
    pub(super) fn stop(&mut self, id: OperationId, why: &str) {
        let Some(operation) = self.operations.get(&id) else {
            return;
        };
        if let State::Running(running) = &operation.state {
            // Its slot is taken until the worker says that it has stopped.
            let assignment = Assignment {
                operation: id,
                fencing: running.fencing,
            };
            let worker = self.workers.get(running.worker);
            if let Some(connection) = worker.and_then(|worker| worker.connection) {
                self.effects.push(Effect::Cancel {
                    connection,
                    assignment,
                });
            }
            self.settle_account(id);
        }
        self.end(id, End::Cancelled { why: why.into() });
    }

    fn end(&mut self, id: OperationId, end: End) {
        let Some(operation) = self.operations.get(&id) else {
            return;
        };
        if operation.is_ended() {
            return;
        }
        if matches!(operation.state, State::Ready) {
            self.take_out(id);
        }
        self.set_state(
            id,
            State::Ended {
                at: self.clock.now(),
                end: end.clone(),
            },
        );
        let Some(operation) = self.operations.get_mut(&id) else {
            return;
        };
        operation.hold = None;
        // Nobody asks any more where it could go.
        if !operation.submission.inputs.is_empty() {
            Arc::make_mut(&mut operation.submission).inputs = Vec::new();
        }
        let class = operation.class.take();
        let owner = operation.owner.clone();
        let key = (
            owner.build.namespace.clone(),
            operation.submission.action.clone(),
        );
        self.accounts.close(&owner);
        if let Some(class) = class {
            self.kinds.leave_class(class);
        }
        if self.joinable.get(&key) == Some(&id) {
            self.joinable.remove(&key);
        }
        self.persist(id);
        self.effects.push(Effect::Ended { operation: id, end });
        self.ended_for_builds(id);
        self.remember(id);
    }
}
