//! A farm's front door that does as it is told.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ashlar_proto::wire::farm::farm_server::{Farm, FarmServer};
use ashlar_proto::wire::farm::worker_message::outcome::Done;
use ashlar_proto::wire::farm::{self as wire, Event};
use ashlar_proto::wire::longrunning::operations_server::{Operations, OperationsServer};
use ashlar_proto::wire::longrunning::{self, Operation, operation};
use ashlar_proto::wire::reapi;
use ashlar_proto::wire::reapi::execution_server::{Execution, ExecutionServer};
use ashlar_proto::wire::rpc;
use ashlar_store::grpc::{GrpcEndpoint, GrpcSettings};
use ashlar_store::memory::MemoryStore;
use ashlar_store::task::{Task, spawn};
use futures::{Stream, StreamExt as _, stream};
use prost::Message as _;
use prost_types::Any;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};

use super::super::FarmClient;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What an operation has said, and how it has ended.
#[derive(Clone, Default)]
pub(super) struct Told {
    pub(super) events: Vec<Event>,
    pub(super) end: Option<reapi::ExecuteResponse>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) operations: HashMap<String, watch::Sender<Told>>,
    pub(super) cancelled: Vec<String>,
    /// What the next calls of Execute answer, the last first.
    pub(super) refusals: Vec<Status>,
    pub(super) executed: Vec<reapi::ExecuteRequest>,
    /// The next messages to sessions go here.
    pub(super) sessions: Vec<mpsc::Sender<Result<wire::SessionResponse, Status>>>,
    pub(super) opened: Vec<wire::session_request::Open>,
}

/// The farm.
#[derive(Clone)]
pub(super) struct Fake {
    state: Arc<Mutex<State>>,
    /// Streams break after so many messages; never if it is 0.
    pub(super) breaks_after: Arc<AtomicU32>,
    pub(super) said: mpsc::UnboundedSender<wire::SessionRequest>,
}

pub(super) struct Running {
    pub(super) fake: Fake,
    pub(super) client: FarmClient,
    pub(super) heard: mpsc::UnboundedReceiver<wire::SessionRequest>,
    _serving: Task<()>,
}

impl Running {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (said, heard) = mpsc::unbounded_channel();
        let fake = Fake {
            state: Arc::default(),
            breaks_after: Arc::default(),
            said,
        };
        let router = Server::builder()
            .add_service(ExecutionServer::new(fake.clone()))
            .add_service(OperationsServer::new(fake.clone()))
            .add_service(FarmServer::new(fake.clone()));
        let serving = spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            router.serve_with_incoming(incoming).await.unwrap();
        });
        let mut settings = GrpcSettings::new(format!("grpc://{address}"));
        settings.instance = "team".to_owned();
        let endpoint = GrpcEndpoint::connect(settings).await.unwrap();
        let client = FarmClient {
            endpoint: Arc::new(endpoint),
            store: Arc::new(MemoryStore::new(1 << 30)),
            last_calls: Arc::default(),
        };
        Self {
            fake,
            client,
            heard,
            _serving: serving,
        }
    }
}

impl Fake {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The name of the operation with this number, once it is there.
    pub(super) async fn operation(&self, number: usize) -> String {
        let name = format!("team/operations/{number}");
        while !self.state().operations.contains_key(&name) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        name
    }

    pub(super) fn say(&self, operation: &str, event: Event) {
        let state = self.state();
        state.operations[operation].send_modify(|told| told.events.push(event));
    }

    pub(super) fn end(&self, operation: &str, end: reapi::ExecuteResponse) {
        let state = self.state();
        state.operations[operation].send_modify(|told| told.end = Some(end));
    }

    /// Cuts a stream as often as it is to be.
    fn cut<T: Send + 'static>(
        &self,
        stream: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Response<Answers<T>> {
        let stream: Answers<T> = match self.breaks_after.load(Ordering::Relaxed) {
            0 => Box::pin(stream),
            count => {
                let broken = stream::once(async { Err(Status::unavailable("cut")) });
                Box::pin(stream.take(count as usize).chain(broken))
            }
        };
        Response::new(stream)
    }

    fn told(&self, name: &str) -> Result<watch::Receiver<Told>, Status> {
        let state = self.state();
        let operation = state.operations.get(name);
        let operation = operation.ok_or_else(|| Status::not_found("no such operation"))?;
        Ok(operation.subscribe())
    }

    fn follow(&self, name: String) -> Result<Response<Answers<Operation>>, Status> {
        let told = self.told(&name)?;
        let states = stream::unfold((told, false, false), move |(mut told, begun, over)| {
            let name = name.clone();
            async move {
                if over {
                    return None;
                }
                if begun {
                    // That the farm forgets an operation breaks its streams.
                    if told.wait_for(|told| told.end.is_some()).await.is_err() {
                        return Some((Err(Status::unavailable("gone")), (told, true, true)));
                    }
                }
                let end = told.borrow().end.clone();
                let over = end.is_some();
                let operation = Operation {
                    name,
                    done: over,
                    result: end.map(|end| {
                        operation::Result::Response(Any {
                            type_url: "type.googleapis.com/build.bazel.remote.execution.v2.ExecuteResponse".to_owned(),
                            value: end.encode_to_vec(),
                        })
                    }),
                    ..Default::default()
                };
                Some((Ok(operation), (told, true, over)))
            }
        });
        Ok(self.cut(states))
    }
}

/// How work ends that was done.
pub(super) fn done(outcome: &[u8], failed: bool) -> reapi::ExecuteResponse {
    let done = Done {
        outcome: outcome.to_vec().into(),
        failed,
        message: String::new(),
    };
    reapi::ExecuteResponse {
        result: Some(reapi::ActionResult {
            execution_metadata: Some(reapi::ExecutedActionMetadata {
                worker: "worker-1".to_owned(),
                auxiliary_metadata: vec![Any {
                    type_url: "type.googleapis.com/ashlar.farm.v1.WorkerMessage.Outcome.Done"
                        .to_owned(),
                    value: done.encode_to_vec(),
                }],
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// How work ends that was not done.
pub(super) fn not_done(code: Code, message: &str) -> reapi::ExecuteResponse {
    reapi::ExecuteResponse {
        status: Some(rpc::Status {
            code: code.into(),
            message: message.to_owned(),
            details: Vec::new(),
        }),
        ..Default::default()
    }
}

#[tonic::async_trait]
impl Execution for Fake {
    type ExecuteStream = Answers<Operation>;
    type WaitExecutionStream = Answers<Operation>;

    async fn execute(
        &self,
        request: Request<reapi::ExecuteRequest>,
    ) -> Result<Response<Self::ExecuteStream>, Status> {
        let name = {
            let mut state = self.state();
            state.executed.push(request.into_inner());
            if let Some(refusal) = state.refusals.pop() {
                return Err(refusal);
            }
            let name = format!("team/operations/{}", state.executed.len());
            state
                .operations
                .insert(name.clone(), watch::channel(Told::default()).0);
            name
        };
        self.follow(name)
    }

    async fn wait_execution(
        &self,
        request: Request<reapi::WaitExecutionRequest>,
    ) -> Result<Response<Self::WaitExecutionStream>, Status> {
        self.follow(request.into_inner().name)
    }
}

#[tonic::async_trait]
impl Operations for Fake {
    async fn list_operations(
        &self,
        _: Request<longrunning::ListOperationsRequest>,
    ) -> Result<Response<longrunning::ListOperationsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_operation(
        &self,
        _: Request<longrunning::GetOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn delete_operation(
        &self,
        _: Request<longrunning::DeleteOperationRequest>,
    ) -> Result<Response<()>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn cancel_operation(
        &self,
        request: Request<longrunning::CancelOperationRequest>,
    ) -> Result<Response<()>, Status> {
        self.state().cancelled.push(request.into_inner().name);
        Ok(Response::new(()))
    }
}

#[tonic::async_trait]
impl Farm for Fake {
    type EventsStream = Answers<wire::EventsResponse>;
    type SessionStream = Answers<wire::SessionResponse>;

    async fn describe(
        &self,
        _: Request<wire::DescribeRequest>,
    ) -> Result<Response<wire::DescribeResponse>, Status> {
        Err(Status::unimplemented("this is a cache"))
    }

    async fn events(
        &self,
        request: Request<wire::EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let request = request.into_inner();
        let told = self.told(&request.operation)?;
        let events = stream::unfold(
            (told, request.from, false),
            |(mut told, next, over)| async move {
                if over {
                    return None;
                }
                let has_more = |told: &Told| told.events.len() as u64 > next || told.end.is_some();
                if told.wait_for(has_more).await.is_err() {
                    return Some((Err(Status::unavailable("gone")), (told, next, true)));
                }
                let now = told.borrow().clone();
                // One more than was asked for: whoever follows may have had it already.
                let first = next.saturating_sub(1);
                let begin = usize::try_from(first).unwrap();
                let events: Vec<Event> = now.events.iter().skip(begin).take(3).cloned().collect();
                let next = next.max(first + events.len() as u64);
                let over = now.end.is_some() && next >= now.events.len() as u64;
                Some((
                    Ok(wire::EventsResponse { first, events }),
                    (told, next, over),
                ))
            },
        );
        Ok(self.cut(events))
    }

    async fn session(
        &self,
        request: Request<Streaming<wire::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut incoming = request.into_inner();
        let (answer, answers) = mpsc::channel(16);
        let fake = self.clone();
        let reading = spawn(async move {
            while let Ok(Some(message)) = incoming.message().await {
                if let Some(wire::session_request::Kind::Open(open)) = &message.kind {
                    let opened = wire::session_response::Kind::Opened(Default::default());
                    let opened = wire::SessionResponse { kind: Some(opened) };
                    drop(answer.send(Ok(opened)).await);
                    let mut state = fake.state();
                    state.opened.push(open.clone());
                    state.sessions.push(answer.clone());
                }
                drop(fake.said.send(message));
            }
        });
        let answers = ReceiverStream::new(answers).map(move |answer| {
            let _ = &reading;
            answer
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn list_builds(
        &self,
        request: Request<wire::ListBuildsRequest>,
    ) -> Result<Response<wire::ListBuildsResponse>, Status> {
        let request = request.into_inner();
        let start: usize = request.page_token.parse().unwrap_or(0);
        let builds = (start..5)
            .take(2)
            .map(|number| wire::list_builds_response::Build {
                operation: format!("team/operations/{number}"),
                ..Default::default()
            });
        Ok(Response::new(wire::ListBuildsResponse {
            builds: builds.collect(),
            next_page_token: if start + 2 < 5 {
                (start + 2).to_string()
            } else {
                String::new()
            },
        }))
    }
}
