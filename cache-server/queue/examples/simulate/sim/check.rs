//! What must hold, whatever happens.

use ashlar_queue::{Assignment, OperationId, Record, RecordState};

use super::load::{NAMESPACES, weight};
use super::rng::Map;
use super::time::Time;

/// Seconds over which shares are compared.
const WINDOW: u64 = 60;

/// What waits at least, all the time, for a namespace to count as one that wants more.
const BACKLOG: i64 = 20;

#[derive(Debug)]
struct Live {
    submitted: Time,
    started: bool,
    running: bool,
    fencing: u64,
    /// Platform and namespace; none for what takes no slot.
    place: Option<(usize, usize)>,
}

/// Of a platform and namespace: what waits and runs now, and in this window.
#[derive(Debug, Default, Clone, Copy)]
struct Share {
    queued: i64,
    running: i64,
    least: i64,
    ran: i64,
    was_backlogged: bool,
}

/// All that is known.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    live: Map<OperationId, Live>,
    shares: [[Share; NAMESPACES]; 2],
    fencing: u64,
    /// What ended last, and its number.
    ended: Option<(OperationId, u64)>,
    seconds: u64,
    /// The fairness of each window in which at least two wanted more than they had.
    pub(crate) fairness: Vec<f64>,
    pub(crate) assignments: u64,
    pub(crate) longest_wait: Time,
    pub(crate) wrong: Vec<String>,
}

impl Checks {
    pub(crate) fn wrong(&mut self, what: String) {
        if self.wrong.len() < 20 {
            self.wrong.push(what);
        }
    }

    pub(crate) fn live(&self) -> usize {
        self.live.len()
    }

    pub(crate) fn first_live(&self) -> Option<OperationId> {
        self.live.keys().min().copied()
    }

    fn count(&mut self, place: Option<(usize, usize)>, queued: i64, running: i64) {
        if let Some((platform, namespace)) = place {
            let share = &mut self.shares[platform][namespace];
            share.queued += queued;
            share.running += running;
            share.least = share.least.min(share.queued);
        }
    }

    /// An operation is new.
    pub(crate) fn submitted(
        &mut self,
        now: Time,
        operation: OperationId,
        place: Option<(usize, usize)>,
    ) {
        let live = Live {
            submitted: now,
            started: false,
            running: false,
            fencing: 0,
            place,
        };
        if self.live.insert(operation, live).is_some() {
            self.wrong(format!("{operation} was submitted twice"));
        }
        self.count(place, 1, 0);
    }

    /// An operation is on a worker. Gives how long it waited, if it is its first time.
    pub(crate) fn started(&mut self, now: Time, operation: OperationId) -> Option<Time> {
        let Some(live) = self.live.get_mut(&operation) else {
            self.wrong(format!("{operation} started and is not there"));
            return None;
        };
        let was_running = std::mem::replace(&mut live.running, true);
        let is_first = !std::mem::replace(&mut live.started, true);
        let (place, wait) = (live.place, now - live.submitted);
        if was_running {
            self.wrong(format!("{operation} started while it ran"));
        }
        self.count(place, -1, 1);
        (is_first && place.is_some()).then(|| {
            self.longest_wait = self.longest_wait.max(wait);
            wait
        })
    }

    pub(crate) fn requeued(&mut self, operation: OperationId) {
        let Some(live) = self.live.get_mut(&operation) else {
            self.wrong(format!("{operation} was requeued and is not there"));
            return;
        };
        let place = live.place;
        if !std::mem::replace(&mut live.running, false) {
            self.wrong(format!("{operation} was requeued and did not run"));
        }
        self.count(place, 1, -1);
    }

    pub(crate) fn ended(&mut self, operation: OperationId) {
        let Some(live) = self.live.remove(&operation) else {
            self.wrong(format!("{operation} ended twice, or never was"));
            return;
        };
        self.ended = Some((operation, live.fencing));
        if live.running {
            self.count(live.place, 0, -1);
        } else {
            self.count(live.place, -1, 0);
        }
    }

    /// Only what comes under the last number counts.
    pub(crate) fn taken(&mut self, assignment: Assignment) {
        let Assignment { operation, fencing } = assignment;
        let live = self.live.get(&operation).map(|live| live.fencing);
        let ended = self
            .ended
            .filter(|&(ended, _)| ended == operation)
            .map(|(_, of)| of);
        if let Some(current) = live.or(ended)
            && current != fencing
        {
            self.wrong(format!("{assignment:?} was taken, {current} is current"));
        }
    }

    /// Numbers grow, over all of the farm, and the journal knows them before any worker does.
    pub(crate) fn assigned(&mut self, assignment: Assignment, record: Option<&Record>) {
        self.assignments += 1;
        if assignment.fencing <= self.fencing {
            self.wrong(format!("{assignment:?} comes after {}", self.fencing));
        }
        self.fencing = self.fencing.max(assignment.fencing);
        let is_known = record.is_some_and(|record| {
            matches!(&record.state, RecordState::Running { assignment: known, .. } if *known == assignment)
        });
        if !is_known {
            self.wrong(format!("{assignment:?} is not in the journal"));
        }
        match self.live.get_mut(&assignment.operation) {
            Some(live) => live.fencing = assignment.fencing,
            None => self.wrong(format!("{assignment:?} is of nothing")),
        }
    }

    /// Another server goes on: what waited, and what ran, is still so.
    pub(crate) const fn restored(&mut self) {
        self.seconds = 0;
    }

    /// Once a second.
    pub(crate) fn second(&mut self, _now: Time) {
        for share in self.shares.iter_mut().flatten() {
            share.ran += share.running;
            share.least = share.least.min(share.queued);
        }
        self.seconds += 1;
        if self.seconds < WINDOW {
            return;
        }
        self.seconds = 0;
        for platform in &mut self.shares {
            let mut shares = Vec::new();
            for (namespace, share) in platform.iter_mut().enumerate() {
                let is_backlogged = share.least >= BACKLOG;
                // What ran when it began to want more runs on for a while: the second window counts.
                if is_backlogged && share.was_backlogged {
                    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
                    shares.push(share.ran as f64 / f64::from(weight(namespace)));
                }
                share.was_backlogged = is_backlogged;
                share.least = share.queued;
                share.ran = 0;
            }
            if shares.len() > 1 {
                self.fairness.push(jain(&shares));
            }
        }
    }
}

/// Jain's index: 1 if all have the same, 1/n if one has all.
#[expect(clippy::cast_precision_loss, reason = "a few namespaces")]
fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    if squares == 0.0 {
        1.0
    } else {
        sum * sum / (shares.len() as f64 * squares)
    }
}
