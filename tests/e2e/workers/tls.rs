//! Workers and clients over TLS, with tokens of an issuer or with certificates.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use ashlar_test_support::cache_server::CacheServer;
use ashlar_test_support::command::TestCommand;
use ashlar_test_support::farm::CONFIGURATION;
use ashlar_test_support::farm::member::with_files;
use ashlar_test_support::jwt::Issuer;
use ashlar_test_support::registry::Authority;
use ashlar_test_support::user::TestUser;
use ashlar_test_support::worker::Worker;

use super::{CLIENT_TOKEN, Client, Site, WORKER_TOKEN, local_digest, simple};

/// Jobs of a team queue work for it, and machines with its name do the work.
const SETTINGS: &str = r#"
[[jwt]]
issuer = "https://ci.example"
audience = "ashlar-cache"
jwks = "{dir}/keys.json"

[[rule]]
name = "jobs"
claims = { job = "build", team = "{team}" }
grants = [{ namespace = "{team}", rights = ["read", "queue"] }]

[[rule]]
name = "workers"
claims = { job = "worker", team = "{team}" }
grants = [{ namespace = "{team}", rights = ["work"] }]

[[rule]]
name = "machines"
certificate = "worker-{n}.example"
grants = [{ namespace = "acme", rights = ["work"] }]
"#;

/// A server with certificates, and those who stand for it and for its callers.
struct Scene {
    server: CacheServer,
    issuer: Issuer,
    authority: Authority,
    machines: Authority,
}

impl Scene {
    fn start() -> Self {
        let (issuer, authority, machines) =
            (Issuer::new("key-1"), Authority::new(), Authority::new());
        let files = [
            ("keys.json", issuer.key_set()),
            (CONFIGURATION, SETTINGS.to_owned()),
        ]
        .map(|(name, text)| (name.to_owned(), text));
        let server = with_files(CacheServer::prepare(), &files);
        let (certificate, key) = authority.server();
        let given = |name: &str, content: Vec<u8>| server.file(name, content).into_os_string();
        let flags = [
            (
                "--tls-cert",
                given("server.crt", fs::read(certificate).unwrap()),
            ),
            ("--tls-key", given("server.key", fs::read(key).unwrap())),
            (
                "--tls-client-ca",
                given("machines.crt", machines.certificate()),
            ),
        ];
        let mut server = server;
        for (flag, file) in flags {
            server = server.with([flag.into(), file]);
        }
        Self {
            server: server.secure().for_workers().started(),
            issuer,
            authority,
            machines,
        }
    }

    fn token(&self, job: &str, team: &str) -> String {
        self.issuer.token(&[("job", job), ("team", team)])
    }

    /// A worker that knows the server's authority.
    fn worker(&self) -> Worker {
        let worker = self.stranger();
        let ca = worker.file("ca.pem", self.authority.certificate());
        worker.with(["--ca".into(), ca.into_os_string()])
    }

    /// One that does not.
    fn stranger(&self) -> Worker {
        Worker::prepare(&self.server.workers_url().replace("grpc://", "grpcs://"))
    }

    /// A client of a team with some token.
    fn client(&self, team: &str, token: &str) -> Client {
        let mut client = Client::of(TestUser::One, &self.server.url());
        client.home.file(&client.home.path("token"), token);
        let ca = client.home.path("ca.pem");
        client.home.file(&ca, self.authority.certificate());
        client.url = format!("{},instance={team},ca={}", client.url, ca.display());
        client
    }
}

fn with_token(worker: Worker, token: &str) -> Worker {
    let file = worker.file("token", token);
    worker.with(["--token-file".into(), file.into_os_string()])
}

/// Starts a worker that the farm does not take, and waits until it says why.
#[track_caller]
fn refused(worker: Worker, why: &[&str]) {
    let mut worker = worker;
    worker.launch_lost();
    told(&worker, why);
    assert!(
        !worker.log().contains("attached to the farm"),
        "{}",
        worker.log()
    );
    let ready = worker.get("/readyz").expect("it has pages");
    assert_eq!(ready.0, 503, "{ready:?}");
    worker.terminate().success();
}

/// Waits until a worker's log has some words.
#[track_caller]
fn told(worker: &Worker, why: &[&str]) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !why.iter().all(|why| worker.log().contains(why)) {
        let log = worker.log();
        assert!(Instant::now() < deadline, "{why:?} is not said: {log}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn workers_and_clients_come_with_tokens_of_an_issuer() {
    let mut scene = Scene::start();
    let mut worker = with_token(scene.worker(), &scene.token("worker", "acme")).started();
    let client = scene.client("acme", &scene.token("build", "acme"));
    simple(&client.context);
    let (digest, output) = client.image(&[]);
    assert_eq!(digest, local_digest(simple), "{output}");

    // What is for the one port is nothing on the other.
    refused(
        with_token(scene.worker(), &scene.token("build", "acme")),
        &["does not let you work"],
    );
    let client = scene.client("acme", &scene.token("worker", "acme"));
    simple(&client.context);
    let output = client.build(&[]).run();
    assert_eq!(output.code(), Some(3), "{output}");
    output.one_error();
    output.stderr_has("have work done by workers in `acme`");
    // Nor is a token of another team.
    let client = scene.client("acme", &scene.token("build", "zeta"));
    simple(&client.context);
    let output = client.build(&[]).run();
    assert_eq!(output.code(), Some(3), "{output}");
    output.one_error();
    output.stderr_has("in `acme`");
    let other = with_token(scene.worker(), &scene.token("worker", "zeta"));
    refused(other.with(["--instance", "acme"]), &["`acme`"]);
    worker.terminate().success();
    scene.server.terminate().success();
}

#[test]
fn workers_come_with_certificates() {
    let mut scene = Scene::start();
    let machine = machine(&scene.machines);
    let file = |name: &str| fs::read(machine.join(name)).unwrap();
    let shown = |worker: Worker| {
        let (certificate, key) = (file("worker.crt"), file("worker.key"));
        let cert = worker.file("cert.pem", certificate);
        let key = worker.file("key.pem", key);
        worker
            .with(["--cert".into(), cert.into_os_string()])
            .with(["--key".into(), key.into_os_string()])
    };
    let mut worker = shown(scene.worker()).started();
    let client = scene.client("acme", &scene.token("build", "acme"));
    simple(&client.context);
    client.build(&[]).run().success();
    refused(scene.worker(), &["none was sent"]);
    refused(shown(scene.stranger()), &["certificate"]);
    worker.terminate().success();
    scene.server.terminate().success();
}

#[test]
fn a_worker_at_the_port_of_clients_is_told_so() {
    let site = Site::local(0);
    let worker = Worker::prepare(&site.server.url());
    refused(with_token(worker, WORKER_TOKEN), &["port for workers"]);
    // And a client's token is none of a worker.
    let worker = Worker::prepare(&site.server.workers_url());
    refused(with_token(worker, CLIENT_TOKEN), &["does not let you work"]);
    site.end();
}

#[test]
fn a_worker_whose_token_is_taken_away_is_let_go() {
    let mut site = Site::local(0);
    let worker = Worker::prepare(&site.server.workers_url());
    let mut worker = with_token(worker, WORKER_TOKEN).started();
    let another = "another-token-of-workers-0123456789";
    site.server.file("worker-token", another);
    told(&worker, &["the token that was sent is not one"]);
    assert_eq!(worker.get("/readyz").map(|page| page.0), Some(503));
    // It reads its own file anew.
    worker.file("token", another);
    worker.wait_until_ready();
    site.workers.push(worker);
    let client = site.client();
    simple(&client.context);
    client.build(&[]).run().success();
    site.end();
}

/// A certificate of a machine, `worker.crt` and `worker.key`, beside its authority.
fn machine(authority: &Authority) -> PathBuf {
    let directory: &Path = authority.directory();
    let openssl = |arguments: &str| {
        TestCommand::root("openssl")
            .args(arguments.split(' '))
            .directory(directory)
            .run()
            .success();
    };
    openssl(
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=worker-3.example \
         -keyout worker.key -out worker.csr",
    );
    let names = "subjectAltName=DNS:worker-3.example\nbasicConstraints=CA:FALSE\n";
    fs::write(directory.join("names-of-worker"), names).unwrap();
    openssl(
        "x509 -req -in worker.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
         -extfile names-of-worker -out worker.crt",
    );
    directory.to_owned()
}
