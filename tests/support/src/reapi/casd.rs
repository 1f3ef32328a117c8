//! buildbox-casd: a server of its own, or a proxy before another one.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::judge;
use crate::command::{Running, TestCommand};
use crate::environment;
use crate::registry::free_port;
use crate::user::TestUser;

const STARTUP: Duration = Duration::from_secs(20);

const USER: TestUser = TestUser::One;

/// A buildbox-casd that runs until it is dropped. It knows SHA-256, and nothing of Ashlar.
#[derive(Debug)]
pub struct Casd {
    directory: TempDir,
    port: u16,
    running: Running,
}

impl Casd {
    /// A server with nothing in it; `None` where there is no buildbox-casd.
    pub fn server(test: &str) -> Option<Self> {
        Self::start(test, &[])
    }

    /// The instance of a proxy that has large blobs in chunks.
    pub const CHUNKED: &str = "chunked";

    /// The instance of a proxy that is its own store and nothing more.
    pub const LOCAL: &str = "local";

    /// A proxy of another server: what its nameless instance is given it sends there.
    pub fn proxy_of(test: &str, port: u16) -> Option<Self> {
        Self::start(
            test,
            &[
                &format!("--remote=http://127.0.0.1:{port}"),
                &format!("--local-server-instance={}", Self::LOCAL),
                "--proxy-instance=",
                &format!("--proxy-instance={}:", Self::CHUNKED),
                &format!("--enable-chunking-for-instance={}", Self::CHUNKED),
                "--retry-limit=1",
            ],
        )
    }

    fn start(test: &str, options: &[&str]) -> Option<Self> {
        let program = judge("buildbox-casd", test)?;
        let directory = environment::scratch_directory("casd");
        USER.own(directory.path());
        let port = free_port();
        let mut running = TestCommand::new(USER, program)
            .args(["--log-level", "info", "--bind"])
            .arg(format!("127.0.0.1:{port}"))
            .args(options)
            .arg(directory.path().join("root"))
            .timeout(Duration::from_secs(3600))
            .start();
        let deadline = Instant::now() + STARTUP;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                running.is_running() && Instant::now() < deadline,
                "buildbox-casd does not start:\n{}",
                running.stderr()
            );
            thread::sleep(Duration::from_millis(10));
        }
        Some(Self {
            directory,
            port,
            running,
        })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What `--cache` gets.
    pub fn url(&self) -> String {
        format!("grpc://127.0.0.1:{}", self.port)
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        self.running.stderr()
    }

    /// The files of the blobs that it holds.
    pub fn blobs(&self) -> Vec<PathBuf> {
        let objects = self.directory.path().join("root/cas/objects");
        let mut found = Vec::new();
        let mut directories = vec![objects];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory)
                .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
                .map_while(Result::ok)
            {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    directories.push(entry.path());
                } else {
                    found.push(entry.path());
                }
            }
        }
        found.sort();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_listens_and_holds_nothing() {
        let Some(casd) = Casd::server("it_listens_and_holds_nothing") else {
            return;
        };
        assert!(casd.log().contains("Server listening"), "{}", casd.log());
        // It has the empty blob from the beginning.
        let blobs = casd.blobs();
        assert!(
            blobs
                .iter()
                .all(|blob| fs::metadata(blob).unwrap().len() == 0),
            "{blobs:?}"
        );
    }
}
