//! Workers: coming, going, and what they say of themselves.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::Queue;
use super::timers::Timer;
use super::worker::{Worker, WorkerIndex};
use crate::{Assignment, ConnectionId, Effect, Failure, Hello, OperationId};

/// What a worker may be late with its renewals beyond two of them.
const LATE: Duration = Duration::from_secs(5);

/// Workers whose properties are compared with those of a new one. Most farms have a few kinds.
const SAME: usize = 64;

/// What came of a worker's reconnecting, for something that it had.
enum Missed {
    /// It had said that it runs it, and does not any more.
    Dropped,
    /// It may never have heard of it.
    Unheard,
}

impl Queue {
    pub(super) fn hello(&mut self, connection: ConnectionId, hello: Hello) {
        let time = self.clock.time();
        if self.workers.by_connection(connection).is_some() {
            return;
        }
        let index = match self.workers.by_id(&hello.worker) {
            Some(index) => index,
            None => self
                .workers
                .insert(Worker::new(hello.worker, hello.name.clone(), time)),
        };
        self.leave_kind(index);
        self.stop_lingering(index);
        if let Some(connection) = self.workers.connect(index, connection) {
            self.effects.push(Effect::Disconnect {
                connection,
                why: "the worker has come again",
            });
        }
        let watch = self.sequence();
        let properties = self.shared(hello.properties);
        let Some(worker) = self.workers.get_mut(index) else {
            return;
        };
        worker.name = hello.name;
        worker.slots = hello.slots;
        worker.properties = properties;
        worker.namespaces = hello.namespaces.into();
        worker.allowance = None;
        worker.draining = false;
        worker.why = Arc::from("");
        worker.heard = time;
        worker.silent = false;
        worker.watch = watch;
        self.set_timer(
            self.silence_at(time),
            Timer::Silence {
                worker: index,
                watch,
            },
        );
        self.join_kind(index);
        self.effects.push(Effect::Welcome {
            connection,
            lease: self.settings.lease,
            renew_every: self.settings.renew_every,
        });
        self.reconcile(index, connection, &hello.running);
        self.offer(index);
    }

    /// The same properties are kept once: workers that have the same are counted together.
    fn shared(&self, properties: BTreeMap<String, String>) -> Arc<BTreeMap<String, String>> {
        let known = self.workers.iter().map(|(_, worker)| &worker.properties);
        let found = known
            .take(SAME)
            .find(|known| ***known == properties)
            .cloned();
        found.unwrap_or_else(|| Arc::new(properties))
    }

    /// A worker says what it still runs; what the queue thinks beyond that is not so.
    fn reconcile(&mut self, index: WorkerIndex, connection: ConnectionId, running: &[Assignment]) {
        let lease = self.clock.time() + self.settings.lease;
        let said: HashSet<Assignment> = running.iter().copied().collect();
        for &assignment in running {
            let Assignment { operation, fencing } = assignment;
            let is_current = self.is_current(operation, fencing);
            let Some(worker) = self.workers.get_mut(index) else {
                return;
            };
            let held = worker
                .running
                .get_mut(&operation)
                .filter(|held| held.fencing == fencing);
            match held {
                Some(held) if is_current => {
                    held.lease = lease;
                    held.known = true;
                }
                held => {
                    // What was cancelled while it was away need not be answered any more.
                    if held.is_some() {
                        worker.release(operation);
                    }
                    self.effects.push(Effect::Revoke {
                        connection,
                        assignment,
                    });
                }
            }
        }
        let Some(worker) = self.workers.get(index) else {
            return;
        };
        let (worker_id, name) = (worker.id.clone(), worker.name.clone());
        let mut missed: Vec<(OperationId, u64, Missed)> = worker
            .running
            .iter()
            .filter(|&(&operation, held)| {
                !said.contains(&Assignment {
                    operation,
                    fencing: held.fencing,
                })
            })
            .map(|(&operation, held)| {
                let missed = if held.known {
                    Missed::Dropped
                } else {
                    Missed::Unheard
                };
                (operation, held.fencing, missed)
            })
            .collect();
        missed.sort_unstable_by_key(|&(operation, fencing, _)| (operation, fencing));
        for &(operation, fencing, _) in &missed {
            if let Some(worker) = self.workers.get_mut(index) {
                worker.release_if(operation, fencing);
            }
        }
        self.relist(index);
        for (operation, fencing, missed) in missed {
            if !self.is_current(operation, fencing) {
                continue;
            }
            self.settle_account(operation);
            match missed {
                Missed::Dropped => {
                    let message = "it came back without it".into();
                    let (worker, name) = (worker_id.clone(), name.clone());
                    self.fail(
                        operation,
                        Failure {
                            worker,
                            name,
                            lost: true,
                            message,
                        },
                    );
                }
                Missed::Unheard => {
                    let why = format!("{name} did not hear of it");
                    self.hand_back(operation, &worker_id, why.into(), false);
                }
            }
        }
    }

    pub(super) fn worker_gone(&mut self, connection: ConnectionId) {
        let Some(index) = self.workers.disconnect(connection) else {
            return;
        };
        self.stop_lingering(index);
        self.relist(index);
        self.drop_if_gone(index);
    }

    /// A worker that cannot be spoken to and runs nothing is forgotten.
    pub(super) fn drop_if_gone(&mut self, index: WorkerIndex) {
        let Some(worker) = self.workers.get(index) else {
            return;
        };
        if worker.connection.is_some() || !worker.running.is_empty() {
            return;
        }
        self.stop_lingering(index);
        self.leave_kind(index);
        if let Some(mut worker) = self.workers.remove(index) {
            self.layers.forget(index, &mut worker.holdings);
        }
    }

    /// Takes note that a worker is there.
    pub(super) fn hear(&mut self, connection: ConnectionId) -> Option<WorkerIndex> {
        let index = self.workers.by_connection(connection)?;
        let time = self.clock.time();
        let worker = self.workers.get_mut(index)?;
        worker.heard = time;
        if worker.silent {
            worker.silent = false;
            let watch = worker.watch;
            self.relist(index);
            self.set_timer(
                self.silence_at(time),
                Timer::Silence {
                    worker: index,
                    watch,
                },
            );
        }
        Some(index)
    }

    fn silence_at(&self, heard: Duration) -> Duration {
        heard + self.settings.renew_every * 2 + LATE
    }

    /// A worker may have been silent for too long: it is given nothing more, and after twice a
    /// lease its stream is of no use.
    pub(super) fn silence_due(&mut self, index: WorkerIndex, watch: u64) {
        let time = self.clock.time();
        let Some(worker) = self.workers.get(index) else {
            return;
        };
        let Some(connection) = worker.connection else {
            return;
        };
        if worker.watch != watch {
            return;
        }
        let silence = self.silence_at(worker.heard);
        let end = worker.heard + self.settings.lease * 2;
        if silence > time {
            self.set_timer(
                silence,
                Timer::Silence {
                    worker: index,
                    watch,
                },
            );
        } else if end > time {
            if let Some(worker) = self.workers.get_mut(index)
                && !worker.silent
            {
                worker.silent = true;
                self.relist(index);
                self.set_timer(
                    end,
                    Timer::Silence {
                        worker: index,
                        watch,
                    },
                );
            }
        } else {
            let why = "the worker has not said anything for too long";
            self.effects.push(Effect::Disconnect { connection, why });
            self.worker_gone(connection);
        }
    }

    pub(super) fn holdings(
        &mut self,
        connection: ConnectionId,
        all: bool,
        added: &[u64],
        removed: &[u64],
    ) {
        let Some(index) = self.hear(connection) else {
            return;
        };
        let most = self.settings.holdings;
        let Some(worker) = self.workers.get_mut(index) else {
            return;
        };
        if all {
            self.layers
                .replace(index, &mut worker.holdings, added, most);
        } else {
            self.layers
                .change(index, &mut worker.holdings, added, removed, most);
        }
        // What is held may be for this one.
        self.offer(index);
    }

    pub(super) fn capacity(
        &mut self,
        connection: ConnectionId,
        free: u32,
        draining: bool,
        why: Arc<str>,
    ) {
        let Some(index) = self.hear(connection) else {
            return;
        };
        let Some(worker) = self.workers.get_mut(index) else {
            return;
        };
        // It may not have heard yet of what it was given a moment ago: its slots are counted here.
        let slots = worker.slots.saturating_sub(worker.used);
        worker.allowance = (free < slots).then_some(free);
        worker.draining = draining;
        worker.why = why;
        self.relist(index);
        self.offer(index);
    }

    /// Into the kind that it belongs to, and its lists.
    fn join_kind(&mut self, index: WorkerIndex) {
        let Some(worker) = self.workers.get_mut(index) else {
            return;
        };
        let kind = self
            .kinds
            .join(index, &worker.properties, &worker.namespaces);
        worker.kind = Some(kind);
        self.relist(index);
    }

    /// Out of its kind, and its lists.
    fn leave_kind(&mut self, index: WorkerIndex) {
        let Some(worker) = self.workers.get_mut(index) else {
            return;
        };
        let Some(id) = worker.kind.take() else { return };
        if let Some(kind) = self.kinds.kind_mut(id) {
            kind.present.remove(&(worker.ring, index));
            kind.free.remove(&(worker.ring, index));
        }
        worker.listed_present = false;
        worker.listed_free = false;
        self.kinds.part(index, id);
        self.workers.set_free(index, false);
    }

    /// Brings the lists of its kind to what a worker is now.
    pub(super) fn relist(&mut self, index: WorkerIndex) {
        let Some(worker) = self.workers.get_mut(index) else {
            return;
        };
        let Some(kind) = worker.kind.and_then(|kind| self.kinds.kind_mut(kind)) else {
            return;
        };
        let is_present = worker.is_present();
        let has_slot = worker.free() > 0;
        let is_free = has_slot && worker.lingers.is_none();
        let entry = (worker.ring, index);
        if is_present != worker.listed_present {
            worker.listed_present = is_present;
            if is_present {
                kind.present.insert(entry);
            } else {
                kind.present.remove(&entry);
            }
        }
        if is_free != worker.listed_free {
            worker.listed_free = is_free;
            if is_free {
                kind.free.insert(entry);
            } else {
                kind.free.remove(&entry);
            }
        }
        self.workers.set_free(index, has_slot);
    }

    /// Operations ask for properties that nobody asked for before: workers that have them may be
    /// told apart by them now.
    pub(super) fn asked_for(&mut self, names: &[String]) {
        if names.is_empty() {
            return;
        }
        let affected: Vec<WorkerIndex> = self
            .workers
            .iter()
            .filter(|(_, worker)| {
                worker.kind.is_some()
                    && names
                        .iter()
                        .any(|name| worker.properties.contains_key(name))
            })
            .map(|(index, _)| index)
            .collect();
        for index in affected {
            self.leave_kind(index);
            self.join_kind(index);
        }
    }

    /// Keeps a worker for what may follow what it has done, if others would take its slot at once.
    pub(super) fn linger(&mut self, index: WorkerIndex) {
        if self.settings.linger.is_zero() || !self.settings.placement {
            return;
        }
        let until = self.clock.time() + self.settings.linger;
        let Some(worker) = self.workers.get_mut(index) else {
            return;
        };
        if worker.lingers.is_some() || worker.free() == 0 {
            return;
        }
        let Some(kind) = worker.kind.and_then(|kind| self.kinds.kind(kind)) else {
            return;
        };
        let mut classes = kind
            .classes
            .iter()
            .filter_map(|&class| self.kinds.class(class));
        if classes.any(|class| !class.ready.is_empty()) {
            worker.lingers = Some(until);
            self.lingering += 1;
            self.set_timer(until, Timer::Linger { worker: index });
            self.relist(index);
        }
    }

    pub(super) fn stop_lingering(&mut self, index: WorkerIndex) {
        let Some(worker) = self.workers.get_mut(index) else {
            return;
        };
        if worker.lingers.take().is_some() {
            self.lingering = self.lingering.saturating_sub(1);
            self.relist(index);
        }
    }

    pub(super) fn linger_due(&mut self, index: WorkerIndex) {
        let time = self.clock.time();
        let Some(worker) = self.workers.get(index) else {
            return;
        };
        if worker.lingers.is_some_and(|until| until <= time) {
            self.stop_lingering(index);
            self.offer(index);
        }
    }
}
