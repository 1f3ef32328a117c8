//! An `ashlar-cache` of a test's own, run by an ordinary user.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::binary;
use crate::command::{Output, Running, TestCommand};
use crate::environment;
use crate::http;
use crate::network::Namespace;
use crate::redis::server::free_port;
use crate::user::TestUser;

/// How long the server may take until it listens: whatever it holds, it does so at once.
const STARTUP: Duration = Duration::from_secs(10);

/// As whom it runs. Not the one who builds, for most tests.
const USER: TestUser = TestUser::One;

/// A server with a directory. It may be killed and launched again, and keeps what it has; in the
/// end all of it goes.
#[derive(Debug)]
pub struct CacheServer {
    directory: TempDir,
    arguments: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    scheme: &'static str,
    address: String,
    port: u16,
    /// Where workers come in.
    workers_port: Option<u16>,
    on_socket: bool,
    rootless: bool,
    // It ends before its machine does.
    running: Option<Running>,
    machine: Option<Namespace>,
}

impl CacheServer {
    /// A server on a port of the loopback interface, with nothing in it.
    pub fn start() -> Self {
        Self::prepare().started()
    }

    /// A server that is not started yet.
    pub fn prepare() -> Self {
        let directory = environment::scratch_directory("cache");
        USER.make_directory(directory.path().join("root"));
        USER.own(directory.path());
        Self {
            directory,
            arguments: Vec::new(),
            environment: Vec::new(),
            scheme: "grpc",
            address: "127.0.0.1".to_owned(),
            port: free_port(),
            workers_port: None,
            on_socket: false,
            rootless: false,
            running: None,
            machine: None,
        }
    }

    /// With some more arguments of `ashlar-cache serve`.
    #[must_use]
    pub fn with<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        let arguments = arguments
            .into_iter()
            .map(|argument| argument.as_ref().to_owned());
        self.arguments.extend(arguments);
        self
    }

    /// With a variable in its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// On a Unix socket instead of a port, for everybody.
    #[must_use]
    pub fn on_socket(mut self) -> Self {
        self.on_socket = true;
        self.with(["--socket-mode", "666"])
    }

    /// On another address of this machine than the loopback interface's.
    #[must_use]
    pub fn at(mut self, address: &str) -> Self {
        address.clone_into(&mut self.address);
        self
    }

    /// On a machine of its own.
    #[must_use]
    pub fn on(mut self, machine: Namespace) -> Self {
        machine.address().clone_into(&mut self.address);
        self.machine = Some(machine);
        self
    }

    /// With a port for workers.
    #[must_use]
    pub fn for_workers(mut self) -> Self {
        self.workers_port = Some(free_port());
        self
    }

    /// Without a directory: what it keeps is elsewhere.
    #[must_use]
    pub fn without_root(mut self) -> Self {
        self.rootless = true;
        self
    }

    /// Called by clients with `grpcs://`.
    #[must_use]
    pub fn secure(mut self) -> Self {
        self.scheme = "grpcs";
        self
    }

    /// Started for the first time.
    #[must_use]
    pub fn started(mut self) -> Self {
        self.launch();
        self
    }

    /// Starts it, and waits until it listens.
    pub fn launch(&mut self) {
        assert!(self.running.is_none(), "the server runs already");
        let program = binary::ashlar_cache();
        let command = match &self.machine {
            Some(machine) => machine.command(USER, program),
            None => TestCommand::new(USER, program),
        };
        let mut command = command
            .arg("serve")
            .args(["--listen", &self.listen()])
            .args(&self.arguments)
            .directory(self.directory.path())
            .timeout(Duration::from_secs(3600));
        if let Some(port) = self.workers_port {
            command = command.args(["--worker-listen", &format!("{}:{port}", self.address)]);
        }
        if !self.rootless {
            command = command.arg("--root").arg(self.root());
        }
        for (name, value) in &self.environment {
            command = command.env(name, value);
        }
        let mut running = command.start();
        let deadline = Instant::now() + STARTUP;
        while !self.listens() {
            assert!(
                running.is_running() && Instant::now() < deadline,
                "ashlar-cache does not listen:\n{}",
                running.stderr()
            );
            thread::sleep(Duration::from_millis(2));
        }
        self.running = Some(running);
    }

    fn listens(&self) -> bool {
        if self.on_socket {
            UnixStream::connect(self.socket()).is_ok()
        } else {
            TcpStream::connect((self.address.as_str(), self.port)).is_ok()
        }
    }

    /// What `--listen` gets.
    fn listen(&self) -> String {
        if self.on_socket {
            format!("unix:{}", self.socket().display())
        } else {
            format!("{}:{}", self.address, self.port)
        }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// What `--cache` gets.
    pub fn url(&self) -> String {
        if self.on_socket {
            format!("unix://{}", self.socket().display())
        } else if self.scheme == "grpcs" {
            // The name that the certificates of the tests are for.
            format!("grpcs://localhost:{}", self.port)
        } else {
            format!("{}://{}:{}", self.scheme, self.address, self.port)
        }
    }

    /// What `--farm` of workers gets.
    pub fn workers_url(&self) -> String {
        let port = self.workers_port.expect("it has no port for workers");
        format!("grpc://{}:{port}", self.address)
    }

    /// The status and the body of one of its pages: `/metrics`, `/healthz`, `/readyz`.
    #[track_caller]
    pub fn get(&self, path: &str) -> (u16, String) {
        http::get_from(&format!("{}:{}", self.address, self.port), path, STARTUP)
            .unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.log()))
    }

    /// The machine that it is on, if that is one of its own.
    pub fn machine(&self) -> Option<&Namespace> {
        self.machine.as_ref()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its directory, which `--root` names.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// A path beside its directory, for a file that it reads.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file beside its directory, that the server can read and nobody else but root.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap_or_else(|error| panic!("{name}: {error}"));
        self.owned(&path, 0o600);
        path
    }

    fn owned(&self, path: &Path, mode: u32) {
        USER.own(path);
        fs::set_permissions(path, Permissions::from_mode(mode))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// `ashlar-cache` with some arguments, by the user who runs the server.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> TestCommand {
        TestCommand::new(USER, binary::ashlar_cache())
            .args(arguments)
            .directory(self.directory.path())
    }

    /// What it wrote to standard error since it was launched.
    pub fn log(&self) -> String {
        self.process().stderr()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process().id()
    }

    fn process(&self) -> &Running {
        self.running.as_ref().expect("the server does not run")
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.running.as_mut().is_some_and(Running::is_running)
    }

    /// `kill -9`, and waits until it is dead.
    pub fn kill(&mut self) {
        self.process().signal(Signal::KILL);
        let output = self.running.take().map(Running::wait);
        let signal = output.as_ref().and_then(Output::signal);
        assert_eq!(signal, Some(9), "the server had ended before: {output:?}");
    }

    /// Launches it again after [`Self::kill`], on another port: the old one may be somebody else's.
    pub fn launch_elsewhere(&mut self) {
        self.port = free_port();
        self.launch();
    }

    /// `kill -STOP`: it is there and does not answer.
    pub fn freeze(&self) {
        self.process().signal(Signal::STOP);
    }

    /// Ends [`Self::freeze`].
    pub fn thaw(&self) {
        self.process().signal(Signal::CONT);
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process().signal(signal);
    }

    /// `kill -TERM`, and gives its end.
    pub fn terminate(&mut self) -> Output {
        self.process().signal(Signal::TERM);
        self.running
            .take()
            .map(Running::wait)
            .expect("the server does not run")
    }
}
