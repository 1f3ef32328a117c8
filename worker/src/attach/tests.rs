//! The connection, with a farm that is none.

use std::pin::Pin;

use ashlar_store::task::{Task, spawn};
use farm::queue_message::Kind as Said;
use farm::worker_message::Kind as Say;
use farm::workers_server::{Workers, WorkersServer};
use futures::Stream;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use super::*;

type Answers = mpsc::Sender<Result<farm::QueueMessage, Status>>;

/// Hands every connection to the test.
struct FakeFarm(mpsc::Sender<Attached>);

/// One connection, from the farm's side.
struct Attached {
    heard: Streaming<farm::WorkerMessage>,
    answers: Answers,
}

type AnswerStream = Pin<Box<dyn Stream<Item = Result<farm::QueueMessage, Status>> + Send>>;

#[tonic::async_trait]
impl Workers for FakeFarm {
    type AttachStream = AnswerStream;

    async fn attach(
        &self,
        request: Request<Streaming<farm::WorkerMessage>>,
    ) -> Result<Response<AnswerStream>, Status> {
        let (answers, stream) = mpsc::channel(64);
        let attached = Attached {
            heard: request.into_inner(),
            answers,
        };
        self.0
            .send(attached)
            .await
            .map_err(|_| Status::internal("the test is over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

impl Attached {
    async fn say(&self, kind: Said) {
        let message = farm::QueueMessage { kind: Some(kind) };
        self.answers.send(Ok(message)).await.unwrap();
    }

    async fn welcome(&self) {
        let every = Duration::from_millis(200).try_into().unwrap();
        self.say(Said::Welcome(farm::queue_message::Welcome {
            lease: None,
            renew_every: Some(every),
        }))
        .await;
    }

    /// The next message that is not about the worker in general.
    async fn hear(&mut self) -> Say {
        loop {
            let heard = timeout(Duration::from_secs(10), self.heard.message()).await;
            let kind = heard.unwrap().unwrap().unwrap().kind.unwrap();
            if !matches!(kind, Say::Renew(_) | Say::Capacity(_) | Say::Holdings(_)) {
                return kind;
            }
        }
    }

    async fn hello(&mut self) -> farm::worker_message::Hello {
        match self.hear().await {
            Say::Hello(hello) => hello,
            other => panic!("{other:?}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Done {
    Began(Given),
    Cancelled(Given),
    Forgot(Given),
}

#[derive(Clone, Default)]
struct Noting(Arc<Mutex<Vec<Done>>>);

impl Noting {
    fn note(&self, done: Done) {
        self.0.lock().unwrap().push(done);
    }

    async fn until(&self, count: usize) -> Vec<Done> {
        let all = async {
            loop {
                let done = self.0.lock().unwrap().clone();
                if done.len() >= count {
                    return done;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(Duration::from_secs(10), all).await.unwrap()
    }
}

impl Hand for Noting {
    fn begin(&self, given: Given, _assign: farm::queue_message::Assign) {
        self.note(Done::Began(given));
    }

    fn cancel(&self, given: &Given) {
        self.note(Done::Cancelled(given.clone()));
    }

    fn forget(&self, given: &Given) {
        self.note(Done::Forgot(given.clone()));
    }
}

struct Scene {
    connections: mpsc::Receiver<Attached>,
    line: Arc<Line>,
    done: Noting,
    _tasks: (Task<()>, Task<()>),
}

async fn scene() -> Scene {
    scene_at(|own| format!("grpc://{own}")).await
}

/// The same where the farm is named in some way.
async fn scene_at(address: impl FnOnce(&str) -> String) -> Scene {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = address(&listener.local_addr().unwrap().to_string());
    let (sender, connections) = mpsc::channel(4);
    let server = spawn(async move {
        tonic::transport::Server::builder()
            .add_service(WorkersServer::new(FakeFarm(sender)))
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .unwrap();
    });
    let (line, mut messages) = Line::new();
    let identity = Identity {
        id: "w1".to_owned(),
        name: "test".to_owned(),
        slots: 2,
        properties: vec![("os".to_owned(), "linux".to_owned())],
        instances: vec![String::new()],
        order_versions: vec![1],
        recipient: "key".to_owned(),
    };
    let connect: Connect = Arc::new(move || {
        let settings = GrpcSettings::new(address.clone());
        Box::pin(async move { Ok(settings) })
    });
    let done = Noting::default();
    let (staying, hand) = (Arc::clone(&line), done.clone());
    let client = spawn(async move {
        stay(&identity, &connect, &staying, &mut messages, &hand).await;
    });
    Scene {
        connections,
        line,
        done,
        _tasks: (server, client),
    }
}

#[tokio::test]
async fn any_server_that_is_there_will_do() {
    // Nobody listens there any more.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = listener.local_addr().unwrap();
    drop(listener);
    let before = |own: &str| format!("grpc://{dead}+{own}");
    let behind = |own: &str| format!("grpc://{own}+{dead}");
    for mut scene in [scene_at(before).await, scene_at(behind).await] {
        // With each server it begins at times: not all workers begin with the same.
        for _ in 0..3 {
            let attached = scene.connections.recv();
            let attached = timeout(Duration::from_secs(10), attached).await;
            let mut attached = attached.expect("it comes").expect("it comes");
            attached.hello().await;
            attached.welcome().await;
        }
    }
}

fn assignment(operation: &str, fence: u64) -> farm::Assignment {
    farm::Assignment {
        operation: operation.to_owned(),
        fencing_number: fence,
    }
}

fn assign(operation: &str, fence: u64) -> Said {
    Said::Assign(farm::queue_message::Assign {
        assignment: Some(assignment(operation, fence)),
        ..Default::default()
    })
}

fn given(operation: &str, fence: u64) -> Given {
    (&assignment(operation, fence)).into()
}

fn started(node: u32) -> farm::Event {
    farm::Event {
        node: Some(node),
        kind: Some(farm::event::Kind::Started(farm::event::Started {})),
    }
}

#[tokio::test]
async fn work_goes_on_over_a_connection_that_breaks() {
    let mut scene = scene().await;
    let mut first = scene.connections.recv().await.unwrap();
    let hello = first.hello().await;
    assert_eq!((hello.id.as_str(), hello.running.len()), ("w1", 0));
    first.welcome().await;
    first.say(assign("a", 1)).await;
    first.say(assign("a", 1)).await;
    assert_eq!(scene.done.until(1).await, [Done::Began(given("a", 1))]);
    scene.line.happened(&given("a", 1), started(0));
    let Say::Events(events) = first.hear().await else {
        panic!("no events");
    };
    assert_eq!((events.first, events.events.len()), (0, 1));
    // Nobody said that it arrived.
    drop(first);
    scene.line.happened(&given("a", 1), started(1));

    let mut second = scene.connections.recv().await.unwrap();
    let hello = second.hello().await;
    assert_eq!(hello.running, [assignment("a", 1)]);
    second.welcome().await;
    let Say::Events(events) = second.hear().await else {
        panic!("no events");
    };
    assert_eq!((events.first, events.events.len()), (0, 2));
    second
        .say(Said::Taken(farm::queue_message::EventsTaken {
            assignment: Some(assignment("a", 1)),
            next: 2,
        }))
        .await;
    scene.line.ended(
        &given("a", 1),
        Outcome::Cancelled(farm::worker_message::outcome::Cancelled {}),
    );
    let Say::Outcome(outcome) = second.hear().await else {
        panic!("no outcome");
    };
    assert_eq!(outcome.assignment, Some(assignment("a", 1)));
    assert!(!scene.line.is_told_all());
    second
        .say(Said::Outcome(farm::queue_message::OutcomeTaken {
            assignment: Some(assignment("a", 1)),
            too_late: false,
        }))
        .await;
    let told = async {
        while !scene.line.is_told_all() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(10), told).await.unwrap();
}

#[tokio::test]
async fn what_was_given_to_others_is_forgotten_without_a_word() {
    let mut scene = scene().await;
    let mut farm = scene.connections.recv().await.unwrap();
    farm.hello().await;
    farm.welcome().await;
    for said in [assign("a", 1), assign("b", 1), assign("b", 2)] {
        farm.say(said).await;
    }
    farm.say(Said::Cancel(assignment("b", 2))).await;
    farm.say(Said::Revoke(assignment("a", 1))).await;
    farm.say(Said::Revoke(assignment("a", 1))).await;
    farm.say(assign("c", 1)).await;
    let done = scene.done.until(7).await;
    assert_eq!(
        done,
        [
            Done::Began(given("a", 1)),
            Done::Began(given("b", 1)),
            Done::Forgot(given("b", 1)),
            Done::Began(given("b", 2)),
            Done::Cancelled(given("b", 2)),
            Done::Forgot(given("a", 1)),
            Done::Began(given("c", 1)),
        ]
    );
    scene.line.happened(&given("a", 1), started(0));
    scene.line.happened(&given("c", 1), started(0));
    let Say::Events(events) = farm.hear().await else {
        panic!("no events");
    };
    assert_eq!(events.assignment, Some(assignment("c", 1)));
}

#[tokio::test]
async fn it_says_what_it_has_and_that_it_lives() {
    let mut scene = scene().await;
    scene.line.set_capacity(Capacity {
        free: 2,
        ..Capacity::default()
    });
    scene.line.set_holdings([1, 2].into());
    let mut farm = scene.connections.recv().await.unwrap();
    farm.hello().await;
    farm.welcome().await;
    let mut capacities = Vec::new();
    let mut holdings = Vec::new();
    let mut renewals = 0;
    scene.line.set_holdings([2, 3].into());
    while renewals < 3 || holdings.is_empty() {
        let heard = timeout(Duration::from_secs(10), farm.heard.message()).await;
        match heard.unwrap().unwrap().unwrap().kind.unwrap() {
            Say::Capacity(capacity) => capacities.push(capacity.free),
            Say::Holdings(change) => holdings.push((change.all, change.added, change.removed)),
            Say::Renew(renew) => renewals += usize::from(renew.running.is_empty()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(capacities, [2]);
    assert!(holdings[0].0, "{holdings:?}");
    let mut known = BTreeSet::new();
    for (is_all, added, removed) in holdings {
        if is_all {
            known.clear();
        }
        known.extend(added);
        known.retain(|layer| !removed.contains(layer));
    }
    assert_eq!(known, [2, 3].into());
}
