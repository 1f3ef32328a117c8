//! Clients and workers, as the tests of the queue have them.

use std::collections::HashMap;
use std::time::Duration;

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_proto::convert::{digest_to_wire as wire, function_to_wire};
use ashlar_proto::wire::farm::farm_client::FarmClient;
use ashlar_proto::wire::farm::queue_message::{Assign, Kind as ToWorker};
use ashlar_proto::wire::farm::worker_message::outcome::{Done, Kind as OutcomeKind};
use ashlar_proto::wire::farm::worker_message::{Capacity, Events, Hello, Kind, Outcome, Renew};
use ashlar_proto::wire::farm::workers_client::WorkersClient;
use ashlar_proto::wire::farm::{self, Assignment, Event, Placement, QueueMessage, WorkerMessage};
use ashlar_proto::wire::longrunning::operations_client::OperationsClient;
use ashlar_proto::wire::longrunning::{self, operation};
use ashlar_proto::wire::reapi;
use ashlar_proto::wire::reapi::execution_client::ExecutionClient;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

pub(crate) const BLAKE3: DigestFunction = DigestFunction::Blake3;

/// Nothing here takes so long, unless it never comes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Something that comes in time.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("in time")
}

/// A request with a token, if there is one.
pub(crate) fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    if !token.is_empty() {
        let value = format!("Bearer {token}").parse().expect("a header");
        request.metadata_mut().insert("authorization", value);
    }
    request
}

/// A client of builds.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) channel: Channel,
    pub(crate) instance: String,
    pub(crate) token: String,
    pub(crate) build: String,
}

/// What an operation says and how it ends, as its stream has it.
pub(crate) struct Followed {
    pub(crate) name: String,
    pub(crate) stream: Streaming<longrunning::Operation>,
}

impl Followed {
    /// The next state of the operation.
    pub(crate) async fn next(&mut self) -> Result<longrunning::Operation, Status> {
        let next = soon(self.stream.message()).await?;
        Ok(next.expect("a state"))
    }

    /// How it ends.
    pub(crate) async fn end(&mut self) -> reapi::ExecuteResponse {
        loop {
            let operation = self.next().await.expect("a state");
            if operation.done {
                return response(&operation);
            }
        }
    }
}

/// How an operation ended.
pub(crate) fn response(operation: &longrunning::Operation) -> reapi::ExecuteResponse {
    let Some(operation::Result::Response(any)) = &operation.result else {
        panic!("{operation:?}");
    };
    reapi::ExecuteResponse::decode(&any.value[..]).expect("a response")
}

/// The stage of an operation.
pub(crate) fn stage(operation: &longrunning::Operation) -> reapi::execution_stage::Value {
    let any = operation.metadata.as_ref().expect("metadata");
    let metadata = reapi::ExecuteOperationMetadata::decode(&any.value[..]).expect("metadata");
    metadata.stage()
}

/// What a worker says that it has done.
pub(crate) fn done_of(response: &reapi::ExecuteResponse) -> Done {
    let result = response.result.as_ref().expect("a result");
    let metadata = result.execution_metadata.as_ref().expect("metadata");
    let any = metadata.auxiliary_metadata.first().expect("an outcome");
    assert!(
        any.type_url
            .ends_with("ashlar.farm.v1.WorkerMessage.Outcome.Done")
    );
    Done::decode(&any.value[..]).expect("an outcome")
}

impl Client {
    pub(crate) fn over(channel: Channel) -> Self {
        Self {
            channel,
            instance: String::new(),
            token: String::new(),
            build: "build-1".to_owned(),
        }
    }

    pub(crate) fn execution(&self) -> ExecutionClient<Channel> {
        ExecutionClient::new(self.channel.clone())
    }

    pub(crate) fn operations(&self) -> OperationsClient<Channel> {
        OperationsClient::new(self.channel.clone())
    }

    pub(crate) fn farm(&self) -> FarmClient<Channel> {
        FarmClient::new(self.channel.clone())
    }

    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        with_token(message, &self.token)
    }

    /// Uploads blobs.
    pub(crate) async fn upload(&self, blobs: &[Vec<u8>]) -> Result<(), Status> {
        use reapi::content_addressable_storage_client::ContentAddressableStorageClient;
        let requests = blobs
            .iter()
            .map(|bytes| reapi::batch_update_blobs_request::Request {
                digest: Some(wire(&CasDigest::of(BLAKE3, bytes))),
                data: bytes.clone().into(),
                ..Default::default()
            });
        let request = reapi::BatchUpdateBlobsRequest {
            instance_name: self.instance.clone(),
            digest_function: function_to_wire(BLAKE3).into(),
            requests: requests.collect(),
        };
        let mut cas = ContentAddressableStorageClient::new(self.channel.clone());
        let response = cas.batch_update_blobs(self.request(request)).await?;
        for one in response.into_inner().responses {
            assert_eq!(one.status.map_or(0, |status| status.code), 0);
        }
        Ok(())
    }

    /// The blobs of an action; the action itself comes last.
    pub(crate) fn action(&self, command: &str, name: &str) -> Vec<Vec<u8>> {
        let placement = Placement {
            requirements: HashMap::from([("os".to_owned(), "linux".to_owned())]),
            name: name.to_owned(),
            steps: 1,
            build: self.build.clone(),
            ..Default::default()
        };
        let digest = |bytes: &[u8]| Some(wire(&CasDigest::of(BLAKE3, bytes)));
        let (order, placement) = (format!("order of {name}"), placement.encode_to_vec());
        let file = |name: &str, bytes: &[u8]| reapi::FileNode {
            name: name.to_owned(),
            digest: digest(bytes),
            ..Default::default()
        };
        let root = reapi::Directory {
            files: vec![
                file("order", order.as_bytes()),
                file("placement", &placement),
            ],
            ..Default::default()
        };
        let command = reapi::Command {
            arguments: vec![command.to_owned()],
            ..Default::default()
        };
        let (root, command) = (root.encode_to_vec(), command.encode_to_vec());
        let action = reapi::Action {
            command_digest: digest(&command),
            input_root_digest: digest(&root),
            ..Default::default()
        };
        let action = action.encode_to_vec();
        vec![order.into_bytes(), placement, root, command, action]
    }

    /// Asks for an action.
    pub(crate) fn ask(&self, action: &[u8]) -> Request<reapi::ExecuteRequest> {
        self.request(reapi::ExecuteRequest {
            instance_name: self.instance.clone(),
            digest_function: function_to_wire(BLAKE3).into(),
            action_digest: Some(wire(&CasDigest::of(BLAKE3, action))),
            ..Default::default()
        })
    }

    /// Uploads an action, and has it executed.
    pub(crate) async fn execute(&self, name: &str) -> Result<Followed, Status> {
        self.run("ashlar.segment/1", name).await
    }

    pub(crate) async fn run(&self, command: &str, name: &str) -> Result<Followed, Status> {
        let blobs = self.action(command, name);
        self.upload(&blobs).await?;
        let request = self.ask(blobs.last().expect("an action"));
        let stream = soon(self.execution().execute(request)).await?.into_inner();
        let mut followed = Followed {
            name: String::new(),
            stream,
        };
        followed.name = followed.next().await?.name;
        Ok(followed)
    }

    /// Takes an operation up again.
    pub(crate) async fn wait(&self, name: &str) -> Result<Followed, Status> {
        let request = reapi::WaitExecutionRequest {
            name: name.to_owned(),
        };
        let request = self.request(request);
        let stream = soon(self.execution().wait_execution(request)).await?;
        Ok(Followed {
            name: name.to_owned(),
            stream: stream.into_inner(),
        })
    }

    pub(crate) async fn cancel(&self, name: &str) -> Result<(), Status> {
        let request = longrunning::CancelOperationRequest {
            name: name.to_owned(),
        };
        let request = self.request(request);
        soon(self.operations().cancel_operation(request)).await?;
        Ok(())
    }

    /// All that an operation says from an event on, to its end.
    pub(crate) async fn events(&self, name: &str, from: u64) -> Result<Vec<Event>, Status> {
        let request = farm::EventsRequest {
            operation: name.to_owned(),
            from,
            ..Default::default()
        };
        let mut stream = self
            .farm()
            .events(self.request(request))
            .await?
            .into_inner();
        let mut events = Vec::new();
        while let Some(some) = soon(stream.message()).await? {
            events.extend(some.events);
        }
        Ok(events)
    }
}

/// A worker.
pub(crate) struct Worker {
    send: mpsc::UnboundedSender<WorkerMessage>,
    messages: Streaming<QueueMessage>,
}

/// What a worker says first.
pub(crate) fn hello(id: &str, slots: u32) -> Hello {
    Hello {
        id: id.to_owned(),
        name: format!("{id} of the tests"),
        slots,
        properties: HashMap::from([("os".to_owned(), "linux".to_owned())]),
        order_versions: vec![1],
        recipient: format!("key of {id}"),
        ..Default::default()
    }
}

impl Worker {
    /// A worker over a connection.
    pub(crate) async fn over(channel: Channel, hello: Hello, token: &str) -> Result<Self, Status> {
        let (send, messages) = mpsc::unbounded_channel();
        let first = WorkerMessage {
            kind: Some(Kind::Hello(hello)),
        };
        send.send(first).expect("sent");
        let request = with_token(UnboundedReceiverStream::new(messages), token);
        let attached = soon(WorkersClient::new(channel).attach(request)).await?;
        let mut worker = Self {
            send,
            messages: attached.into_inner(),
        };
        match worker.next().await? {
            ToWorker::Welcome(_) => Ok(worker),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn say(&self, kind: Kind) {
        // A connection that is over shows when something is read.
        drop(self.send.send(WorkerMessage { kind: Some(kind) }));
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Result<ToWorker, Status> {
        let message = soon(self.messages.message()).await?;
        let message = message.ok_or_else(|| Status::unknown("the stream is over"))?;
        Ok(message.kind.expect("a message"))
    }

    /// Whether nothing comes for a while.
    pub(crate) async fn hears_nothing(&mut self) -> bool {
        let wait = Duration::from_millis(300);
        timeout(wait, self.messages.message()).await.is_err()
    }

    /// The work that it is given next.
    pub(crate) async fn work(&mut self) -> Assign {
        match self.next().await.expect("a message") {
            ToWorker::Assign(assign) => assign,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn capacity(&self, free: u32) {
        self.say(Kind::Capacity(Capacity {
            free,
            ..Default::default()
        }));
    }

    pub(crate) fn renew(&self, running: Vec<Assignment>) {
        self.say(Kind::Renew(Renew { running }));
    }

    pub(crate) fn events(&self, assignment: &Assignment, first: u64, events: Vec<Event>) {
        self.say(Kind::Events(Events {
            assignment: Some(assignment.clone()),
            first,
            events,
        }));
    }

    pub(crate) fn outcome(&self, assignment: &Assignment, kind: OutcomeKind) {
        self.say(Kind::Outcome(Outcome {
            assignment: Some(assignment.clone()),
            kind: Some(kind),
        }));
    }

    /// Says that work is done.
    pub(crate) fn done(&self, assign: &Assign, outcome: &str) {
        self.outcome(
            assign.assignment.as_ref().expect("an assignment"),
            OutcomeKind::Done(Done {
                outcome: outcome.as_bytes().to_vec().into(),
                ..Default::default()
            }),
        );
    }

    /// Waits until its outcome was taken; whether it was too late.
    pub(crate) async fn taken(&mut self) -> bool {
        loop {
            if let ToWorker::Outcome(taken) = self.next().await.expect("a message") {
                return taken.too_late;
            }
        }
    }
}

/// Output of a step.
pub(crate) fn output(text: &str) -> Event {
    Event {
        node: Some(0),
        kind: Some(farm::event::Kind::Output(farm::event::Output {
            is_stderr: false,
            data: text.as_bytes().to_vec().into(),
        })),
    }
}

/// The texts of output among events.
pub(crate) fn texts(events: &[Event]) -> String {
    let texts = events.iter().filter_map(|event| match &event.kind {
        Some(farm::event::Kind::Output(output)) => Some(&output.data[..]),
        _ => None,
    });
    String::from_utf8(texts.collect::<Vec<_>>().concat()).expect("text")
}
