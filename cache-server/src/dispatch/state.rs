//! The queue with all that is around it, and what its effects do. Under one lock; nothing here waits.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ashlar_proto::convert::duration_to_wire;
use ashlar_proto::wire::farm::queue_message::{Assign, Kind, OutcomeTaken, Welcome};
use ashlar_proto::wire::farm::{Event as Said, event};
use ashlar_proto::wire::reapi;
use ashlar_queue::{
    Assignment, BuildKey, ConnectionId, Effect, End, Event, OperationId, Queue, Refusal, Stage,
    Submission, WaiterId,
};
use bytes::Bytes;
use tokio::sync::oneshot;
use tonic::Status;

use super::convert;
use super::counts::Tally;
use super::link::Link;
use super::operation::{Operation, time};
use super::outbox::Refused;
use super::session::Sessions;
use crate::limits;

/// The answer to a submission.
pub type Answer = Result<OperationId, Refusal>;

/// All that the queue is driven with.
#[derive(Debug)]
pub struct State {
    /// The queue.
    pub queue: Queue,
    /// Operations that the queue remembers.
    pub operations: HashMap<OperationId, Operation>,
    /// Connections of workers.
    pub links: HashMap<ConnectionId, Link>,
    /// What only clients can give.
    pub sessions: Sessions,
    /// Who waits for the answer to a submission.
    pub submitting: HashMap<OperationId, oneshot::Sender<Answer>>,
    /// Who waits to be let wait.
    pub attaching: HashMap<WaiterId, oneshot::Sender<bool>>,
    /// What is counted.
    pub tally: Arc<Tally>,
    /// Bytes of all events.
    pub bytes: usize,
    /// Numbers of events of operations that were taken over begin here.
    pub first_event: u64,
    /// Operations that were taken over without what was sealed for them, and wait for it.
    pub held: Vec<(OperationId, Arc<Submission>)>,
    /// Those for which it did not come again.
    pub lost: HashSet<OperationId>,
    /// How long clients may be away.
    pub grace: Duration,
}

/// Why an operation ends for which nobody has its secrets.
const LOST_SECRETS: &str = "the server that had the build's secrets and logins is gone, and its \
                            client did not give them again: start the build again";

/// What an operation may keep while all of them together have too much.
const SCARCE: usize = 64 << 10;

impl State {
    /// A queue without anything around it.
    pub fn new(queue: Queue, tally: Arc<Tally>) -> Self {
        Self {
            queue,
            operations: HashMap::new(),
            links: HashMap::new(),
            sessions: Sessions::default(),
            submitting: HashMap::new(),
            attaching: HashMap::new(),
            tally,
            bytes: 0,
            first_event: 0,
            held: Vec::new(),
            lost: HashSet::new(),
            grace: Duration::ZERO,
        }
    }

    /// An operation that the queue knows, and what is kept beside it.
    pub fn operation(&mut self, id: OperationId) -> Option<&mut Operation> {
        if !self.operations.contains_key(&id) {
            let view = self.queue.view(id)?;
            let new = Operation::new(&view);
            // What was said elsewhere has lower numbers.
            new.said.skip_to(self.first_event);
            if matches!(view.stage, Stage::Ended(_)) {
                new.said.end();
            }
            self.operations.insert(id, new);
        }
        self.operations.get_mut(&id)
    }

    /// Whether something is sealed for the build of an operation that is to be kept.
    pub fn is_sealed(&self, effect: &Effect) -> bool {
        let Effect::Persist(record) = effect else {
            return false;
        };
        let mut builds = record.builds.iter();
        builds.any(|build| self.sessions.has_sealed(build))
    }

    /// Takes those of the operations that wait for what was sealed which have it now, and those that
    /// have waited for too long: of them it says so. `since` is the time since they were taken over.
    pub fn release(&mut self, since: Duration) -> Vec<(OperationId, Arc<Submission>, bool)> {
        if self.held.is_empty() {
            return Vec::new();
        }
        let is_late = since > self.grace;
        let held = std::mem::take(&mut self.held);
        let (mut released, mut kept) = (Vec::new(), Vec::new());
        for (id, submission) in held {
            let has = self.sessions.has_sealed(&submission.build);
            if has || is_late {
                if !has {
                    self.lost.insert(id);
                }
                released.push((id, submission, !has));
            } else {
                kept.push((id, submission));
            }
        }
        self.held = kept;
        released
    }

    /// Whether an operation may be one that a worker has: of a namespace that it works for, and one
    /// that it was given or says that it has.
    pub fn is_of(&self, connection: ConnectionId, id: OperationId) -> bool {
        let link = self.links.get(&connection);
        let operation = self.operations.get(&id);
        link.zip(operation).is_some_and(|(link, operation)| {
            link.works_for(&operation.fixed.name.instance) && link.names.contains_key(&id)
        })
    }

    /// Adds events to what an operation says.
    pub fn say(&mut self, id: OperationId, events: impl IntoIterator<Item = Said>) {
        let most = if self.bytes > limits::EVENTS {
            SCARCE
        } else {
            super::log::MOST
        };
        let Some(operation) = self.operation(id) else {
            return;
        };
        let before = operation.said.bytes();
        let after = operation.said.push(events, most);
        self.bytes = (self.bytes + after).saturating_sub(before);
    }

    fn say_one(&mut self, id: OperationId, kind: event::Kind) {
        self.say(
            id,
            [Said {
                node: None,
                kind: Some(kind),
            }],
        );
    }

    /// Sends something to a worker. One that does not read is ended.
    fn send(&mut self, connection: ConnectionId, kind: Kind, then: &mut VecDeque<Event>) {
        let Some(link) = self.links.get(&connection) else {
            return;
        };
        if link.send(kind) == Err(Refused) {
            let why = "the worker does not read what it is sent";
            self.unlink(connection, Some(Status::aborted(why)));
            then.push_back(Event::WorkerGone { connection });
        }
    }

    /// A worker's connection is over: what goes with it.
    pub fn unlink(&mut self, connection: ConnectionId, why: Option<Status>) {
        if let Some(link) = self.links.remove(&connection) {
            if let Some(why) = why {
                link.end(why);
            }
            self.sessions.end_of_worker(connection.0);
        }
    }

    /// Tells workers that channels have ended, by the client's doing.
    pub fn end_channels(&mut self, ended: impl IntoIterator<Item = (u64, u64)>, error: &str) {
        for (link, channel) in ended {
            if let Some(link) = self.links.get_mut(&ConnectionId(link)) {
                link.close(channel, error);
            }
        }
    }

    /// Does what the queue wants done. What happens because of that is added to `then`.
    pub fn apply(&mut self, effect: Effect, then: &mut VecDeque<Event>) {
        match effect {
            // For the journal, if there is one.
            Effect::Persist(_) => {}
            Effect::Forget(id) => self.forget(id),
            Effect::Submitted { asked, operation } => {
                if let (Some(new), true) = (self.operation(operation), asked == operation) {
                    // What became of it since is told later.
                    new.shown.send_modify(|shown| shown.stage = Stage::Queued);
                }
                self.tally.submitted(asked == operation);
                self.answer(asked, Ok(operation));
            }
            Effect::Refused { operation, refusal } => {
                self.tally.refused();
                self.answer(operation, Err(refusal));
            }
            Effect::Attached { waiter, found, .. } => {
                if let Some(waiting) = self.attaching.remove(&waiter) {
                    // Whoever is gone says so by an event.
                    let _gone = waiting.send(found);
                }
            }
            Effect::Started {
                operation,
                worker,
                attempt,
            } => self.started(operation, &worker, attempt),
            Effect::Requeued { operation, why } => self.requeued(operation, &why),
            Effect::Ended { operation, end } => self.ended(operation, end),
            Effect::BuildGone(build) => self.sessions.forget(&build),
            Effect::Welcome {
                connection,
                lease,
                renew_every,
            } => {
                let welcome = Welcome {
                    lease: Some(duration_to_wire(lease)),
                    renew_every: Some(duration_to_wire(renew_every)),
                };
                self.send(connection, Kind::Welcome(welcome), then);
            }
            Effect::Assign {
                connection,
                assignment,
                submission,
                builds,
                attempt,
            } => self.assign(
                connection,
                assignment,
                (&submission, &builds, attempt),
                then,
            ),
            Effect::Cancel {
                connection,
                assignment,
            } => {
                let cancel = Kind::Cancel(self.named(connection, assignment));
                self.send(connection, cancel, then);
            }
            Effect::Revoke {
                connection,
                assignment,
            } => {
                let revoke = Kind::Revoke(self.named(connection, assignment));
                self.drop_name(connection, assignment);
                self.send(connection, revoke, then);
            }
            Effect::OutcomeTaken {
                connection,
                assignment,
                too_late,
            } => {
                let taken = OutcomeTaken {
                    assignment: Some(self.named(connection, assignment)),
                    too_late,
                };
                self.drop_name(connection, assignment);
                self.send(connection, Kind::Outcome(taken), then);
            }
            Effect::Disconnect { connection, why } => {
                tracing::info!(
                    connection = connection.0,
                    why,
                    "a worker's connection is ended"
                );
                self.unlink(connection, Some(Status::aborted(why)));
            }
        }
    }

    fn answer(&mut self, asked: OperationId, answer: Answer) {
        if let Some(waiting) = self.submitting.remove(&asked) {
            // Whoever is gone says so by an event.
            let _gone = waiting.send(answer);
        }
    }

    fn forget(&mut self, id: OperationId) {
        if let Some(gone) = self.operations.remove(&id) {
            gone.said.end();
            self.bytes = self.bytes.saturating_sub(gone.said.bytes());
        }
    }

    fn started(&mut self, id: OperationId, worker: &Arc<str>, attempt: u32) {
        let started = self.queue.view(id).and_then(|view| view.started);
        let started = started.map(time);
        let Some(operation) = self.operation(id) else {
            return;
        };
        operation.why.clear();
        let first = operation.shown.borrow().started.is_none();
        let submitted = operation.fixed.submitted;
        operation.shown.send_modify(|shown| {
            shown.stage = Stage::Running {
                worker: worker.clone(),
                attempt,
            };
            shown.worker = Some(worker.clone());
            shown.started = shown.started.or(started);
        });
        if let (true, Some(started)) = (first, started) {
            let waited = started.duration_since(submitted).unwrap_or_default();
            self.tally.started(waited);
        }
        let worker = worker.to_string();
        self.say_one(
            id,
            event::Kind::Assigned(event::Assigned { worker, attempt }),
        );
    }

    fn requeued(&mut self, id: OperationId, why: &str) {
        self.tally.requeued();
        let Some(operation) = self.operation(id) else {
            return;
        };
        operation.why.clear();
        operation
            .shown
            .send_modify(|shown| shown.stage = Stage::Queued);
        let why = why.to_owned();
        self.say_one(id, event::Kind::Queued(event::Queued { why }));
    }

    fn ended(&mut self, id: OperationId, end: End) {
        self.tally.ended(&end);
        let ended = self.queue.view(id).and_then(|view| view.ended);
        let ended = ended.map(time);
        let end = if self.lost.remove(&id) {
            End::Cancelled {
                why: LOST_SECRETS.into(),
            }
        } else {
            end
        };
        if let End::Cancelled { .. } = &end {
            self.say_one(id, event::Kind::Cancelled(event::Cancelled {}));
        }
        let Some(operation) = self.operation(id) else {
            return;
        };
        operation.said.end();
        operation.shown.send_modify(|shown| {
            shown.stage = Stage::Ended(end);
            shown.ended = ended;
        });
    }

    /// Says why operations wait, those of `ids` that do, if that is something new.
    pub fn explain(&mut self, ids: &[OperationId]) {
        for id in ids {
            let Some(waiting) = self.queue.waiting(*id) else {
                continue;
            };
            let why = waiting.to_string();
            let Some(operation) = self.operation(*id) else {
                continue;
            };
            // How long it is yet, or how many are before it, is said once.
            let kind = why.replace(|letter: char| letter.is_ascii_digit(), "");
            if operation.why != kind {
                operation.why = kind;
                self.say_one(*id, event::Kind::Queued(event::Queued { why }));
            }
        }
    }

    fn assign(
        &mut self,
        connection: ConnectionId,
        assignment: Assignment,
        (submission, builds, attempt): (&Submission, &[BuildKey], u32),
        then: &mut VecDeque<Event>,
    ) {
        let with_sealed = builds.iter().find(|build| self.sessions.has_sealed(build));
        let build = with_sealed.or(builds.first()).unwrap_or(&submission.build);
        let sealed = self.sessions.sealed(build);
        let build = build.build.to_string();
        let Some(operation) = self.operation(assignment.operation) else {
            return;
        };
        operation.heard = super::operation::Heard {
            fence: assignment.fencing,
            next: 0,
        };
        let name = operation.fixed.name.to_string();
        let Some(link) = self.links.get_mut(&connection) else {
            return;
        };
        link.names.insert(assignment.operation, name.clone());
        let assign = Assign {
            assignment: Some(convert::to_wire(name, assignment.fencing)),
            instance_name: submission.build.namespace.to_string(),
            digest_function: submission.action.function,
            action: Some(reapi::Digest {
                hash: submission.action.hash.to_string(),
                size_bytes: submission.action.size,
            }),
            skip_cache_lookup: submission.skip_cache_lookup,
            build,
            sealed,
            attempt,
            requester: submission.requester.to_string(),
            priority: submission.priority,
        };
        self.send(connection, Kind::Assign(assign), then);
    }

    /// An assignment as its worker knows it.
    fn named(
        &self,
        connection: ConnectionId,
        assignment: Assignment,
    ) -> ashlar_proto::wire::farm::Assignment {
        let id = assignment.operation;
        let known = self.operations.get(&id);
        let name = known.map(|operation| operation.fixed.name.to_string());
        let of_link = || self.links.get(&connection).map(|link| link.name(id));
        let name = name.or_else(of_link).unwrap_or_default();
        convert::to_wire(name, assignment.fencing)
    }

    fn drop_name(&mut self, connection: ConnectionId, assignment: Assignment) {
        if let Some(link) = self.links.get_mut(&connection) {
            link.names.remove(&assignment.operation);
        }
    }

    /// Bytes of a client for a worker's channel. If that cannot be, the channel ends at both ends.
    pub fn to_worker(&mut self, worker: (u64, u64), data: Bytes) -> Result<(), Refused> {
        let link = self.links.get(&ConnectionId(worker.0)).ok_or(Refused)?;
        link.data(worker.1, data)
    }

    /// Ends everything that anybody waits for.
    pub fn end_all(&mut self, why: &Status) {
        for (_, link) in self.links.drain() {
            link.end(why.clone());
        }
        self.sessions.end_all(why);
        self.submitting.clear();
        self.attaching.clear();
    }
}

/// A time that the queue takes for now.
pub fn since_epoch(time: std::time::SystemTime) -> Duration {
    let since = time.duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default()
}
