//! Grants, renewals, and leases that end.

use std::sync::Arc;
use std::time::Duration;

use super::Queue;
use super::operation::{Running, State};
use super::timers::Timer;
use super::worker::{Held, WorkerIndex};
use crate::{Assignment, ConnectionId, Effect, Failure, OperationId};

/// How much one operation says about how long they take.
const PACE: u32 = 64;

/// What a grant is charged at least, and at most, before it has run.
const LEAST_DEPOSIT: Duration = Duration::from_millis(10);
const MOST_DEPOSIT: Duration = Duration::from_secs(60);

/// What takes longer counts as that.
const MOST_PACE: Duration = Duration::from_secs(3600);

impl Queue {
    /// Gives an operation that waits to a worker.
    pub(super) fn grant(&mut self, id: OperationId, index: WorkerIndex) {
        let time = self.clock.time();
        let now = self.clock.now();
        self.take_out(id);
        let Some(worker) = self.workers.get_mut(index) else {
            return;
        };
        let Some(operation) = self.operations.get_mut(&id) else {
            return;
        };
        let Some(connection) = worker.connection else {
            return;
        };
        let fencing = self.next_fencing;
        self.next_fencing += 1;
        let light = operation.submission.light;
        let deposit = self.pace.clamp(LEAST_DEPOSIT, MOST_DEPOSIT);
        let lease = time + self.settings.lease;
        worker.hold(
            id,
            Held {
                fencing,
                light,
                lease,
                known: false,
                paid: time + deposit,
            },
        );
        if let (false, Some(allowance)) = (light, &mut worker.allowance) {
            *allowance = allowance.saturating_sub(1);
        }
        operation.grants += 1;
        operation.fencing = fencing;
        operation.started.get_or_insert(now);
        operation.hold = None;
        let running = Running {
            worker: index,
            worker_id: worker.id.clone(),
            worker_name: worker.name.clone(),
            fencing,
            since: time,
            charged: time + deposit,
        };
        let attempt = operation.attempt();
        let started = Effect::Started {
            operation: id,
            worker: worker.name.clone(),
            attempt,
        };
        let assign = Effect::Assign {
            connection,
            assignment: Assignment {
                operation: id,
                fencing,
            },
            submission: operation.submission.clone(),
            builds: operation.builds_shown(),
            attempt,
        };
        if !light {
            self.accounts.chosen(&operation.owner);
            self.accounts.charge(&operation.owner, deposit);
            if let Some(class) = operation
                .class
                .and_then(|class| self.kinds.class_mut(class))
            {
                class.ready.feed(&operation.place(), time);
            }
        }
        self.counts.grants += 1;
        self.stop_lingering(index);
        self.set_state(id, State::Running(running));
        self.set_timer(
            lease,
            Timer::Lease {
                worker: index,
                operation: id,
                fencing,
            },
        );
        self.relist(index);
        self.persist(id);
        self.effects.push(started);
        self.effects.push(assign);
    }

    /// A worker still runs these.
    pub(super) fn renew(&mut self, connection: ConnectionId, running: &[Assignment]) {
        let Some(index) = self.hear(connection) else {
            return;
        };
        let time = self.clock.time();
        let lease = time + self.settings.lease;
        for &assignment in running {
            let Some(worker) = self.workers.get_mut(index) else {
                return;
            };
            let held = worker.running.get_mut(&assignment.operation);
            match held.filter(|held| held.fencing == assignment.fencing) {
                Some(held) => {
                    held.lease = lease;
                    held.known = true;
                    if held.paid < time {
                        held.paid = time;
                        self.charge(assignment.operation);
                    }
                }
                None => self.effects.push(Effect::Revoke {
                    connection,
                    assignment,
                }),
            }
        }
        self.offer(index);
    }

    /// Charges the time that an operation has run since it was charged last.
    pub(super) fn charge(&mut self, id: OperationId) {
        let time = self.clock.time();
        let Some(operation) = self.operations.get_mut(&id) else {
            return;
        };
        let State::Running(running) = &mut operation.state else {
            return;
        };
        let gone = time.saturating_sub(running.charged);
        if gone > Duration::ZERO && !operation.submission.light {
            running.charged = time;
            self.accounts.charge(&operation.owner, gone);
        }
    }

    /// Charges what an operation has run that does not run any more, no less and no more.
    pub(super) fn settle_account(&mut self, id: OperationId) {
        self.charge(id);
        let time = self.clock.time();
        let Some(operation) = self.operations.get_mut(&id) else {
            return;
        };
        let place = operation.place();
        let State::Running(running) = &mut operation.state else {
            return;
        };
        let left = running.charged.saturating_sub(time);
        if left.is_zero() || operation.submission.light {
            return;
        }
        running.charged = time;
        self.accounts.refund(&operation.owner, left);
        if let Some(class) = operation
            .class
            .and_then(|class| self.kinds.class_mut(class))
        {
            class.ready.refunded(&place, &self.accounts);
        }
    }

    /// Takes note of how long an operation ran.
    pub(super) fn keep_pace(&mut self, id: OperationId) {
        let time = self.clock.time();
        let Some(operation) = self.operations.get(&id) else {
            return;
        };
        if let (State::Running(running), false) = (&operation.state, operation.submission.light) {
            let took = time.saturating_sub(running.since);
            self.pace = (self.pace * (PACE - 1) + took.min(MOST_PACE)) / PACE;
        }
    }

    /// A lease may have ended.
    pub(super) fn lease_due(&mut self, index: WorkerIndex, id: OperationId, fencing: u64) {
        let time = self.clock.time();
        let Some(worker) = self.workers.get_mut(index) else {
            return;
        };
        let held = worker
            .running
            .get(&id)
            .filter(|held| held.fencing == fencing);
        let Some(held) = held.copied() else { return };
        if held.lease > time {
            self.set_timer(
                held.lease,
                Timer::Lease {
                    worker: index,
                    operation: id,
                    fencing,
                },
            );
            return;
        }
        worker.release(id);
        let (worker_id, name, connection) =
            (worker.id.clone(), worker.name.clone(), worker.connection);
        if let Some(connection) = connection {
            let assignment = Assignment {
                operation: id,
                fencing,
            };
            self.effects.push(Effect::Revoke {
                connection,
                assignment,
            });
        }
        self.relist(index);
        if self.is_current(id, fencing) {
            self.counts.lost += 1;
            self.settle_account(id);
            let message: Arc<str> = if connection.is_some() {
                "it stopped saying that it runs it".into()
            } else {
                "its connection broke and it did not come back".into()
            };
            self.fail(
                id,
                Failure {
                    worker: worker_id,
                    name,
                    lost: true,
                    message,
                },
            );
        }
        self.drop_if_gone(index);
        self.offer(index);
    }

    /// Whether an operation runs under this number.
    pub(super) fn is_current(&self, id: OperationId, fencing: u64) -> bool {
        self.operations.get(&id).is_some_and(|operation| {
            matches!(&operation.state, State::Running(running) if running.fencing == fencing)
        })
    }
}
