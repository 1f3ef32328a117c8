//! The queue of several servers: one has it, the others pass on to it, and another goes on with it.

use std::time::Duration;

use ashlar_proto::wire::farm;
use ashlar_proto::wire::farm::queue_message::Kind as ToWorker;
use ashlar_test_support::redis::free_port;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::players::{Client, Followed, Worker, done_of, hello, output, texts};
use crate::server::{Server, Stores, file};

const TOKEN: &str = "a-token-of-servers";

/// Servers with one queue.
struct Farm {
    servers: Vec<Server>,
    ports: Vec<u16>,
    workers: Vec<u16>,
    _directory: tempfile::TempDir,
}

async fn connect(port: u16) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"));
    endpoint.expect("an address").connect_lazy()
}

impl Farm {
    async fn start(stores: &Stores, count: usize) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let token = file(directory.path(), "token", TOKEN);
        let ports: Vec<u16> = (0..count).map(|_| free_port()).collect();
        let workers: Vec<u16> = (0..count).map(|_| free_port()).collect();
        let addresses: Vec<_> = ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let mut servers = Vec::new();
        for (own, worker) in addresses.iter().zip(&workers) {
            let worker = format!("127.0.0.1:{worker}");
            let mut arguments = vec!["--peer-token-file", &token, "--worker-listen", &worker];
            arguments.extend(["--peer-listen", own, "--peer-address", own]);
            for peer in &addresses {
                arguments.extend(["--peer", peer]);
            }
            arguments.extend(["--worker-lease", "10s", "--client-grace", "20s"]);
            servers.push(Server::start(stores, &arguments));
        }
        for server in &servers {
            server.wait_for(200).await;
        }
        let farm = Self {
            servers,
            ports,
            workers,
            _directory: directory,
        };
        farm.leader().await;
        farm
    }

    /// The server that has the queue, once there is one.
    async fn leader(&self) -> usize {
        for _ in 0..600 {
            for (at, server) in self.servers.iter().enumerate() {
                let is_there = std::net::TcpStream::connect(("127.0.0.1", server.port)).is_ok();
                if is_there && server.page("/metrics").1.contains("queue_leading 1") {
                    return at;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("nobody has the queue: {}", self.servers[0].log());
    }

    async fn client(&self, at: usize) -> Client {
        Client {
            instance: "acme/main".to_owned(),
            ..Client::over(connect(self.servers[at].port).await)
        }
    }

    async fn worker(&self, at: usize, hello: farm::worker_message::Hello) -> Worker {
        let attach = async || {
            let channel = connect(self.workers[at]).await;
            Worker::over(channel, hello.clone(), "").await
        };
        again(attach).await
    }
}

/// Something that is tried until there is a server that has the queue.
async fn again<T>(what: impl AsyncFn() -> Result<T, Status>) -> T {
    for _ in 0..400 {
        match what().await {
            Ok(done) => return done,
            Err(status) if status.code() == Code::Unavailable => {}
            Err(status) => panic!("{status:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it takes too long");
}

/// How an operation ends, whichever server has it.
async fn end_of(client: &Client, followed: &mut Followed) -> Vec<u8> {
    loop {
        match followed.next().await {
            Ok(operation) if operation.done => {
                let response = crate::players::response(&operation);
                return done_of(&response).outcome.to_vec();
            }
            Ok(_) => {}
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                let name = followed.name.clone();
                *followed = again(async || client.wait(&name).await).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_server_is_as_good_as_the_one_that_has_the_queue() {
    let Some(stores) = Stores::start("any_server_is_as_good_as_the_one_that_has_the_queue") else {
        return;
    };
    let farm = Farm::start(&stores, 2).await;
    for (client_at, worker_at) in [(0, 1), (1, 0)] {
        let client = farm.client(client_at).await;
        let mut worker = farm.worker(worker_at, hello("w1", 1)).await;
        worker.capacity(1);
        let name = format!("RUN by {client_at}");
        let mut followed = again(async || client.execute(&name).await).await;
        let assign = worker.work().await;
        let assignment = assign.assignment.clone().expect("an assignment");
        worker.events(&assignment, 0, vec![output("hello")]);
        worker.done(&assign, &name);
        assert!(!worker.taken().await);
        assert_eq!(end_of(&client, &mut followed).await, name.as_bytes());
        let events = client.events(&followed.name, 0).await.expect("events");
        assert_eq!(texts(&events), "hello");
    }
    // The way between servers is for servers alone.
    for port in &farm.ports {
        let stranger = Client {
            token: "a-token-of-strangers".to_owned(),
            ..Client::over(connect(*port).await)
        };
        let name = "operations/0123456789abcdef0123456789abcdef";
        let status = stranger.wait(name).await.err().expect("refused");
        assert_eq!(status.code(), Code::Unauthenticated);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_goes_on_with_what_was_queued_and_what_runs() {
    let Some(stores) = Stores::start("another_server_goes_on_with_what_was_queued_and_what_runs")
    else {
        return;
    };
    let mut farm = Farm::start(&stores, 2).await;
    let leader = farm.leader().await;
    let other = 1 - leader;
    let client = farm.client(other).await;
    let mut worker = farm.worker(other, hello("w1", 1)).await;
    worker.capacity(1);
    let mut running = again(async || client.execute("RUN runs").await).await;
    let assign = worker.work().await;
    let assignment = assign.assignment.clone().expect("an assignment");
    worker.events(&assignment, 0, vec![output("before ")]);
    while !matches!(worker.next().await.expect("a message"), ToWorker::Taken(_)) {}
    let mut queued = again(async || client.execute("RUN waits").await).await;
    farm.servers[leader].kill();
    // All streams end, and the worker comes again with what it runs.
    while worker.next().await.is_ok() {}
    let mut back = hello("w1", 1);
    back.running = vec![assignment.clone()];
    let mut worker = farm.worker(other, back).await;
    worker.capacity(0);
    assert_eq!(farm.leader().await, other);
    worker.events(&assignment, 1, vec![output("after")]);
    worker.done(&assign, "runs");
    assert!(!worker.taken().await, "nobody else was given it");
    assert_eq!(end_of(&client, &mut running).await, b"runs");
    // What was said before is lost with the server; numbers go on behind what anybody has seen.
    let events = client.events(&running.name, 1).await.expect("events");
    assert_eq!(texts(&events), "after");
    worker.capacity(1);
    let assign = worker.work().await;
    let second = assign.assignment.clone().expect("an assignment");
    assert_eq!(second.operation, queued.name);
    assert!(second.fencing_number > assignment.fencing_number);
    worker.done(&assign, "waits");
    assert_eq!(end_of(&client, &mut queued).await, b"waits");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_nobody_has_the_queue_and_all_go_on_when_it_is_back() {
    let Some(stores) =
        Stores::start("without_redis_nobody_has_the_queue_and_all_go_on_when_it_is_back")
    else {
        return;
    };
    let farm = Farm::start(&stores, 2).await;
    let client = farm.client(0).await;
    let mut followed = again(async || client.execute("RUN waits").await).await;
    stores.redis.stop();
    let status = loop {
        match followed.next().await {
            Ok(operation) => assert!(!operation.done),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unavailable);
    let status = client
        .wait(&followed.name)
        .await
        .err()
        .expect("nobody has it");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(ashlar_proto::retry::decode(status.details()).is_some());
    stores.redis.cont();
    let name = followed.name.clone();
    followed = again(async || client.wait(&name).await).await;
    let mut worker = farm.worker(1, hello("w1", 1)).await;
    worker.capacity(1);
    let assign = worker.work().await;
    worker.done(&assign, "made");
    assert_eq!(end_of(&client, &mut followed).await, b"made");
}
