//! What the queue knows of operations.

use std::sync::Arc;
use std::time::Duration;

use super::fair::{Owner, Place, Urgency};
use super::kind::ClassId;
use super::worker::WorkerIndex;
use crate::{
    Assignment, BuildKey, End, Failure, Input, OperationId, OperationView, Record, RecordState,
    Stage, Submission,
};

/// How many layers decide about a place. Those with the most bytes; the rest is noise.
const INPUTS: usize = 64;

/// How many builds of an operation a journal keeps, and a worker is told of.
const BUILDS_SHOWN: usize = 64;

/// Where an operation is.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// It is being taken in, and not counted among what waits.
    Arriving,
    /// It failed, and waits until it is tried again.
    Resting { until: Duration, why: Arc<str> },
    /// It waits for a worker.
    Ready,
    /// A worker has it.
    Running(Running),
    /// It has ended.
    Ended { at: Duration, end: End },
}

/// A worker has it.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) worker: WorkerIndex,
    pub(super) worker_id: Arc<str>,
    pub(super) worker_name: Arc<str>,
    pub(super) fencing: u64,
    /// When it was given.
    pub(super) since: Duration,
    /// Until when its time has been charged; later than now while the deposit lasts.
    pub(super) charged: Duration,
}

/// Waiting for a worker that has the layers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hold {
    pub(super) until: Duration,
    /// A worker that lacks no more than this will do.
    pub(super) missing: u64,
}

/// An operation.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) submission: Arc<Submission>,
    /// None when it has ended.
    pub(super) class: Option<ClassId>,
    pub(super) owner: Owner,
    /// By the caller's clock.
    pub(super) submitted: Duration,
    /// By the queue's: since when it waits, hand-backs and failures included.
    pub(super) since: Duration,
    pub(super) urgency: Urgency,
    pub(super) priority: i32,
    /// Who wants it.
    pub(super) builds: Vec<BuildKey>,
    pub(super) failures: Vec<Failure>,
    /// The worker that gave it back last.
    pub(super) declined: Option<Arc<str>>,
    /// How often it was given back in a row.
    pub(super) declines: u32,
    /// How often a worker with nothing else to do had no room for it.
    pub(super) cramped: u32,
    pub(super) grants: u32,
    pub(super) fencing: u64,
    pub(super) started: Option<Duration>,
    pub(super) hold: Option<Hold>,
    pub(super) state: State,
}

/// Keeps the layers that decide about a place: a queue of two hundred thousand operations has no
/// room for thousands of layers of each.
pub(super) fn keep_deciding(submission: &mut Arc<Submission>) {
    if submission.inputs.len() > INPUTS {
        let inputs = deciding(&submission.inputs);
        Arc::make_mut(submission).inputs = inputs;
    }
}

fn deciding(inputs: &[Input]) -> Vec<Input> {
    if inputs.len() <= INPUTS {
        return inputs.to_vec();
    }
    let mut sizes: Vec<u64> = inputs.iter().map(|input| input.bytes).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let least = sizes[INPUTS - 1];
    let mut of_least = INPUTS - sizes.iter().filter(|&&bytes| bytes > least).count();
    inputs
        .iter()
        .filter(|input| {
            if input.bytes != least {
                return input.bytes > least;
            }
            let is_kept = of_least > 0;
            of_least = of_least.saturating_sub(1);
            is_kept
        })
        .copied()
        .collect()
}

impl Operation {
    pub(super) const fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended { .. })
    }

    pub(super) const fn is_queued(&self) -> bool {
        matches!(self.state, State::Ready | State::Resting { .. })
    }

    /// The attempt that runs, or will run next.
    pub(super) fn attempt(&self) -> u32 {
        u32::try_from(self.failures.len())
            .unwrap_or(u32::MAX)
            .saturating_add(1)
    }

    pub(super) fn place(&self) -> Place {
        Place::new(&self.owner, self.urgency, self.since)
    }

    /// Those who want it, as far as others are told.
    pub(super) fn builds_shown(&self) -> Vec<BuildKey> {
        self.builds.iter().take(BUILDS_SHOWN).cloned().collect()
    }

    pub(super) fn record(&self, operation: OperationId) -> Record {
        let state = match &self.state {
            State::Arriving | State::Resting { .. } | State::Ready => RecordState::Queued,
            State::Running(running) => RecordState::Running {
                worker: running.worker_id.clone(),
                name: running.worker_name.clone(),
                assignment: Assignment {
                    operation,
                    fencing: running.fencing,
                },
            },
            State::Ended { at, end } => RecordState::Ended {
                at: *at,
                end: end.clone(),
            },
        };
        Record {
            operation,
            submission: self.submission.clone(),
            submitted: self.submitted,
            builds: self.builds_shown(),
            failures: self.failures.clone(),
            grants: self.grants,
            fencing: self.fencing,
            started: self.started,
            state,
        }
    }

    pub(super) fn view(&self, operation: OperationId) -> OperationView {
        let (stage, ended) = match &self.state {
            State::Arriving | State::Resting { .. } | State::Ready => (Stage::Queued, None),
            State::Running(running) => (
                Stage::Running {
                    worker: running.worker_name.clone(),
                    attempt: self.attempt(),
                },
                None,
            ),
            State::Ended { at, end } => (Stage::Ended(end.clone()), Some(*at)),
        };
        OperationView {
            operation,
            submission: self.submission.clone(),
            builds: self.builds.clone(),
            submitted: self.submitted,
            started: self.started,
            ended,
            stage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_layers_decide_in_their_order() {
        let input = |layer, bytes| Input { layer, bytes };
        let few = [input(1, 5), input(2, 9)];
        assert_eq!(deciding(&few), few);
        let mut many: Vec<_> = (0..100).map(|layer| input(layer, 7)).collect();
        many[99].bytes = 100;
        many[3].bytes = 1;
        let kept = deciding(&many);
        assert_eq!(kept.len(), INPUTS);
        assert_eq!(kept[INPUTS - 1].layer, 99);
        assert!(kept.is_sorted_by_key(|input| input.layer));
        assert!(kept.iter().all(|input| input.layer != 3));
    }
}
