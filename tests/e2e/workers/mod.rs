//! Builds on a farm: `ashlar build --remote`, `ashlar submit` and `ashlar-worker`.
//!
//! The client is an ordinary user without subordinate ids. Workers run as another one, each on a
//! machine with an address of its own where a test asks for that.

mod barrier;
mod commands;
mod failing;
mod faults;
mod full_disk;
mod logins;
mod namespaces;
mod placement;
mod platforms;
mod pressure;
mod secrets;
mod servers;
mod signed;
mod stopping;
mod tls;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use ashlar_test_support::bases;
use ashlar_test_support::cache_server::CacheServer;
use ashlar_test_support::command::{Output, TestCommand};
use ashlar_test_support::context::Context;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::layout::Layout;
use ashlar_test_support::network::Network;
use ashlar_test_support::numbers::Numbers;
use ashlar_test_support::processes;
use ashlar_test_support::user::TestUser;
use ashlar_test_support::worker::Worker;

/// What clients show.
const CLIENT_TOKEN: &str = "a-client-of-the-farm-0123456789";
/// What those show who write results: nobody does here.
const WRITER_TOKEN: &str = "a-writer-of-results-0123456789";
/// What workers show.
const WORKER_TOKEN: &str = "a-worker-of-the-farm-0123456789";

/// The time of what is built, so that builds of two places can be compared.
const EPOCH: &str = "1700000000";

/// A server, and a network with its workers.
struct Site {
    // Workers go before what they are attached to.
    workers: Vec<Worker>,
    server: CacheServer,
    network: Option<Network>,
}

impl Site {
    /// A server on this machine, and workers beside it.
    fn local(workers: usize) -> Self {
        let server = CacheServer::prepare();
        Self::of(server, None, workers, &[])
    }

    /// The same with more arguments of the server.
    fn with(workers: usize, arguments: &[&str]) -> Self {
        let server = CacheServer::prepare().with(arguments);
        Self::of(server, None, workers, &[])
    }

    /// The same where a worker is believed for so long.
    fn with_leases(workers: usize, lease: &str) -> Self {
        Self::with(workers, &["--worker-lease", lease])
    }

    /// A server, and a worker for each of some lists of arguments.
    fn with_workers(workers: &[&[&str]]) -> Self {
        let mut site = Self::local(0);
        for arguments in workers {
            let worker = site.worker(arguments).started();
            site.workers.push(worker);
        }
        site
    }

    /// A server, and workers on machines of their own.
    fn spread(workers: usize, arguments: &[&str]) -> Self {
        Self::spread_with(workers, &[], arguments)
    }

    /// The same with more arguments of the server.
    fn spread_with(workers: usize, of_server: &[&str], of_workers: &[&str]) -> Self {
        let network = Network::start();
        let server = CacheServer::prepare()
            .at(&network.address())
            .with(of_server);
        Self::of(server, Some(network), workers, of_workers)
    }

    fn of(
        server: CacheServer,
        network: Option<Network>,
        workers: usize,
        arguments: &[&str],
    ) -> Self {
        let clients = server.file("client-token", CLIENT_TOKEN);
        let of_workers = server.file("worker-token", WORKER_TOKEN);
        let of_writers = server.file("writer-token", WRITER_TOKEN);
        let server = server
            .for_workers()
            .with(["--write-token-file".into(), of_writers.into_os_string()])
            .with(["--queue-token-file".into(), clients.into_os_string()])
            .with(["--worker-token-file".into(), of_workers.into_os_string()])
            .started();
        let mut site = Self {
            workers: Vec::new(),
            server,
            network,
        };
        for _ in 0..workers {
            let worker = site.worker(arguments).started();
            site.workers.push(worker);
        }
        site
    }

    /// One more worker, not started yet.
    fn worker(&self, arguments: &[&str]) -> Worker {
        let farm = self.server.workers_url();
        let worker = match &self.network {
            Some(network) => Worker::prepare_on(network.join(), &farm),
            None => Worker::prepare(&farm),
        };
        let token = worker.file("token", WORKER_TOKEN);
        worker
            .with(["--token-file".into(), token.into_os_string()])
            .with(arguments)
    }

    /// A client with nothing in its store.
    fn client(&self) -> Client {
        Client::new(&self.server.url())
    }
}

/// Somebody who has a Dockerfile, and neither subordinate ids nor root.
struct Client {
    home: TestHome,
    context: Context,
    url: String,
}

impl Client {
    fn new(url: &str) -> Self {
        Self::of(TestUser::One, url)
    }

    fn of(user: TestUser, url: &str) -> Self {
        let home = TestHome::new(user);
        let context = home.context("context");
        let token = home.path("token");
        home.file(&token, CLIENT_TOKEN);
        Self {
            url: format!("{url},token-file={}", token.display()),
            context,
            home,
        }
    }

    /// `ashlar build --remote` of the context.
    fn build(&self, options: &[&str]) -> TestCommand {
        self.home
            .build_command(&self.context, options)
            .args(["--remote", &self.url])
            .env("SOURCE_DATE_EPOCH", EPOCH)
    }

    /// Another command for the farm: `logs`, `wait`...
    fn farm(&self, arguments: &[&str]) -> TestCommand {
        self.home
            .ashlar(arguments)
            .args(["--remote", &self.url])
            .env("SOURCE_DATE_EPOCH", EPOCH)
    }

    fn layout_path(&self) -> PathBuf {
        self.home.path("layout")
    }

    /// The option that asks for a layout whose times are the epoch's.
    fn layout_option(&self) -> String {
        let dest = self.layout_path();
        let form = "type=oci,tar=false,rewrite-timestamp=true,dest=";
        format!("{form}{}", dest.display())
    }

    /// Builds into a layout; the image's digest, and what the build said.
    #[track_caller]
    fn image(&self, options: &[&str]) -> (String, Output) {
        let layout = self.layout_option();
        let output = self.build(&["-o", &layout]).args(options).run();
        output.success();
        (self.digest(), output)
    }

    /// The digest of the image in the layout, which is taken away.
    fn digest(&self) -> String {
        let digest = Layout::open(self.layout_path()).manifest_digest();
        std::fs::remove_dir_all(self.layout_path()).expect("the layout can be removed");
        digest
    }
}

/// The digest of the same context when it is built on one machine, by a user with subordinate
/// ids as workers are.
#[track_caller]
fn local_digest(write: impl Fn(&Context)) -> String {
    local_digest_with(&[], write)
}

#[track_caller]
fn local_digest_with(options: &[&str], write: impl Fn(&Context)) -> String {
    let home = TestHome::new(TestUser::Sub);
    let context = home.context("context");
    write(&context);
    let dest = home.path("layout");
    let form = "type=oci,tar=false,rewrite-timestamp=true,dest=";
    let output = format!("{form}{}", dest.display());
    home.build_command(&context, &["-o", &output])
        .args(options)
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .run()
        .success();
    Layout::open(dest).manifest_digest()
}

/// Bytes that no compressor makes smaller.
fn noise(seed: u64, size: u64) -> Vec<u8> {
    Numbers::new(seed).bytes(usize::try_from(size).expect("a size"))
}

/// A stage of its own, a copy from the context, and what joins them.
fn simple(context: &Context) {
    let busybox = bases::busybox().reference();
    context
        .dockerfile(&format!(
            "FROM {busybox} AS one\nRUN echo one > /one\n\
             FROM {busybox}\nCOPY files /files\nRUN cat /files/* > /all && id -u > /id\n\
             COPY --from=one /one /one\n"
        ))
        .file("files/a", "a\n")
        .file("files/b", noise(7, 300_000));
}

/// Asserts that no `sleep` of a step goes on, or not for long.
#[track_caller]
fn nothing_sleeps(seconds: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let sleeps = || {
        processes::all()
            .values()
            .any(|process| process.command.trim_end() == format!("sleep {seconds}"))
    };
    while sleeps() {
        assert!(Instant::now() < deadline, "`sleep {seconds}` goes on");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_image_is_the_one_that_a_local_build_makes() {
    let site = Site::local(1);
    let client = site.client();
    simple(&client.context);
    let (digest, output) = client.image(&[]);
    assert_eq!(digest, local_digest(simple), "{output}");
    // Another client runs nothing, and asks no worker.
    let again = site.client();
    simple(&again.context);
    let (same, output) = again.image(&[]);
    assert_eq!(digest, same, "{output}");
    output.progress().assert_ran(&[]);
    site.end();
}

impl Site {
    /// Ends workers and server as operators do, and asserts that all end well.
    fn end(mut self) {
        for worker in &mut self.workers {
            worker.terminate().success();
        }
        self.server.terminate().success();
    }
}
