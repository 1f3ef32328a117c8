//! Giving work to a farm, waiting for it, calling it off.

use std::sync::Arc;
use std::time::Duration;

use ashlar_model::cas::CasDigest;
use ashlar_proto::convert::{digest_to_wire, function_to_wire};
use ashlar_proto::wire::farm::Event;
use ashlar_proto::wire::farm::worker_message::outcome::Done;
use ashlar_proto::wire::longrunning::operations_client::OperationsClient;
use ashlar_proto::wire::longrunning::{CancelOperationRequest, Operation, operation};
use ashlar_proto::wire::reapi;
use ashlar_proto::wire::reapi::execution_client::ExecutionClient;
use ashlar_store::fault::{Fault, FaultKind};
use ashlar_store::grpc::channel::GrpcChannel;
use ashlar_store::grpc::fault_of;
use bytes::Bytes;
use prost::Message as _;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status, Streaming};

use super::{FarmClient, FarmError, Session, Work};
use crate::patience::{Backoff, asked_to_wait};

/// Where the outcome of work is said: in the metadata of its result.
const DONE_TYPE: &str = "type.googleapis.com/ashlar.farm.v1.WorkerMessage.Outcome.Done";

/// Says to the queue which build a call is made for.
const METADATA: &str = "build.bazel.remote.execution.v2.requestmetadata-bin";

/// Work is given so often anew that the farm has forgotten, or of which blobs have gone.
const MOST_ATTEMPTS: u32 = 20;

/// The same for work that ended since the farm has lost what the client gave it beside.
const MOST_LOST: u32 = 3;

/// How long the last events of an operation may take after it has ended.
const LAST_EVENTS: Duration = Duration::from_secs(3);

/// Outcomes have no more bytes than this with what is around them.
const LONGEST_MESSAGE: usize = 8 << 20;

const EXECUTE: &str = "give work to the farm";
const WAIT: &str = "wait for work of the farm";

/// What came of work: well or badly, a worker has done it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What came of it; only clients and workers read it.
    pub bytes: Bytes,
    /// Whether it failed.
    pub failed: bool,
    /// For people, if it failed.
    pub message: String,
    /// Who did it.
    pub worker: String,
}

/// Receives what an operation says. Called from one task at a time.
pub type EventSink = Arc<dyn Fn(Event) + Send + Sync>;

/// What is known of the operation's name: it changes when work is given anew.
pub(super) type Name = Option<Arc<str>>;

impl FarmClient {
    fn execution(&self) -> ExecutionClient<GrpcChannel> {
        ExecutionClient::new(self.endpoint.channel()).max_decoding_message_size(LONGEST_MESSAGE)
    }

    /// Gives work to the farm, and waits until it is done. `queued` hears why the farm does not take
    /// it yet. Dropping the future calls the work off.
    pub async fn run(&self, work: &Work, events: EventSink) -> Result<Outcome, FarmError> {
        self.run_in(None, work, events).await
    }

    /// The same for a build with a session: a farm that has forgotten the work is given what belongs
    /// to the session before the work.
    pub async fn run_in(
        &self,
        session: Option<&Session>,
        work: &Work,
        events: EventSink,
    ) -> Result<Outcome, FarmError> {
        let (names, known) = watch::channel::<Name>(None);
        let mut guard = CancelOnDrop {
            client: self.clone(),
            name: known.clone(),
            armed: true,
        };
        let mut following = Box::pin(self.follow_all(known, Arc::clone(&events)));
        let mut follows = true;
        let outcome = {
            let mut waiting = std::pin::pin!(self.give(work, session, (&names, &events)));
            loop {
                tokio::select! {
                    outcome = &mut waiting => break outcome,
                    // It ends when the operation has; then the outcome is on its way.
                    () = &mut following, if follows => follows = false,
                }
            }
        };
        drop(names);
        if follows && outcome.is_ok() {
            // An operation that has ended has a last event. Its output goes before its end.
            drop(timeout(LAST_EVENTS, following).await);
        }
        guard.armed = match &outcome {
            Ok(_) | Err(FarmError::Ended { .. } | FarmError::Unknown(_)) => false,
            // We give up: nobody waits for it any more.
            Err(_) => true,
        };
        outcome
    }

    /// Gives work to the farm; gives the operation's name as soon as the farm has it.
    pub async fn submit(&self, work: &Work) -> Result<String, FarmError> {
        let (names, known) = watch::channel::<Name>(None);
        let ignored: EventSink = Arc::new(|_| {});
        let mut known_now = known.clone();
        tokio::select! {
            outcome = self.give(work, None, (&names, &ignored)) => {
                // It was done before we knew that it is there.
                outcome?;
            }
            _ = known_now.wait_for(Option::is_some) => {}
        }
        let name = known.borrow().clone();
        name.map(|name| name.to_string())
            .ok_or(FarmError::Malformed("an operation without a name"))
    }

    /// Waits for an operation that somebody has started.
    pub async fn wait(&self, operation: &str) -> Result<Outcome, FarmError> {
        let mut backoff = Backoff::default();
        loop {
            let status = match self.wait_stream(operation).await {
                Ok(mut stream) => match next_end(&mut stream, |_| backoff.reset()).await {
                    Ok(ended) => return outcome_of(ended),
                    Err(status) => status,
                },
                Err(status) => status,
            };
            if is_unknown(&status) {
                return Err(FarmError::Unknown(operation.to_owned()));
            }
            let fault = fault_of(WAIT, status);
            let passes = fault.kind == FaultKind::Unavailable;
            if !passes || !backoff.wait(asked_to_wait(&fault)).await {
                return Err(FarmError::of_fault(fault));
            }
        }
    }

    /// Calls an operation off.
    pub async fn cancel(&self, operation: &str) -> Result<(), FarmError> {
        let request = CancelOperationRequest {
            name: operation.to_owned(),
        };
        let called = self.endpoint.call("call work of the farm off", || {
            let mut client = OperationsClient::new(self.endpoint.channel());
            let request = request.clone();
            async move { client.cancel_operation(request).await }
        });
        match called.await {
            Ok(()) => Ok(()),
            Err(fault) if matches!(fault.kind, FaultKind::NotFound | FaultKind::Invalid) => {
                Err(FarmError::Unknown(operation.to_owned()))
            }
            Err(fault) => Err(FarmError::of_fault(fault)),
        }
    }

    /// Gives work to the farm, anew where it has to be, until it has ended.
    async fn give(
        &self,
        work: &Work,
        session: Option<&Session>,
        (names, events): (&watch::Sender<Name>, &EventSink),
    ) -> Result<Outcome, FarmError> {
        let mut backoff = Backoff::default();
        let mut action: Option<CasDigest> = None;
        let mut attempts = 0;
        let mut lost = 0;
        loop {
            let name = names.borrow().clone();
            let opened = match (&name, action) {
                (Some(name), _) => self.wait_stream(name).await,
                (None, Some(action)) => {
                    attempts += 1;
                    self.execute(work, &action).await
                }
                (None, None) => {
                    action = Some(self.store_work(work).await?);
                    continue;
                }
            };
            let status = match opened {
                Ok(mut stream) => {
                    let note = |operation: &Operation| {
                        backoff.reset();
                        names.send_if_modified(|name| {
                            let is_new = name.as_deref() != Some(&*operation.name);
                            *name = Some(operation.name.as_str().into());
                            is_new
                        });
                    };
                    match next_end(&mut stream, note).await {
                        Ok(ended) => match outcome_of(ended) {
                            Err(FarmError::Ended {
                                code: Code::FailedPrecondition,
                                message,
                            }) if lost < MOST_LOST => {
                                tracing::debug!(message, "giving the farm what it has lost");
                                lost += 1;
                                action = None;
                                names.send_replace(None);
                                if let Some(session) = session {
                                    session.renew().await;
                                }
                                continue;
                            }
                            outcome => return outcome,
                        },
                        Err(status) => status,
                    }
                }
                Err(status) => status,
            };
            let fault = fault_of(if name.is_some() { WAIT } else { EXECUTE }, status.clone());
            let asked = asked_to_wait(&fault);
            if status.code() == Code::ResourceExhausted && asked.is_some() {
                // The queue is full, and says when to come again, however long that takes.
                backoff.reset();
                events(queued(&fault));
            }
            match fault.kind {
                // The farm has lost it: what of it was done is in the cache.
                FaultKind::NotFound if name.is_some() && attempts < MOST_ATTEMPTS => {
                    names.send_replace(None);
                    if let Some(session) = session {
                        // The farm has lost that as well, and a step must not begin without it.
                        session.renew().await;
                    }
                    continue;
                }
                FaultKind::Precondition if attempts < MOST_ATTEMPTS && names_missing(&status) => {
                    action = None;
                    names.send_replace(None);
                }
                FaultKind::Unavailable => {}
                FaultKind::Exhausted | FaultKind::OverQuota if asked.is_some() => {}
                _ => return Err(FarmError::of_fault(fault)),
            }
            if !backoff.wait(asked).await {
                return Err(FarmError::of_fault(fault));
            }
        }
    }

    async fn execute(
        &self,
        work: &Work,
        action: &CasDigest,
    ) -> Result<Streaming<Operation>, Status> {
        let mut request = Request::new(reapi::ExecuteRequest {
            instance_name: self.instance().to_owned(),
            skip_cache_lookup: work.fresh,
            action_digest: Some(digest_to_wire(action)),
            execution_policy: Some(reapi::ExecutionPolicy {
                priority: work.priority,
            }),
            digest_function: function_to_wire(action.function).into(),
            ..Default::default()
        });
        let metadata = reapi::RequestMetadata {
            tool_invocation_id: work.placement.build.clone(),
            ..Default::default()
        };
        let metadata = MetadataValue::from_bytes(&metadata.encode_to_vec());
        request.metadata_mut().insert_bin(METADATA, metadata);
        Ok(self.execution().execute(request).await?.into_inner())
    }

    async fn wait_stream(&self, name: &str) -> Result<Streaming<Operation>, Status> {
        let request = reapi::WaitExecutionRequest {
            name: name.to_owned(),
        };
        Ok(self.execution().wait_execution(request).await?.into_inner())
    }
}

/// Reads a stream up to the operation's end. A stream that ends before is a broken one.
async fn next_end(
    stream: &mut Streaming<Operation>,
    mut note: impl FnMut(&Operation),
) -> Result<Operation, Status> {
    loop {
        match stream.message().await? {
            Some(operation) => {
                note(&operation);
                if operation.done {
                    return Ok(operation);
                }
            }
            None => return Err(Status::unavailable("the stream of the operation ended")),
        }
    }
}

/// Whether a status says that there is no such operation, or that its name is none.
pub(super) fn is_unknown(status: &Status) -> bool {
    matches!(status.code(), Code::NotFound | Code::InvalidArgument)
}

/// Whether a status says that blobs are missing.
fn names_missing(status: &Status) -> bool {
    !ashlar_proto::missing::decode(status.details()).is_empty()
}

/// That the queue does not take work yet, as the queue itself would say it of work that it has.
fn queued(fault: &Fault) -> Event {
    use ashlar_proto::wire::farm::event;
    let why = fault.message.clone();
    Event {
        node: None,
        kind: Some(event::Kind::Queued(event::Queued { why })),
    }
}

fn outcome_of(operation: Operation) -> Result<Outcome, FarmError> {
    let response = match operation.result {
        Some(operation::Result::Response(response)) => response,
        Some(operation::Result::Error(status)) => {
            return Err(FarmError::Ended {
                code: Code::from_i32(status.code),
                message: shown(&status.message),
            });
        }
        None => return Err(FarmError::Malformed("an end without a result")),
    };
    let response = reapi::ExecuteResponse::decode(response.value.as_slice())
        .map_err(|_| FarmError::Malformed("an end that is none"))?;
    let status = response.status.unwrap_or_default();
    if status.code != 0 {
        return Err(FarmError::Ended {
            code: Code::from_i32(status.code),
            message: shown(&status.message),
        });
    }
    let metadata = response
        .result
        .and_then(|result| result.execution_metadata)
        .unwrap_or_default();
    let done = metadata
        .auxiliary_metadata
        .iter()
        .find(|any| any.type_url == DONE_TYPE)
        .ok_or(FarmError::Malformed("an end without an outcome"))?;
    let done = Done::decode(done.value.as_slice())
        .map_err(|_| FarmError::Malformed("an outcome that is none"))?;
    Ok(Outcome {
        bytes: done.outcome,
        failed: done.failed,
        message: shown(&done.message),
        worker: shown(&metadata.worker),
    })
}

/// A message as one line for people.
pub(super) fn shown(message: &str) -> String {
    const LONGEST: usize = 1000;
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    message.chars().take(LONGEST).map(printable).collect()
}

/// Calls an operation off when the future goes that waits for it.
struct CancelOnDrop {
    client: FarmClient,
    name: watch::Receiver<Name>,
    armed: bool,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        // Work of which no name is known yet has nobody waiting for it: the farm gives it up.
        let Some(name) = self.name.borrow().clone() else {
            return;
        };
        let client = self.client.clone();
        self.client.last_call(async move {
            if let Err(error) = client.cancel(&name).await {
                tracing::debug!(%error, "cannot call work off");
            }
        });
    }
}
