//! Debian's docker-registry: the real thing, started for one test.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Authority, free_port};
use crate::command::{Running, TestCommand};
use crate::environment;

/// How long the registry may take until it answers.
const STARTUP: Duration = Duration::from_secs(20);

/// The line of an htpasswd file for [`super::USER`] and [`super::PASSWORD`], as `htpasswd -nbB`
/// gives it. The registry takes bcrypt only.
const HTPASSWD: &str = "ashlar:$2y$05$ITatldt0MuVXIBSphyW31OVvqbCL72wftOPC2a7wBU8Clrlxl67R6\n";

/// Whom a registry lets in, and how.
#[derive(Debug, Clone, Copy)]
pub enum Access<'a> {
    /// Everybody, over plain HTTP.
    Open,
    /// The user with a password, over plain HTTP.
    Password,
    /// Everybody who trusts its authority, over HTTPS.
    Tls(&'a Authority),
}

/// A registry that runs until it is dropped.
#[derive(Debug)]
pub struct Registry {
    port: u16,
    directory: TempDir,
    _running: Running,
}

impl Registry {
    /// An open registry with nothing in it.
    pub fn start() -> Self {
        Self::start_with(Access::Open)
    }

    /// A registry with nothing in it.
    pub fn start_with(access: Access<'_>) -> Self {
        let directory = environment::scratch_directory("registry");
        let port = free_port();
        let path = |name: &str| directory.path().join(name);
        let mut config = format!(
            "version: 0.1\n\
             log: {{level: warn}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"",
            path("data").display()
        );
        if let Access::Tls(authority) = access {
            let (certificate, key) = authority.server();
            write!(
                config,
                ", tls: {{certificate: {}, key: {}}}",
                certificate.display(),
                key.display()
            )
            .expect("a string takes anything");
        }
        config.push_str("}\n");
        if let Access::Password = access {
            fs::write(path("htpasswd"), HTPASSWD).expect("cannot write a password file");
            let htpasswd = path("htpasswd");
            writeln!(
                config,
                "auth: {{htpasswd: {{realm: test, path: {}}}}}",
                htpasswd.display()
            )
            .expect("a string takes anything");
        }
        fs::write(path("config.yml"), config).expect("cannot write a registry's configuration");
        let mut running = TestCommand::root("docker-registry")
            .arg("serve")
            .arg(path("config.yml"))
            .timeout(Duration::from_secs(3600))
            .start();
        let deadline = Instant::now() + STARTUP;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                running.is_running() && Instant::now() < deadline,
                "docker-registry does not start:\n{}",
                running.stderr()
            );
            thread::sleep(Duration::from_millis(10));
        }
        Self {
            port,
            directory,
            _running: running,
        }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:PORT/NAME`.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.host())
    }

    /// Where a blob is stored.
    pub fn blob_path(&self, digest: &str) -> std::path::PathBuf {
        let hexadecimal = digest.trim_start_matches("sha256:");
        self.directory.path().join(format!(
            "data/docker/registry/v2/blobs/sha256/{}/{hexadecimal}/data",
            &hexadecimal[..2]
        ))
    }
}
