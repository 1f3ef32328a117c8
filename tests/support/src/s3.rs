//! An S3 server of a test's own: s3s-fs, with one bucket that is a directory.
//!
//! It may be stopped, killed and started again, and keeps its port and what it holds; in the end
//! all of it goes. [`s3_faults`](crate::s3_faults) makes it misbehave.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::command::{Running, TestCommand};
use crate::environment;
use crate::registry::free_port;
use crate::skip::skip;

/// How long the server may take until it listens.
const STARTUP: Duration = Duration::from_secs(20);

/// The bucket.
pub const BUCKET: &str = "ashlar-test";

/// Who may use it.
pub const ACCESS_KEY: &str = "mason";

/// The word for that.
pub const SECRET_KEY: &str = "chisel-and-mallet";

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct S3 {
    program: PathBuf,
    directory: TempDir,
    host: String,
    port: u16,
    running: Option<Running>,
}

impl S3 {
    /// A server with an empty bucket; `None` where there is no s3s-fs, and the test is noted as
    /// skipped.
    pub fn start(test: &str) -> Option<Self> {
        Self::start_at(test, "127.0.0.1")
    }

    /// The same on another address of this machine.
    pub fn start_at(test: &str, host: &str) -> Option<Self> {
        let program = environment::s3_server();
        if !program.is_file() {
            skip(
                test,
                "there is no s3s-fs: no source gave it (`make test-judges`)",
            );
            return None;
        }
        let directory = tempfile::Builder::new()
            .prefix("ashlar-s3-")
            .tempdir()
            .unwrap_or_else(|error| panic!("no directory for an S3 server: {error}"));
        fs::create_dir(directory.path().join(BUCKET))
            .unwrap_or_else(|error| panic!("no directory for a bucket: {error}"));
        let mut server = Self {
            program,
            directory,
            host: host.to_owned(),
            port: free_port(),
            running: None,
        };
        server.launch();
        Some(server)
    }

    /// Starts it, and waits until it listens.
    pub fn launch(&mut self) {
        assert!(self.running.is_none(), "the S3 server runs already");
        let mut running = TestCommand::root(&self.program.to_string_lossy())
            .args(["--host", &self.host, "--port", &self.port.to_string()])
            .args(["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY])
            .arg(self.directory.path())
            .env("RUST_LOG", "warn")
            .timeout(Duration::from_secs(3600))
            .start();
        let deadline = Instant::now() + STARTUP;
        while TcpStream::connect((self.host.as_str(), self.port)).is_err() {
            assert!(
                running.is_running() && Instant::now() < deadline,
                "s3s-fs does not start:\n{}",
                running.stderr()
            );
            thread::sleep(Duration::from_millis(5));
        }
        self.running = Some(running);
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.running
            .as_ref()
            .expect("the S3 server does not run")
            .id()
    }

    /// `http://HOST:PORT`, for clients that are told no other.
    pub fn endpoint(&self) -> String {
        format!("http://{}:{}", self.host, self.port)
    }

    /// What `--objects` gets.
    pub fn url(&self) -> String {
        format!("s3://{BUCKET}/cache")
    }

    /// What `[object-options]` gets, for a client that is to call this port.
    pub fn options(port: u16) -> Vec<(String, String)> {
        [
            ("endpoint", endpoint(port)),
            ("access_key_id", ACCESS_KEY.to_owned()),
            ("secret_access_key", SECRET_KEY.to_owned()),
            ("region", "us-east-1".to_owned()),
            ("allow_http", "true".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// The same as variables of the environment of `ashlar-cache`.
    pub fn variables(port: u16) -> Vec<(String, String)> {
        Self::options(port)
            .into_iter()
            .map(|(name, value)| (format!("AWS_{}", name.to_uppercase()), value))
            .collect()
    }

    /// The directory that is the bucket.
    pub fn bucket(&self) -> PathBuf {
        self.directory.path().join(BUCKET)
    }

    /// The files of its objects.
    pub fn objects(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect(&self.bucket(), &mut found);
        found.sort();
        found
    }

    /// What is left of uploads in parts that were neither completed nor aborted.
    pub fn unfinished_uploads(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.directory.path()).expect("the server's directory");
        let mut left: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with(".upload")
            })
            .collect();
        left.sort();
        left
    }

    fn process(&self) -> &Running {
        self.running.as_ref().expect("the S3 server does not run")
    }

    /// `kill -9`, and waits until it is dead.
    pub fn kill(&mut self) {
        self.process().signal(Signal::KILL);
        drop(self.running.take().map(Running::wait));
    }

    /// `kill -STOP`: it is there and does not answer.
    pub fn freeze(&self) {
        self.process().signal(Signal::STOP);
    }

    /// Ends [`Self::freeze`].
    pub fn thaw(&self) {
        self.process().signal(Signal::CONT);
    }

    /// Kills it and starts it again, with all that it held.
    pub fn restart(&mut self) {
        self.kill();
        self.launch();
    }
}

fn endpoint(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// The files below a directory; what goes away meanwhile is not among them.
fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.map_while(Result::ok) {
        let name = entry.file_name();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found);
        } else if !name.to_string_lossy().starts_with('.') {
            // The server's own notes begin with a dot.
            found.push(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_listens_where_it_did_after_it_was_killed() {
        let Some(mut server) = S3::start("it_listens_where_it_did_after_it_was_killed") else {
            return;
        };
        let port = server.port();
        assert_eq!(server.objects(), Vec::<PathBuf>::new());
        server.restart();
        assert_eq!(server.port(), port);
        TcpStream::connect(("127.0.0.1", port)).unwrap();
    }
}
