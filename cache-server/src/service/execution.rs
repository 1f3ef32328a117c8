//! REAPI's `Execution`: the front door of the farm's queue.

use std::pin::Pin;

use ashlar_proto::convert::{digest_to_wire, function_to_wire};
use ashlar_proto::wire::longrunning::Operation;
use ashlar_proto::wire::reapi::execution_server::Execution;
use ashlar_proto::wire::reapi::{ExecuteRequest, RequestMetadata, WaitExecutionRequest};
use ashlar_queue::{Action as QueueAction, BuildKey, Input, OperationId, Submission};
use futures::Stream;
use prost::Message as _;
use tonic::{Request, Response, Status, async_trait};

use super::request;
use crate::audit::What;
use crate::auth::{Caller, Right};
use crate::dispatch::Dispatch;
use crate::dispatch::action::{self, Action, Kind, is_build};
use crate::dispatch::dispatcher::Dispatcher;
use crate::dispatch::name::OperationName;
use crate::limits;
use crate::stores::Stores;
use crate::stores::view::View;

/// The header in which clients say what a request is for.
const METADATA: &str = "build.bazel.remote.execution.v2.requestmetadata-bin";

/// The service.
#[derive(Debug, Clone)]
pub struct ExecutionService {
    /// Where actions are read.
    pub stores: Stores,
    /// The queue.
    pub dispatch: Dispatch,
}

type Operations = Pin<Box<dyn Stream<Item = Result<Operation, Status>> + Send>>;

/// What a client says that a request is for.
fn metadata<T>(request: &Request<T>) -> RequestMetadata {
    let header = request.metadata().get_bin(METADATA);
    let bytes = header.and_then(|header| header.to_bytes().ok());
    let metadata = bytes.and_then(|bytes| RequestMetadata::decode(bytes).ok());
    // It is a hint.
    metadata.unwrap_or_default()
}

/// A name that no operation had before.
fn new_id() -> Result<OperationId, Status> {
    let token = ashlar_store::lease::random_token();
    let token = token.map_err(|fault| crate::status::of_fault(&fault))?;
    token.parse().map_err(|_| Status::internal("no number"))
}

/// A priority that the caller may give.
fn priority(request: &ExecuteRequest, view: &View) -> Result<i32, Status> {
    let policy = request.execution_policy.as_ref();
    let priority = policy.map_or(0, |policy| policy.priority);
    // A worker asks for what its client was let ask for.
    let most_urgent = most_urgent(view.may(Right::Admin) || view.may(Right::Work));
    let (least, most) = (*limits::PRIORITIES.end(), most_urgent);
    if (most..=least).contains(&priority) {
        return Ok(priority);
    }
    Err(Status::invalid_argument(format!(
        "the priority {priority} is not between {most} and {least}, what you may give here"
    )))
}

/// The most urgent priority that somebody may give.
pub const fn most_urgent(is_admin: bool) -> i32 {
    if is_admin {
        limits::MOST_URGENT
    } else {
        *limits::PRIORITIES.start()
    }
}

/// What the queue is asked for.
fn submission(
    request: &ExecuteRequest,
    view: &View,
    action: Action,
    (invocation, dispatcher): (&str, &Dispatcher),
) -> Result<Submission, Status> {
    let placement = action.placement;
    let build = if placement.build.is_empty() {
        invocation
    } else {
        &placement.build
    };
    let user = dispatcher.user_of(view.caller(), view.instance(), build);
    let digest = digest_to_wire(&action.digest);
    let inputs = placement.inputs.iter().map(|input| Input {
        layer: input.layer,
        bytes: input.bytes,
    });
    // People read it in terminals.
    let is_plain = |letter: &char| !letter.is_control();
    let name: String = placement.name.chars().filter(is_plain).collect();
    Ok(Submission {
        build: BuildKey {
            namespace: view.instance().into(),
            user,
            build: build.into(),
        },
        action: QueueAction {
            function: function_to_wire(action.digest.function).into(),
            hash: digest.hash.into(),
            size: digest.size_bytes,
        },
        priority: priority(request, view)?,
        skip_cache_lookup: request.skip_cache_lookup,
        // What a client says of its own work gives it no place beside the others'.
        light: action.kind == Kind::Build,
        whole: action.kind == Kind::Build,
        inputs: inputs.collect(),
        requirements: placement.requirements.into_iter().collect(),
        name: name.into(),
        steps: placement.steps,
        requester: view.caller().shared_name(),
    })
}

/// The name of an operation, and what its sender may see of it.
pub fn named<T>(
    stores: &Stores,
    request: &Request<T>,
    name: &str,
) -> Result<(OperationName, View), Status> {
    let name: OperationName = name.parse()?;
    let view = stores.open(request, &name.instance, right(request, &name.instance))?;
    Ok((name, view))
}

/// The right by which somebody sees operations: those who queue, and those who look after the cache.
pub fn right<T>(request: &Request<T>, instance: &str) -> Right {
    if Caller::of(request).may(Right::Admin, instance) {
        Right::Admin
    } else {
        Right::Queue
    }
}

#[async_trait]
impl Execution for ExecutionService {
    type ExecuteStream = Operations;
    type WaitExecutionStream = Operations;

    async fn execute(
        &self,
        request: Request<ExecuteRequest>,
    ) -> Result<Response<Operations>, Status> {
        let instance = &request.get_ref().instance_name;
        let view = self.stores.open(&request, instance, Right::Queue)?;
        let invocation = metadata(&request).tool_invocation_id;
        let invocation = Some(invocation).filter(|name| is_build(name));
        let request = request.into_inner();
        let dispatcher = self.dispatch.leading()?;
        let digest = request::action(request.digest_function, request.action_digest.as_ref())?;
        let action = action::read(&view, digest).await?;
        let kind = action.kind;
        let invocation = invocation.unwrap_or_default();
        let submission = submission(&request, &view, action, (&invocation, &dispatcher))?;
        let build = submission.build.build.clone();
        let submitted = dispatcher.submit(new_id()?, submission).await;
        view.note(What::Execute, |event| {
            let event = event
                .to_key(digest)
                .with("command", kind.command())
                .with("build", &*build);
            match &submitted {
                Ok((operation, _)) => event.with("operation", operation.to_string()),
                Err(status) => event.ended(status),
            }
        });
        let (_, operations) = submitted?;
        Ok(Response::new(Box::pin(operations)))
    }

    async fn wait_execution(
        &self,
        request: Request<WaitExecutionRequest>,
    ) -> Result<Response<Operations>, Status> {
        let (name, _) = named(&self.stores, &request, &request.get_ref().name)?;
        let operations = self.dispatch.leading()?.wait(&name).await?;
        Ok(Response::new(Box::pin(operations)))
    }
}
