//! One Redis server.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::client::{Client, Reply};
use super::{PATIENCE, wait_until};

/// A port that nobody listens on now. None of those that the kernel gives to connections, so that a
/// server that is down for a while can come back to its port.
pub fn free_port() -> u16 {
    const FIRST: u16 = 12_000;
    const COUNT: u64 = 20_000;
    loop {
        let number = RandomState::new().build_hasher().finish() % COUNT;
        let port = FIRST + u16::try_from(number).expect("below 20,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A Redis server that writes everything to its append-only file before it answers, so that it can
/// be killed and come back with what it had. In the end all of it goes.
#[derive(Debug)]
pub struct RedisServer {
    directory: TempDir,
    arguments: Vec<String>,
    password: Option<String>,
    port: u16,
    bus: Option<u16>,
    child: Option<Child>,
}

impl RedisServer {
    /// A server with nothing in it.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// A server with some more arguments: `--maxmemory 10mb`, each word an argument.
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::launched(arguments, false)
    }

    /// A node of a cluster, which knows no other yet.
    pub(super) fn start_node(arguments: &[&str]) -> Self {
        Self::launched(arguments, true)
    }

    fn launched(arguments: &[&str], node: bool) -> Self {
        let password = arguments
            .iter()
            .position(|&argument| argument == "--requirepass")
            .and_then(|at| arguments.get(at + 1));
        let mut server = Self {
            directory: tempfile::Builder::new()
                .prefix("ashlar-redis-")
                .tempdir()
                .expect("a temporary directory"),
            arguments: arguments.iter().map(|&one| one.to_owned()).collect(),
            password: password.map(|&one| one.to_owned()),
            port: 0,
            bus: None,
            child: None,
        };
        // Another may take a port between a look at it and its use.
        for _ in 0..20 {
            server.port = free_port();
            server.bus = node.then(free_port);
            if server.launch() {
                return server;
            }
        }
        panic!("redis-server does not start:\n{}", server.log());
    }

    /// Starts the process. Whether it answers; it may take as long as it needs to load its data.
    fn launch(&mut self) -> bool {
        let directory = self.directory.path();
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--dir".as_ref(), directory.as_os_str()])
            .args(["--logfile".as_ref(), directory.join("log").as_os_str()])
            .args(["--save", "", "--appendonly", "yes"])
            // Written before it answers, and not held back until a sync has ended: the tests kill
            // servers, not the machine.
            .args(["--appendfsync", "no"])
            .args(["--enable-debug-command", "yes"])
            .args(["--repl-diskless-sync-delay", "0"])
            .args(["--repl-ping-replica-period", "1"]);
        if let Some(bus) = self.bus {
            command
                .args(["--cluster-enabled", "yes"])
                .args(["--cluster-port", &bus.to_string()])
                .args(["--cluster-node-timeout", "1500"]);
        }
        self.spawn(command.args(&self.arguments));
        self.answers()
    }

    /// A Sentinel with this configuration, which it writes to as it goes.
    pub(super) fn start_sentinel(configuration: &str) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("ashlar-sentinel-")
            .tempdir()
            .expect("a temporary directory");
        let mut server = Self {
            directory,
            arguments: Vec::new(),
            password: None,
            port: 0,
            bus: None,
            child: None,
        };
        let file = server.directory.path().join("sentinel.conf");
        for _ in 0..20 {
            server.port = free_port();
            let whole = format!("port {}\nbind 127.0.0.1\n{configuration}", server.port);
            fs::write(&file, whole).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            server.spawn(
                Command::new("redis-server")
                    .arg(&file)
                    .arg("--sentinel")
                    .args(["--dir".as_ref(), server.directory.path().as_os_str()])
                    .args(["--logfile".as_ref(), server.log_file().as_os_str()]),
            );
            if server.answers() {
                return server;
            }
        }
        panic!("a Sentinel does not start:\n{}", server.log());
    }

    fn spawn(&mut self, command: &mut Command) {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("redis-server: {error}: install Debian's package redis-server")
            });
        self.child = Some(child);
    }

    /// Whether it begins to answer; not if it ends instead.
    fn answers(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Ok(Reply::Status(_)) = self.try_command(&["PING"]) {
                return true;
            }
            let child = self.child.as_mut().expect("it was started");
            if child.try_wait().expect("cannot wait for a child").is_some() {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
        false
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port on which nodes of a cluster speak with each other.
    pub(super) fn bus(&self) -> u16 {
        self.bus.expect("it is no node of a cluster")
    }

    /// Host and port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What `--redis` gets.
    pub fn url(&self) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@{}", self.address()),
            None => format!("redis://{}", self.address()),
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it does not run").id()
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// What it wrote to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// A connection of one's own.
    pub fn client(&self) -> io::Result<Client> {
        Client::connect(self.port, self.password.as_deref(), PATIENCE)
    }

    fn try_command(&self, arguments: &[&str]) -> io::Result<Reply> {
        self.client()?.command(arguments)
    }

    /// The answer to a command, given over a fresh connection.
    #[track_caller]
    pub fn command(&self, arguments: &[&str]) -> Reply {
        match self.try_command(arguments) {
            Ok(Reply::Error(error)) => panic!("{arguments:?}: {error}"),
            Ok(reply) => reply,
            Err(error) => panic!("{arguments:?}: {error}\n{}", self.log()),
        }
    }

    /// A line of `INFO`.
    #[track_caller]
    pub fn info(&self, name: &str) -> String {
        let info = self.command(&["INFO", "everything"]).text();
        let prefix = format!("{name}:");
        info.lines()
            .find_map(|line| line.strip_prefix(&prefix))
            .unwrap_or_else(|| panic!("INFO has no {name}"))
            .to_owned()
    }

    /// A line of `INFO`, from a server that may be changing its role: it cuts its connections then.
    pub fn try_info(&self, name: &str) -> Option<String> {
        let info = self.try_command(&["INFO", "everything"]).ok()?.text();
        let prefix = format!("{name}:");
        let line = info.lines().find_map(|line| line.strip_prefix(&prefix));
        line.map(ToOwned::to_owned)
    }

    /// Takes everything away, as an operator or an attacker would.
    pub fn flush(&self) {
        self.command(&["FLUSHALL"]);
    }

    /// Lets it forget all scripts.
    pub fn forget_scripts(&self) {
        self.command(&["SCRIPT", "FLUSH"]);
    }

    /// Answers nobody for a while.
    pub fn pause(&self, time: Duration) {
        self.command(&["CLIENT", "PAUSE", &time.as_millis().to_string(), "ALL"]);
    }

    /// Refuses all writes for want of memory, or ends that.
    pub fn set_out_of_memory(&self, full: bool) {
        self.command(&["CONFIG", "SET", "maxmemory", if full { "1" } else { "0" }]);
    }

    /// Breaks all connections but the one that says so.
    pub fn cut_connections(&self) {
        for kind in ["normal", "pubsub"] {
            self.command(&["CLIENT", "KILL", "TYPE", kind]);
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it does not run");
        kill_process(Pid::from_child(child), signal).expect("cannot send a signal");
    }

    /// Stands still, with its connections open, until [`Self::cont`].
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// Goes on.
    pub fn cont(&self) {
        self.signal(Signal::CONT);
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("cannot kill a child");
            child.wait().expect("cannot wait for a child");
        }
    }

    /// Whether it has not been killed.
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Starts it again, on its port and with its data; kills it before if it runs.
    pub fn restart(&mut self) {
        self.kill();
        assert!(
            self.launch(),
            "redis-server does not come back:\n{}",
            self.log()
        );
    }

    /// Starts it again without its data.
    pub fn restart_empty(&mut self) {
        self.kill();
        let path = self.directory.path().join("appendonlydir");
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                panic!("{}: {error}", path.display())
            }
            _ => {}
        }
        self.restart();
    }

    /// Makes it the replica of another, and waits until it has all of its data.
    pub fn replicate(&self, master: &Self) {
        self.command(&["REPLICAOF", "127.0.0.1", &master.port.to_string()]);
        self.wait_for_link();
    }

    /// Waits until a replica has its master's data.
    pub fn wait_for_link(&self) {
        wait_until("the replica's link", || {
            self.info("master_link_status") == "up"
        });
    }

    /// Makes a replica the master.
    pub fn promote(&self) {
        self.command(&["REPLICAOF", "NO", "ONE"]);
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_with_or_without_its_data() {
        let mut server = RedisServer::start();
        server.command(&["SET", "k", "v"]);
        server.restart();
        assert_eq!(server.command(&["GET", "k"]).text(), "v");
        server.stop();
        server.cont();
        server.restart_empty();
        assert_eq!(server.command(&["GET", "k"]), Reply::Nil);
        let id = server.id();
        drop(server);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }

    #[test]
    fn it_refuses_writes_when_so_told() {
        let server = RedisServer::start_with(&["--requirepass", "secret"]);
        server.set_out_of_memory(true);
        let mut client = server.client().unwrap();
        let Reply::Error(error) = client.command(&["SET", "k", "v"]).unwrap() else {
            panic!("it takes writes");
        };
        assert!(error.starts_with("OOM"), "{error}");
        server.set_out_of_memory(false);
        client.command(&["SET", "k", "v"]).unwrap();
        assert_eq!(server.command(&["GET", "k"]).text(), "v");
    }
}
