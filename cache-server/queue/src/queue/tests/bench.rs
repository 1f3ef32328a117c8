//! A queue with a clock, and short words for what happens to it.

use std::sync::Arc;
use std::time::Duration;

use crate::{
    Action, Assignment, BuildKey, ConnectionId, Done, Effect, End, Event, Hello, Input,
    OperationId, Outcome, Queue, Record, Settings, Stage, Submission, WaiterId,
};

/// Where times begin.
pub(super) const START: Duration = Duration::from_secs(1_800_000_000);

pub(super) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) struct Bench {
    pub(super) queue: Queue,
    pub(super) now: Duration,
    pub(super) journal: std::collections::BTreeMap<OperationId, Record>,
    /// All effects since `drain`.
    pub(super) seen: Vec<Effect>,
    next: u64,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        change(&mut settings);
        Self {
            queue: Queue::new(settings, 1, START),
            now: START,
            journal: std::collections::BTreeMap::new(),
            seen: Vec::new(),
            next: 0,
        }
    }

    pub(super) fn step(&mut self, event: Event) -> Vec<Effect> {
        let effects = self.queue.step(event, self.now);
        for effect in &effects {
            match effect {
                Effect::Persist(record) => {
                    self.journal.insert(record.operation, (**record).clone());
                }
                Effect::Forget(operation) => {
                    self.journal.remove(operation);
                }
                _ => {}
            }
        }
        self.seen.extend(effects.iter().cloned());
        effects
    }

    /// Time goes by, as a server sees it.
    pub(super) fn pass(&mut self, time: Duration) -> Vec<Effect> {
        let end = self.now + time;
        let mut effects = Vec::new();
        while self.now < end {
            let second = self.now + seconds(1);
            let wake = self
                .queue
                .next_wake()
                .map_or(second, |wake| wake.max(self.now + millis(1)));
            self.now = second.min(wake).min(end);
            effects.extend(self.step(Event::Tick));
        }
        effects
    }

    pub(super) fn drain(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.seen)
    }

    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Submits, and gives what the client then waits for.
    pub(super) fn submit(&mut self, submission: Submission) -> OperationId {
        self.try_submit(submission, None).expect("it is taken")
    }

    pub(super) fn try_submit(
        &mut self,
        submission: Submission,
        waiter: Option<WaiterId>,
    ) -> Option<OperationId> {
        let operation = OperationId(u128::from(self.number()) << 64 | 7);
        let submission = Arc::new(submission);
        let effects = self.step(Event::Submit {
            operation,
            waiter,
            submission,
        });
        effects.iter().find_map(|effect| match effect {
            Effect::Submitted {
                asked,
                operation: of,
            } if *asked == operation => Some(*of),
            _ => None,
        })
    }

    /// A worker for linux/amd64.
    pub(super) fn worker(&mut self, id: &str, slots: u32) -> Worker {
        self.worker_like(hello(id, slots))
    }

    pub(super) fn worker_like(&mut self, hello: Hello) -> Worker {
        let connection = ConnectionId(self.number());
        self.step(Event::Hello {
            connection,
            hello: Box::new(hello),
        });
        Worker { connection }
    }

    pub(super) fn holds(&mut self, worker: &Worker, layers: &[u64]) -> Vec<Effect> {
        self.step(Event::Holdings {
            connection: worker.connection,
            all: true,
            added: layers.to_vec(),
            removed: Vec::new(),
        })
    }

    pub(super) fn outcome(
        &mut self,
        worker: &Worker,
        assignment: Assignment,
        outcome: Outcome,
    ) -> Vec<Effect> {
        self.step(Event::Outcome {
            connection: worker.connection,
            assignment,
            outcome,
        })
    }

    /// What a worker was given in this bench, the last one last.
    pub(super) fn given(&self, worker: &Worker) -> Vec<Assignment> {
        self.seen
            .iter()
            .filter_map(|effect| assigned(effect, worker))
            .collect()
    }

    /// The same, when it is one.
    pub(super) fn last(&self, worker: &Worker) -> Assignment {
        *self.given(worker).last().expect("it was given something")
    }

    pub(super) fn end(&self, operation: OperationId) -> Option<End> {
        match self.queue.view(operation)?.stage {
            Stage::Ended(end) => Some(end),
            _ => None,
        }
    }

    pub(super) fn is_queued(&self, operation: OperationId) -> bool {
        self.queue
            .view(operation)
            .is_some_and(|view| view.stage == Stage::Queued)
    }

    /// Keeps all workers of a list alive, with what they run.
    pub(super) fn renew(&mut self, worker: &Worker, running: &[Assignment]) -> Vec<Effect> {
        self.step(Event::Renew {
            connection: worker.connection,
            running: running.to_vec(),
        })
    }
}

pub(super) struct Worker {
    pub(super) connection: ConnectionId,
}

pub(super) fn hello(id: &str, slots: u32) -> Hello {
    Hello {
        worker: id.into(),
        name: format!("host-{id}").into(),
        slots,
        properties: [
            ("os".into(), "linux".into()),
            ("arch".into(), "amd64".into()),
        ]
        .into(),
        namespaces: vec!["".into()],
        running: Vec::new(),
    }
}

pub(super) fn assigned(effect: &Effect, worker: &Worker) -> Option<Assignment> {
    match effect {
        Effect::Assign {
            connection,
            assignment,
            ..
        } if *connection == worker.connection => Some(*assignment),
        _ => None,
    }
}

pub(super) fn key(build: &str) -> BuildKey {
    BuildKey {
        namespace: "org".into(),
        user: "ann".into(),
        build: build.into(),
    }
}

/// Work for linux/amd64 of build `b`.
pub(super) fn work(action: &str) -> Submission {
    Submission {
        build: key("b"),
        action: Action {
            function: 9,
            hash: action.into(),
            size: 1,
        },
        priority: 0,
        skip_cache_lookup: false,
        light: false,
        whole: false,
        inputs: Vec::new(),
        requirements: [
            ("os".into(), "linux".into()),
            ("arch".into(), "amd64".into()),
        ]
        .into(),
        name: format!("RUN {action}").into(),
        steps: 1,
        requester: "ann@laptop".into(),
    }
}

pub(super) fn on(layers: &[(u64, u64)]) -> Vec<Input> {
    layers
        .iter()
        .map(|&(layer, megabytes)| Input {
            layer,
            bytes: megabytes << 20,
        })
        .collect()
}

pub(super) fn done(text: &str) -> Outcome {
    Outcome::Done(Done {
        outcome: text.as_bytes().into(),
        failed: false,
        message: "".into(),
    })
}

pub(super) fn broken(message: &str) -> Outcome {
    Outcome::Infrastructure {
        message: message.into(),
        is_exhaustion: false,
    }
}
