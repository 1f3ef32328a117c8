//! An operation as clients see it: where it stands, what it says, what came of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_proto::convert::{
    digest_from_wire, digest_to_wire, function_from_wire, function_to_wire, time_to_wire,
};
use ashlar_proto::wire::farm::list_builds_response::Build;
use ashlar_proto::wire::farm::worker_message::outcome::Done;
use ashlar_proto::wire::farm::{Event, EventsResponse};
use ashlar_proto::wire::longrunning::{self, operation};
use ashlar_proto::wire::reapi::execution_stage::Value as WireStage;
use ashlar_proto::wire::{reapi, rpc};
use ashlar_queue::{Action, End, OperationId, OperationView, Stage, Submission};
use bytes::Bytes;
use prost_types::Any;
use tokio::sync::watch;
use tonic::Code;

use super::log::EventLog;
use super::name::OperationName;

const METADATA: &str =
    "type.googleapis.com/build.bazel.remote.execution.v2.ExecuteOperationMetadata";
const RESPONSE: &str = "type.googleapis.com/build.bazel.remote.execution.v2.ExecuteResponse";
const DONE: &str = "type.googleapis.com/ashlar.farm.v1.WorkerMessage.Outcome.Done";

/// What of an operation never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// Its name.
    pub name: OperationName,
    /// What was asked for.
    pub submission: Arc<Submission>,
    /// The action.
    pub action: CasDigest,
    /// When it was asked for.
    pub submitted: SystemTime,
}

impl Fixed {
    /// What never changes of an operation of the queue.
    pub fn new(operation: OperationId, submission: Arc<Submission>, submitted: Duration) -> Self {
        Self {
            name: OperationName {
                instance: submission.build.namespace.to_string(),
                id: operation.0,
            },
            action: digest_of(&submission.action),
            submission,
            submitted: time(submitted),
        }
    }
}

/// A time of the queue.
pub fn time(since: Duration) -> SystemTime {
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

/// The digest of an action, which was one when it was submitted.
fn digest_of(action: &Action) -> CasDigest {
    let function = function_from_wire(action.function).unwrap_or(DigestFunction::Sha256);
    let digest = reapi::Digest {
        hash: action.hash.to_string(),
        size_bytes: action.size,
    };
    digest_from_wire(&digest, function).unwrap_or_else(|_| CasDigest::of(function, &[]))
}

/// What came of an operation, as the wire has it.
pub fn ended(end: &End) -> Result<Done, rpc::Status> {
    match end {
        End::Done(done) => Ok(Done {
            outcome: Bytes::copy_from_slice(&done.outcome),
            failed: done.failed,
            message: done.message.to_string(),
        }),
        End::Poison(poison) => Err(status(Code::Aborted, poison.to_string())),
        End::Cancelled { why } => Err(status(Code::Cancelled, why.to_string())),
        _ => Err(status(
            Code::Aborted,
            "it ended in a way that is not known here",
        )),
    }
}

/// Where an operation stands.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Its stage.
    pub stage: Stage,
    /// The worker that runs it, or did so last; for people.
    pub worker: Option<Arc<str>>,
    /// When it began to run first.
    pub started: Option<SystemTime>,
    /// When it ended.
    pub ended: Option<SystemTime>,
}

impl Shown {
    /// Where an operation of the queue stands.
    pub fn new(view: &OperationView) -> Self {
        Self {
            stage: view.stage.clone(),
            worker: match &view.stage {
                Stage::Running { worker, .. } => Some(worker.clone()),
                Stage::Queued | Stage::Ended(_) => None,
            },
            started: view.started.map(time),
            ended: view.ended.map(time),
        }
    }

    /// Whether it has ended.
    pub const fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Ended(_))
    }
}

fn any(url: &str, message: &impl prost::Message) -> Any {
    Any {
        type_url: url.to_owned(),
        value: message.encode_to_vec(),
    }
}

impl Shown {
    fn execution(&self, fixed: &Fixed) -> reapi::ExecutedActionMetadata {
        reapi::ExecutedActionMetadata {
            worker: self.worker.as_deref().unwrap_or_default().to_owned(),
            queued_timestamp: Some(time_to_wire(fixed.submitted)),
            worker_start_timestamp: self.started.map(time_to_wire),
            worker_completed_timestamp: self.ended.map(time_to_wire),
            ..Default::default()
        }
    }

    fn response(&self, fixed: &Fixed, end: &End) -> reapi::ExecuteResponse {
        let done = match ended(end) {
            Ok(done) => done,
            Err(status) => {
                return reapi::ExecuteResponse {
                    message: status.message.clone(),
                    status: Some(status),
                    ..Default::default()
                };
            }
        };
        let metadata = reapi::ExecutedActionMetadata {
            auxiliary_metadata: vec![any(DONE, &done)],
            ..self.execution(fixed)
        };
        reapi::ExecuteResponse {
            result: Some(reapi::ActionResult {
                exit_code: done.failed.into(),
                execution_metadata: Some(metadata),
                ..Default::default()
            }),
            status: Some(rpc::Status::default()),
            message: done.message,
            ..Default::default()
        }
    }

    /// As the wire has it.
    pub fn to_wire(&self, fixed: &Fixed) -> longrunning::Operation {
        let metadata = reapi::ExecuteOperationMetadata {
            stage: stage(&self.stage).into(),
            action_digest: Some(digest_to_wire(&fixed.action)),
            digest_function: function_to_wire(fixed.action.function).into(),
            partial_execution_metadata: Some(self.execution(fixed)),
            ..Default::default()
        };
        let response = match &self.stage {
            Stage::Ended(end) => {
                let response = self.response(fixed, end);
                Some(operation::Result::Response(any(RESPONSE, &response)))
            }
            Stage::Queued | Stage::Running { .. } => None,
        };
        longrunning::Operation {
            name: fixed.name.to_string(),
            metadata: Some(any(METADATA, &metadata)),
            done: self.is_over(),
            result: response,
        }
    }
}

/// An operation as a list of builds has it.
pub fn to_build(view: &OperationView) -> Build {
    let status = match &view.stage {
        Stage::Ended(end) => Some(match ended(end) {
            Ok(done) if done.failed => status(Code::Unknown, done.message),
            Ok(_) => rpc::Status::default(),
            Err(status) => status,
        }),
        Stage::Queued | Stage::Running { .. } => None,
    };
    let fixed = Fixed::new(view.operation, view.submission.clone(), view.submitted);
    Build {
        operation: fixed.name.to_string(),
        name: view.submission.name.to_string(),
        user: view.submission.requester.to_string(),
        stage: stage(&view.stage).into(),
        submitted: Some(time_to_wire(fixed.submitted)),
        started: view.started.map(time).map(time_to_wire),
        ended: view.ended.map(time).map(time_to_wire),
        status,
    }
}

/// A stage as REAPI has it.
const fn stage(stage: &Stage) -> WireStage {
    match stage {
        Stage::Queued => WireStage::Queued,
        Stage::Running { .. } => WireStage::Executing,
        Stage::Ended(_) => WireStage::Completed,
    }
}

/// The events of an operation, for those who read them and the one who adds to them.
#[derive(Debug)]
pub struct Said {
    log: Mutex<EventLog>,
    /// The number of the next event, and whether there will be none.
    changed: watch::Sender<(u64, bool)>,
}

impl Default for Said {
    fn default() -> Self {
        Self {
            log: Mutex::default(),
            changed: watch::Sender::new((0, false)),
        }
    }
}

impl Said {
    fn log(&self) -> MutexGuard<'_, EventLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds events, and keeps so many bytes of all at most. Gives how many bytes there are.
    pub fn push(&self, events: impl IntoIterator<Item = Event>, most: usize) -> usize {
        let mut log = self.log();
        for event in events {
            log.push(event);
        }
        log.trim(most);
        let (next, bytes) = (log.next(), log.bytes());
        drop(log);
        self.changed.send_modify(|state| state.0 = next);
        bytes
    }

    /// Goes on behind events that are not known here.
    pub fn skip_to(&self, next: u64) {
        self.log().skip_to(next);
        self.changed
            .send_modify(|state| state.0 = state.0.max(next));
    }

    /// The number of the next event.
    pub fn next(&self) -> u64 {
        self.log().next()
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> usize {
        self.log().bytes()
    }

    /// There will be no more.
    pub fn end(&self) {
        self.changed.send_modify(|state| state.1 = true);
    }

    /// Events from a number on, at once or as soon as there are some; `None` after the last.
    pub async fn from(&self, number: u64) -> Option<EventsResponse> {
        let mut changed = self.changed.subscribe();
        loop {
            let (_, is_over) = *changed.borrow_and_update();
            if let Some(answer) = self.log().from(number) {
                return Some(answer);
            }
            // The sender is this one's own.
            if is_over || changed.changed().await.is_err() {
                return None;
            }
        }
    }
}

/// What the worker that has an operation has said of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Heard {
    /// The fencing number under which it has it.
    pub fence: u64,
    /// The number of its next event.
    pub next: u64,
}

impl Heard {
    /// Those of some events that are new, and where to go on. `None` if they are not those of the
    /// worker that has it.
    pub fn new_ones(&mut self, fence: u64, first: u64, events: Vec<Event>) -> Option<Vec<Event>> {
        if fence != self.fence {
            return None;
        }
        let known = self.next.saturating_sub(first);
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        let end = first.saturating_add(events.len() as u64);
        self.next = self.next.max(end);
        Some(events.into_iter().skip(known).collect())
    }
}

/// What is kept of an operation beside the queue.
#[derive(Debug)]
pub struct Operation {
    /// What never changes.
    pub fixed: Arc<Fixed>,
    /// Where it stands, for those who wait for it.
    pub shown: watch::Sender<Shown>,
    /// What it says.
    pub said: Arc<Said>,
    /// What its worker said.
    pub heard: Heard,
    /// Why it waits, as it was said last.
    pub why: String,
}

impl Operation {
    /// An operation of the queue.
    pub fn new(view: &OperationView) -> Self {
        let submission = view.submission.clone();
        Self {
            fixed: Arc::new(Fixed::new(view.operation, submission, view.submitted)),
            shown: watch::Sender::new(Shown::new(view)),
            said: Arc::default(),
            heard: Heard::default(),
            why: String::new(),
        }
    }

    /// As the wire has it.
    pub fn to_wire(&self) -> longrunning::Operation {
        self.shown.borrow().to_wire(&self.fixed)
    }
}

/// A status without details, as messages have it.
pub fn status(code: Code, message: impl Into<String>) -> rpc::Status {
    rpc::Status {
        code: code.into(),
        message: message.into(),
        details: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use ashlar_proto::wire::farm::event::{Kind as EventKind, Started};

    use super::*;

    fn event(node: u32) -> Event {
        Event {
            node: Some(node),
            kind: Some(EventKind::Started(Started {})),
        }
    }

    fn nodes(events: Option<Vec<Event>>) -> Option<Vec<u32>> {
        events.map(|events| events.into_iter().filter_map(|event| event.node).collect())
    }

    #[test]
    fn events_that_are_sent_again_are_taken_once() {
        let mut heard = Heard { fence: 7, next: 0 };
        let mut say = |fence, first, names: &[u32]| {
            let events = names.iter().copied().map(event).collect();
            nodes(heard.new_ones(fence, first, events))
        };
        assert_eq!(say(7, 0, &[0, 1, 2]), Some(vec![0, 1, 2]));
        assert_eq!(say(7, 1, &[1, 2, 3]), Some(vec![3]));
        assert_eq!(say(7, 0, &[0]), Some(vec![]));
        assert_eq!(say(6, 4, &[4]), None, "another had it");
        assert_eq!(say(7, 9, &[9]), Some(vec![9]), "some were lost");
        assert_eq!(say(7, 4, &[4]), Some(vec![]));
    }

    #[tokio::test]
    async fn readers_wait_for_events_and_for_the_end() {
        let said = Arc::new(Said::default());
        said.push([event(0)], usize::MAX);
        let first = said.from(0).await.expect("events");
        assert_eq!((first.first, first.events.len()), (0, 1));
        let later = tokio::join!(said.from(1), async {
            tokio::task::yield_now().await;
            said.push([event(1)], usize::MAX);
        });
        assert_eq!(later.0.expect("events").first, 1);
        let over = tokio::join!(said.from(2), async { said.end() });
        assert_eq!(over.0, None);
        assert_eq!(said.from(1).await.expect("kept").events.len(), 1);
    }
}
