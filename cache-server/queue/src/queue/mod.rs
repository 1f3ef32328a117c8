//! The queue's state, and how it answers events.
//!
//! | module | subject |
//! |---|---|
//! | [`submit`] | submissions: joining, refusing, taking |
//! | [`session`] | builds: who is there, who wants what, cancelling |
//! | [`fleet`] | workers: coming, going, what they say of themselves |
//! | [`kind`] | which workers can run what |
//! | [`fair`] | who is next |
//! | [`place`] | which worker |
//! | [`lease`] | grants, renewals, leases that end |
//! | [`outcome`] | ends, failures, hand-backs, what is set aside |
//! | [`memory`] | what has ended, and forgetting it |
//! | [`journal`] | going on with what another queue has persisted |
//! | [`listing`] | what can be seen |

mod clock;
mod fair;
mod fleet;
mod journal;
mod kind;
mod layers;
mod lease;
mod listing;
mod memory;
mod operation;
mod outcome;
mod place;
mod session;
mod submit;
#[cfg(test)]
mod tests;
mod timers;
mod worker;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use clock::Clock;
use fair::Accounts;
use kind::Kinds;
use layers::Layers;
use memory::Memory;
use operation::{Operation, State};
use outcome::Poisons;
use session::Builds;
use timers::{Timer, Timers};
use worker::Workers;

use crate::hash::Layered;
use crate::{Action, Counts, Effect, Event, OperationId, Settings};

/// How often what is left to do is looked for.
const NUDGE: Duration = Duration::from_secs(1);

/// How often accounts of the idle are looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// The queue.
#[derive(Debug)]
pub struct Queue {
    settings: Settings,
    clock: Clock,
    timers: Timers,
    /// What the step that is under way wants done.
    effects: Vec<Effect>,
    operations: HashMap<OperationId, Operation, Layered>,
    /// Those that others may join: they have not ended.
    joinable: HashMap<(Arc<str>, Action), OperationId>,
    /// By when they were submitted; all, and whole builds.
    by_time: BTreeSet<(Duration, OperationId)>,
    whole_by_time: BTreeSet<(Duration, OperationId)>,
    builds: Builds,
    kinds: Kinds,
    workers: Workers,
    layers: Layers,
    accounts: Accounts,
    poisons: Poisons,
    memory: Memory,
    /// What waits, in each namespace.
    queued: HashMap<Arc<str>, usize>,
    /// What is in the orders of classes: where nothing is, nothing is looked for.
    waiting: usize,
    waiting_light: usize,
    /// Workers that are kept for what may follow.
    lingering: usize,
    /// How long work takes, about: what waiting for a busy worker means.
    pace: Duration,
    next_fencing: u64,
    next_sequence: u64,
    counts: Counts,
    nudged: Duration,
    swept: Duration,
}

impl Queue {
    /// An empty queue. `epoch` is larger than that of any queue that workers of the farm may have
    /// work of: how often the store was opened, or the number under which this server leads.
    /// Fencing numbers begin with it.
    pub fn new(settings: Settings, epoch: u32, now: Duration) -> Self {
        let accounts = Accounts::new(
            settings.namespace_weights.clone(),
            settings.user_weights.clone(),
        );
        Self {
            clock: Clock::new(now, settings.stall),
            accounts,
            settings,
            timers: Timers::default(),
            effects: Vec::new(),
            operations: HashMap::default(),
            joinable: HashMap::new(),
            by_time: BTreeSet::new(),
            whole_by_time: BTreeSet::new(),
            builds: Builds::default(),
            kinds: Kinds::default(),
            workers: Workers::default(),
            layers: Layers::default(),
            poisons: Poisons::default(),
            memory: Memory::default(),
            queued: HashMap::new(),
            waiting: 0,
            waiting_light: 0,
            lingering: 0,
            pace: Duration::from_secs(10),
            next_fencing: (u64::from(epoch) << 32) + 1,
            next_sequence: 0,
            counts: Counts::default(),
            nudged: now,
            swept: now,
        }
    }

    /// Takes note of an event, and says what is to be done.
    pub fn step(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        self.clock.advance(now);
        // The event first: a renewal that is read a moment late is no lease that has ended.
        self.take(event);
        while let Some(timer) = self.timers.pop(self.clock.time()) {
            self.fire(timer);
        }
        self.tidy();
        std::mem::take(&mut self.effects)
    }

    /// When a [`Event::Tick`] is due.
    pub fn next_wake(&self) -> Option<Duration> {
        self.timers.first().map(|time| self.clock.outside(time))
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Tick => {}
            Event::Submit {
                operation,
                waiter,
                submission,
            } => {
                self.submit(operation, waiter, submission);
            }
            Event::Attach {
                operation,
                waiter,
                build,
            } => self.attach(operation, waiter, build),
            Event::Detach { waiter } => self.detach(waiter),
            Event::SessionOpened { session, build } => self.session_opened(session, build),
            Event::SessionClosed { session } => self.session_closed(session),
            Event::Cancel { operation, by } => self.cancel(operation, &by),
            Event::CancelBuild { build } => self.cancel_build(&build),
            Event::Hello { connection, hello } => self.hello(connection, *hello),
            Event::WorkerGone { connection } => self.worker_gone(connection),
            Event::Holdings {
                connection,
                all,
                added,
                removed,
            } => {
                self.holdings(connection, all, &added, &removed);
            }
            Event::Capacity {
                connection,
                free,
                draining,
                why,
            } => {
                self.capacity(connection, free, draining, why);
            }
            Event::Renew {
                connection,
                running,
            } => self.renew(connection, &running),
            Event::Outcome {
                connection,
                assignment,
                outcome,
            } => {
                self.outcome(connection, assignment, outcome);
            }
            Event::Weights { namespaces, users } => {
                self.accounts.set_weights(
                    namespaces.into_iter().collect(),
                    users.into_iter().collect(),
                );
            }
        }
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Lease {
                worker,
                operation,
                fencing,
            } => {
                self.lease_due(worker, operation, fencing);
            }
            Timer::Rest { operation } => self.rested(operation),
            Timer::Hold { operation } => self.place(operation),
            Timer::Grace { build } => self.grace_due(&build),
            Timer::Silence { worker, watch } => self.silence_due(worker, watch),
            Timer::Linger { worker } => self.linger_due(worker),
        }
    }

    /// What is done now and then.
    fn tidy(&mut self) {
        self.forget_old();
        let time = self.clock.time();
        if time.saturating_sub(self.nudged) >= NUDGE {
            self.nudged = time;
            self.nudge();
        }
        if time.saturating_sub(self.swept) >= SWEEP {
            self.swept = time;
            self.accounts.forget_idle();
            self.poisons.forget(time);
        }
    }

    fn set_timer(&mut self, at: Duration, timer: Timer) {
        self.timers.set(at, timer);
    }

    /// An operation changes between waiting and not waiting: what is counted.
    fn set_state(&mut self, operation: OperationId, state: State) {
        let Some(held) = self.operations.get_mut(&operation) else {
            return;
        };
        let was_queued = held.is_queued();
        let was_running = matches!(held.state, State::Running(_));
        held.state = state;
        let is_queued = held.is_queued();
        let is_running = matches!(held.state, State::Running(_));
        let namespace = held.owner.build.namespace.clone();
        if is_queued && !was_queued {
            *self.queued.entry(namespace).or_default() += 1;
            self.counts.queued += 1;
        } else if was_queued && !is_queued {
            self.count_out(&namespace);
        }
        if is_running && !was_running {
            self.counts.running += 1;
        } else if was_running && !is_running {
            self.counts.running = self.counts.running.saturating_sub(1);
        }
    }

    /// One less waits in a namespace.
    fn count_out(&mut self, namespace: &Arc<str>) {
        self.counts.queued = self.counts.queued.saturating_sub(1);
        if let Some(count) = self.queued.get_mut(namespace) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.queued.remove(namespace);
            }
        }
    }

    /// Keeps an operation as it is now.
    fn persist(&mut self, operation: OperationId) {
        if let Some(held) = self.operations.get(&operation) {
            self.effects
                .push(Effect::Persist(Box::new(held.record(operation))));
        }
    }

    const fn sequence(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence
    }
}
