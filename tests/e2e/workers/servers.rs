//! Two servers over one Redis and one S3 server, and workers: servers and workers are on machines of
//! their own.

use ashlar_test_support::bases;
use ashlar_test_support::cache_server::CacheServer;
use ashlar_test_support::context::Context;
use ashlar_test_support::network::Network;
use ashlar_test_support::redis::server::{RedisServer, free_port};
use ashlar_test_support::s3::S3;
use ashlar_test_support::worker::Worker;

use super::barrier::Barrier;
use super::placement::stages;
use super::{CLIENT_TOKEN, Client, WORKER_TOKEN, local_digest, local_digest_with};

/// How long workers are believed without a word.
const LEASE: &str = "4s";

/// A farm: what its parts stand on goes last.
pub(super) struct Servers {
    pub(super) workers: Vec<Worker>,
    pub(super) servers: Vec<CacheServer>,
    network: Network,
    pub(super) redis: RedisServer,
    _objects: S3,
}

impl Servers {
    /// `None` where there is no S3 server.
    fn start(test: &str, workers: usize) -> Option<Self> {
        Self::start_with(test, workers, LEASE, &[])
    }

    /// The same where workers are believed for so long without a word, and with more arguments of
    /// theirs.
    pub(super) fn start_with(
        test: &str,
        workers: usize,
        lease: &str,
        arguments: &[&str],
    ) -> Option<Self> {
        let network = Network::start();
        let address = network.address();
        let objects = S3::start_at(test, &address)?;
        // Nobody else is on that network.
        let redis = RedisServer::start_with(&["--bind", "0.0.0.0", "--protected-mode", "no"]);
        let redis_url = format!("redis://{address}:{}", redis.port());
        let machines = [network.join(), network.join()];
        let peers: Vec<String> = machines
            .iter()
            .map(|machine| format!("{}:{}", machine.address(), free_port()))
            .collect();
        let servers = peers.iter().zip(machines).map(|(own, machine)| {
            let server = CacheServer::prepare().on(machine).for_workers();
            let token = |name: &str, text: &str| server.file(name, text).into_os_string();
            let files = [
                ("--queue-token-file", token("clients", CLIENT_TOKEN)),
                ("--worker-token-file", token("workers", WORKER_TOKEN)),
                (
                    "--peer-token-file",
                    token("peers", "the-servers-know-this-word"),
                ),
            ];
            let mut server = server
                .with(["--redis", &redis_url, "--objects", &objects.url()])
                .with(["--peer-listen", own, "--peer-address", own])
                .with(["--worker-lease", lease]);
            for (flag, file) in files {
                server = server.with([flag.into(), file]);
            }
            for other in &peers {
                server = server.with(["--peer", other]);
            }
            for (name, value) in S3::variables(objects.port()) {
                server = server.env(&name, value);
            }
            server.env("AWS_ENDPOINT", objects.endpoint()).started()
        });
        let mut farm = Self {
            servers: servers.collect(),
            workers: Vec::new(),
            network,
            redis,
            _objects: objects,
        };
        for _ in 0..workers {
            let worker =
                Worker::prepare_on(farm.network.join(), &farm.both(CacheServer::workers_url));
            let token = worker.file("token", WORKER_TOKEN);
            let worker = worker
                .with(["--slots", "2"])
                .with(["--token-file".into(), token.into_os_string()])
                .with(arguments);
            farm.workers.push(worker.started());
        }
        Some(farm)
    }

    /// The address of both servers.
    fn both(&self, url: impl Fn(&CacheServer) -> String) -> String {
        let [one, other] = [0, 1].map(|number| url(&self.servers[number]));
        format!("{one}+{}", other.trim_start_matches("grpc://"))
    }

    pub(super) fn client(&self) -> Client {
        Client::new(&self.both(CacheServer::url))
    }

    pub(super) fn end(mut self) {
        for worker in &mut self.workers {
            worker.terminate().success();
        }
        for server in &mut self.servers {
            if server.is_running() {
                server.terminate().success();
            }
        }
    }
}

#[test]
fn stages_run_on_three_workers_of_two_servers() {
    let test = "workers::servers::stages_run_on_three_workers_of_two_servers";
    let Some(farm) = Servers::start(test, 3) else {
        return;
    };
    let address = farm.network.address();
    let barrier = Barrier::at(&address, 0, 4);
    let port = barrier.port();
    let command = |number: usize| {
        format!("test \"$(nc {address} {port} </dev/null)\" = go && echo {number} > /out")
    };
    let commands: Vec<String> = (0..4).map(command).collect();
    let client = farm.client();
    stages(&client.context, &commands);
    let (digest, output) = client.image(&[]);
    let from = barrier.came_from();
    assert_eq!(from.len(), 3, "stages ran on {from:?}\n{output}");
    let barrier = Barrier::at(&address, port, 4);
    let local = local_digest_with(&["--jobs", "4"], |context| stages(context, &commands));
    assert_eq!(digest, local, "{output}");
    assert_eq!(barrier.came_from().len(), 1);
    // Whatever server is asked, it is there.
    for server in &farm.servers {
        let again = Client::new(&server.url());
        stages(&again.context, &commands);
        let (same, output) = again.image(&[]);
        assert_eq!(same, digest, "{output}");
        output.progress().assert_ran(&[]);
    }
    farm.end();
}

fn slow(context: &Context) {
    let busybox = bases::busybox().reference();
    context.dockerfile(&format!(
        "FROM {busybox}\nRUN echo begun; sleep 6.25; echo one > /one\nRUN cat /one /one > /two\n"
    ));
}

#[test]
fn builds_go_on_when_any_server_dies() {
    let test = "workers::servers::builds_go_on_when_any_server_dies";
    let Some(mut farm) = Servers::start(test, 2) else {
        return;
    };
    let right = local_digest(slow);
    // One of the two leads the queue, and each dies once.
    for victim in 0..2 {
        let client = farm.client();
        slow(&client.context);
        let layout = client.layout_option();
        let build = client.build(&["-o", &layout, "--no-cache"]);
        let mut build = build.timeout(std::time::Duration::from_secs(90)).start();
        build.wait_for_output("begun");
        farm.servers[victim].kill();
        let output = build.wait();
        output.success();
        assert_eq!(client.digest(), right, "{output}");
        farm.servers[victim].launch();
    }
    farm.end();
}

#[test]
fn builds_go_on_when_redis_is_started_again() {
    let test = "workers::servers::builds_go_on_when_redis_is_started_again";
    let Some(mut farm) = Servers::start(test, 2) else {
        return;
    };
    let client = farm.client();
    slow(&client.context);
    let layout = client.layout_option();
    let build = client.build(&["-o", &layout]);
    let mut build = build.timeout(std::time::Duration::from_secs(90)).start();
    build.wait_for_output("begun");
    farm.redis.kill();
    std::thread::sleep(std::time::Duration::from_secs(1));
    farm.redis.restart();
    let output = build.wait();
    output.success();
    assert_eq!(client.digest(), local_digest(slow), "{output}");
    farm.end();
}
