//! Going on with what another queue has persisted.

use std::time::Duration;

use super::Queue;
use super::fair::Urgency;
use super::operation::{Operation, Running, State, keep_deciding};
use super::timers::Timer;
use super::worker::{Held, Worker};
use crate::{OperationId, Record, RecordState, Settings};

impl Queue {
    /// A queue that goes on with what another has persisted. What ran runs on, for a lease's time,
    /// at workers that say so; builds have their grace from now on.
    ///
    /// Records that are missing cost repeats: their operations are submitted again by who waits,
    /// and what a worker runs of them is revoked. Records that are older than they should be cost
    /// no more, since fencing numbers begin with `epoch`.
    pub fn restore(
        settings: Settings,
        epoch: u32,
        records: impl IntoIterator<Item = Record>,
        now: Duration,
    ) -> Self {
        let mut queue = Self::new(settings, epoch, now);
        let mut records: Vec<Record> = records.into_iter().collect();
        // In the order in which they came, or ended: the order of everything else follows.
        records.sort_by_key(|record| (order(record), record.operation));
        for record in records {
            queue.next_fencing = queue.next_fencing.max(record.fencing.saturating_add(1));
            queue.take_over(record);
        }
        queue
    }

    fn take_over(&mut self, mut record: Record) {
        keep_deciding(&mut record.submission);
        let id = record.operation;
        let now = self.clock.now();
        if self.operations.contains_key(&id) {
            return;
        }
        let Some(build) = record.builds.first().cloned().or_else(|| {
            matches!(record.state, RecordState::Ended { .. })
                .then(|| record.submission.build.clone())
        }) else {
            // Nobody wants it.
            return;
        };
        let (class, new) = self.kinds.enter_class(&record.submission.requirements);
        self.asked_for(&new);
        let platform = self
            .kinds
            .class(class)
            .map_or("/".into(), |class| class.platform.clone());
        let since = record.submitted.min(self.clock.time());
        let sequence = self.sequence();
        let join_key = (build.namespace.clone(), record.submission.action.clone());
        let mut operation = Operation {
            class: Some(class),
            owner: self
                .accounts
                .open(&platform, build, record.submission.priority),
            submitted: record.submitted.min(now),
            since,
            urgency: Urgency { due: 0, sequence },
            priority: record.submission.priority,
            builds: Vec::new(),
            failures: record.failures,
            declined: None,
            declines: 0,
            cramped: 0,
            grants: record.grants,
            fencing: record.fencing,
            started: record.started.map(|started| started.min(now)),
            hold: None,
            state: State::Arriving,
            submission: record.submission,
        };
        operation.urgency.due = self.due(since, operation.priority);
        let is_joinable = !operation.submission.skip_cache_lookup;
        self.admit(id, operation);
        if let RecordState::Ended { at, end } = record.state {
            self.kinds.leave_class(class);
            if let Some(operation) = self.operations.get_mut(&id) {
                self.accounts.close(&operation.owner);
                operation.class = None;
                operation.builds = record.builds;
                operation.state = State::Ended {
                    at: at.min(now),
                    end,
                };
            }
            self.remember(id);
            return;
        }
        if is_joinable {
            self.joinable.entry(join_key).or_insert(id);
        }
        for build in &record.builds {
            self.want(id, build);
        }
        match record.state {
            RecordState::Running {
                worker,
                name,
                assignment,
            } => {
                self.take_over_running(id, worker, name, assignment.fencing);
            }
            RecordState::Queued | RecordState::Ended { .. } => {
                self.set_state(id, State::Ready);
                self.put_in(id);
            }
        }
    }

    /// A worker that is not there yet has it: it has a lease's time to come and say so.
    fn take_over_running(
        &mut self,
        id: OperationId,
        worker_id: std::sync::Arc<str>,
        worker_name: std::sync::Arc<str>,
        fencing: u64,
    ) {
        let time = self.clock.time();
        let index = match self.workers.by_id(&worker_id) {
            Some(index) => index,
            None => self
                .workers
                .insert(Worker::new(worker_id.clone(), worker_name.clone(), time)),
        };
        let light = self
            .operations
            .get(&id)
            .is_some_and(|held| held.submission.light);
        let lease = time + self.settings.lease;
        if let Some(worker) = self.workers.get_mut(index) {
            worker.hold(
                id,
                Held {
                    fencing,
                    light,
                    lease,
                    known: false,
                    paid: time,
                },
            );
        }
        let running = Running {
            worker: index,
            worker_id,
            worker_name,
            fencing,
            since: time,
            charged: time,
        };
        self.set_state(id, State::Running(running));
        self.set_timer(
            lease,
            Timer::Lease {
                worker: index,
                operation: id,
                fencing,
            },
        );
    }
}

fn order(record: &Record) -> Duration {
    match &record.state {
        RecordState::Ended { at, .. } => *at,
        _ => record.submitted,
    }
}
