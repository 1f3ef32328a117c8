//! Debian's docker-registry on a port of its own.

use std::fmt::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::tool::{run, tool};

/// A running registry; ends with this value.
pub(crate) struct DebianRegistry {
    process: Child,
    directory: tempfile::TempDir,
    port: u16,
}

/// How a registry is run.
#[derive(Default)]
pub(crate) struct Options {
    /// User name and password.
    pub(crate) login: Option<(&'static str, &'static str)>,
    /// Whether it speaks TLS, with a certificate of an authority of its own.
    pub(crate) tls: bool,
}

impl DebianRegistry {
    pub(crate) fn start() -> Self {
        Self::with(&Options::default())
    }

    pub(crate) fn with(options: &Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        // Free when asked. Should another process take it meanwhile, the registry does not start,
        // and the test says so.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut config = format!(
            "version: 0.1\nlog: {{level: warn}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n",
            root.join("data").display()
        );
        if let Some((user, password)) = options.login {
            let file = root.join("htpasswd");
            let line = run(tool("htpasswd", "apache2-utils").args(["-nbB", user, password]));
            std::fs::write(&file, line.trim()).unwrap();
            let _infallible = writeln!(
                config,
                "auth: {{htpasswd: {{realm: test, path: {}}}}}",
                file.display()
            );
        }
        let _infallible = write!(config, "http:\n  addr: 127.0.0.1:{port}\n");
        if options.tls {
            make_certificates(root);
            let _infallible = write!(
                config,
                "  tls:\n    certificate: {0}/server.crt\n    key: {0}/server.key\n",
                root.display()
            );
        }
        let path = root.join("config.yml");
        std::fs::write(&path, config).unwrap();
        let log = std::fs::File::create(root.join("log")).unwrap();
        let mut process = tool("docker-registry", "docker-registry")
            .arg("serve")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = process.try_wait().unwrap();
            assert!(
                ended.is_none() && begin.elapsed() < Duration::from_secs(20),
                "docker-registry does not start: {}",
                std::fs::read_to_string(root.join("log")).unwrap()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        Self {
            process,
            directory,
            port,
        }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The authority that signed its certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }
}

impl Drop for DebianRegistry {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

/// An authority, and a certificate of 127.0.0.1 that it signed.
fn make_certificates(root: &Path) {
    let openssl = || {
        let mut command = tool("openssl", "openssl");
        command.current_dir(root);
        command
    };
    let key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ];
    run(openssl()
        .args(["req", "-x509", "-days", "2", "-subj", "/CN=test authority"])
        .args(key)
        .args(["-keyout", "ca.key", "-out", "ca.crt"]));
    run(openssl()
        .args(["req", "-subj", "/CN=registry"])
        .args(key)
        .args(["-keyout", "server.key", "-out", "server.csr"]));
    std::fs::write(
        root.join("extensions"),
        "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n",
    )
    .unwrap();
    run(openssl()
        .args(["x509", "-req", "-days", "2", "-in", "server.csr"])
        .args(["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"])
        .args(["-extfile", "extensions", "-out", "server.crt"]));
}
