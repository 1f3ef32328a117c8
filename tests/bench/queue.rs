//! The row of the queue: a thousand pieces of work that are nothing. First only the server has to do
//! anything: clients that ask, and workers that say that they are done, speak the protocols and do
//! nothing else. Then all of it: builds of a hundred stages at the same time.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_proto::convert::{digest_to_wire as wire, function_to_wire};
use ashlar_proto::wire::farm::queue_message::Kind as ToWorker;
use ashlar_proto::wire::farm::worker_message::outcome::{Done, Kind as OutcomeKind};
use ashlar_proto::wire::farm::worker_message::{Capacity, Hello, Kind, Outcome};
use ashlar_proto::wire::farm::workers_client::WorkersClient;
use ashlar_proto::wire::farm::{Placement, WorkerMessage};
use ashlar_proto::wire::longrunning::operation;
use ashlar_proto::wire::reapi;
use ashlar_proto::wire::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use ashlar_proto::wire::reapi::execution_client::ExecutionClient;
use ashlar_test_support::cache_server::CacheServer;
use ashlar_test_support::command::TestCommand;
use ashlar_test_support::worker::Worker;
use bytes::Bytes;
use futures::channel::mpsc;
use futures::stream::{self, StreamExt as _};
use prost::Message as _;
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

use crate::measure::{Case, Run, Sample};
use crate::remote::Fresh;
use crate::rows::Row;
use crate::subject::Site;

/// Pieces of work.
const WORK: usize = 1_000;

/// Builds that go on at the same time, and stages of each: as many pieces of work.
const BUILDS: usize = 10;
const STAGES: u32 = 100;

/// Workers that do nothing, and what each does at once.
const WORKERS: usize = 4;
const SLOTS: u32 = 8;

/// Connections of clients, and what each waits for at once.
const CLIENTS: usize = 4;
const AT_ONCE: usize = 64;

/// Blobs of one upload.
const BATCH: usize = 1_000;

const BLAKE3: DigestFunction = DigestFunction::Blake3;

pub(crate) fn row() -> Row {
    Row {
        name: "remote-queue",
        work: "1,000 steps that do nothing: through the queue alone, to workers that say at once that \
               they are done; and as 10 builds of 100 stages at the same time, here and on a worker",
        goal: "none: it says what the queue and all around it take",
        met: |_| None,
        cases,
        rounds: Some(3),
    }
}

fn cases(site: &Site) -> Vec<Case<'_>> {
    let alone: OnceCell<Alone> = OnceCell::new();
    let mut number = 0;
    let fresh = Fresh::new(site);
    let farm: OnceCell<(CacheServer, Worker)> = OnceCell::new();
    let (same, here, away) = (Rc::clone(&fresh), site.ashlar(), site.ashlar());
    vec![
        Case::sampled("the queue alone, 1,000 operations", move |_| {
            number += 1;
            alone.get_or_init(Alone::start).round(number)
        }),
        Case::sampled("here, 10 builds of 100 stages", move |run| {
            together(run, || here.build(same.context(), &same.fan(STAGES)))
        }),
        Case::sampled("remote, 10 builds of 100 stages", move |run| {
            let (server, _) = farm.get_or_init(|| {
                let server = CacheServer::prepare().for_workers().started();
                let worker = Worker::prepare(&server.workers_url()).with(["--slots", "4"]);
                let worker = worker.started();
                (server, worker)
            });
            together(run, || {
                away.build(fresh.context(), &fresh.fan(STAGES))
                    .args(["--remote", &server.url()])
            })
        }),
    ]
}

/// Runs builds at the same time. To warm what is to be warm one is enough.
fn together(run: Run, build: impl Fn() -> TestCommand) -> Sample {
    let count = if run == Run::Time { BUILDS } else { 1 };
    let builds: Vec<_> = (0..count).map(|_| build()).collect();
    let started = Instant::now();
    let running: Vec<_> = builds.into_iter().map(TestCommand::start).collect();
    for build in running {
        build.wait().success();
    }
    Sample {
        time: started.elapsed(),
        ..Sample::default()
    }
}

/// A server, clients that ask it, and workers that do nothing.
struct Alone {
    // Its streams end before the server does.
    runtime: Runtime,
    clients: Vec<Channel>,
    workers: Vec<JoinHandle<()>>,
    _server: CacheServer,
}

impl Drop for Alone {
    fn drop(&mut self) {
        for worker in &self.workers {
            worker.abort();
        }
    }
}

impl Alone {
    fn start() -> Self {
        let server = CacheServer::prepare().for_workers().started();
        let runtime = Runtime::new().expect("there are no threads");
        let (clients, workers) = runtime.block_on(async {
            let mut clients = Vec::new();
            for _ in 0..CLIENTS {
                clients.push(connect(&server.url()).await);
            }
            let mut workers = Vec::new();
            for number in 0..WORKERS {
                let channel = connect(&server.workers_url()).await;
                workers.push(attach(channel, number).await);
            }
            (clients, workers)
        });
        Self {
            runtime,
            clients,
            workers,
            _server: server,
        }
    }

    /// All of it once: how long it takes from the first question to the last answer.
    fn round(&self, round: u64) -> Sample {
        let actions: Vec<Vec<Bytes>> = (0..WORK).map(|number| action(round, number)).collect();
        let blobs: Vec<Bytes> = actions.iter().flatten().cloned().collect();
        self.runtime.block_on(async {
            for blobs in blobs.chunks(BATCH) {
                upload(&self.clients[0], blobs).await;
            }
            let asked = actions.iter().zip(self.clients.iter().cycle());
            let started = Instant::now();
            stream::iter(asked)
                .for_each_concurrent(CLIENTS * AT_ONCE, |(blobs, client)| {
                    execute(client, blobs.last().expect("an action has blobs"))
                })
                .await;
            Sample {
                time: started.elapsed(),
                ..Sample::default()
            }
        })
    }
}

async fn connect(url: &str) -> Channel {
    let url = url.replacen("grpc:", "http:", 1);
    let endpoint = Endpoint::from_shared(url).expect("an address");
    endpoint.connect().await.expect("nobody listens")
}

/// A worker that is done with whatever it is given.
async fn attach(channel: Channel, number: usize) -> JoinHandle<()> {
    let (say, said) = mpsc::unbounded();
    let tell = move |kind| {
        let message = WorkerMessage { kind: Some(kind) };
        // A stream that is over shows when something is read.
        drop(say.unbounded_send(message));
    };
    tell(Kind::Hello(Hello {
        id: format!("nothing-{number}"),
        name: format!("nothing-{number}"),
        slots: SLOTS,
        properties: HashMap::from([("os".to_owned(), "linux".to_owned())]),
        order_versions: vec![1],
        ..Hello::default()
    }));
    tell(Kind::Capacity(Capacity {
        free: SLOTS,
        ..Capacity::default()
    }));
    let attached = WorkersClient::new(channel).attach(said).await;
    let mut messages = attached.expect("no stream").into_inner();
    Handle::current().spawn(async move {
        while let Ok(Some(message)) = messages.message().await {
            if let Some(ToWorker::Assign(assign)) = message.kind {
                tell(Kind::Outcome(Outcome {
                    assignment: assign.assignment,
                    kind: Some(OutcomeKind::Done(Done::default())),
                }));
            }
        }
    })
}

/// The blobs of an action that nobody has asked for before; the action itself comes last.
fn action(round: u64, number: usize) -> Vec<Bytes> {
    let placement = Placement {
        requirements: HashMap::from([("os".to_owned(), "linux".to_owned())]),
        name: format!("nothing {number}"),
        steps: 1,
        build: format!("build-{round}-{}", number % BUILDS),
        ..Placement::default()
    };
    let order = Bytes::from(format!("order {number} of {round}"));
    let placement = Bytes::from(placement.encode_to_vec());
    let file = |name: &str, bytes: &Bytes| reapi::FileNode {
        name: name.to_owned(),
        digest: Some(wire(&of(bytes))),
        ..reapi::FileNode::default()
    };
    let root = reapi::Directory {
        files: vec![file("order", &order), file("placement", &placement)],
        ..reapi::Directory::default()
    };
    let command = reapi::Command {
        arguments: vec!["ashlar.segment/1".to_owned()],
        ..reapi::Command::default()
    };
    let root = Bytes::from(root.encode_to_vec());
    let command = Bytes::from(command.encode_to_vec());
    let action = reapi::Action {
        command_digest: Some(wire(&of(&command))),
        input_root_digest: Some(wire(&of(&root))),
        ..reapi::Action::default()
    };
    let action = Bytes::from(action.encode_to_vec());
    vec![order, placement, root, command, action]
}

async fn upload(client: &Channel, blobs: &[Bytes]) {
    let requests = blobs
        .iter()
        .map(|bytes| reapi::batch_update_blobs_request::Request {
            digest: Some(wire(&of(bytes))),
            data: bytes.clone(),
            ..reapi::batch_update_blobs_request::Request::default()
        });
    let request = reapi::BatchUpdateBlobsRequest {
        digest_function: function_to_wire(BLAKE3).into(),
        requests: requests.collect(),
        ..reapi::BatchUpdateBlobsRequest::default()
    };
    let mut blobs = ContentAddressableStorageClient::new(client.clone());
    let answer = blobs.batch_update_blobs(request).await;
    for response in answer.expect("no BatchUpdateBlobs").into_inner().responses {
        let status = response.status.unwrap_or_default();
        assert_eq!(status.code, 0, "{}", status.message);
    }
}

/// Has an action executed. An end that is not a good one ends the program.
async fn execute(client: &Channel, action: &Bytes) {
    let request = reapi::ExecuteRequest {
        digest_function: function_to_wire(BLAKE3).into(),
        action_digest: Some(wire(&of(action))),
        ..reapi::ExecuteRequest::default()
    };
    let mut execution = ExecutionClient::new(client.clone());
    let answer = execution.execute(request).await.expect("no Execute");
    let mut states = answer.into_inner();
    while let Some(state) = states.message().await.expect("a stream that was cut") {
        if state.done {
            let Some(operation::Result::Response(any)) = state.result else {
                unreachable!("it has ended without a response: {state:?}");
            };
            let response =
                reapi::ExecuteResponse::decode(any.value.as_slice()).expect("a response");
            let code = response.status.unwrap_or_default().code;
            assert_eq!(code, 0, "{}", response.message);
            return;
        }
    }
    unreachable!("a stream that ends before its operation");
}

fn of(bytes: &[u8]) -> CasDigest {
    CasDigest::of(BLAKE3, bytes)
}
