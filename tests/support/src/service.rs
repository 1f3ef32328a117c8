//! A network service in a container.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::command::{Output, Running};
use crate::home::TestHome;
use crate::registry::free_port;

/// How long a service may take until it answers.
const STARTUP: Duration = Duration::from_secs(60);

/// An image that serves HTTP on the port that `PORT` names, run by `ashlar run` until it is
/// stopped or dropped.
#[derive(Debug)]
pub struct Service {
    running: Running,
    port: u16,
}

impl Service {
    /// Runs an image with some options, and waits until it accepts connections.
    pub fn start(home: &TestHome, image: &str, options: &[&str]) -> Self {
        let port = free_port();
        let mut running = home
            .ashlar(["run", "--rm", "-e", &format!("PORT={port}")])
            .args(options)
            .arg(image)
            .start();
        let deadline = Instant::now() + STARTUP;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                running.is_running() && Instant::now() < deadline,
                "{image} does not serve on port {port}:\n{}",
                running.stderr()
            );
            thread::sleep(Duration::from_millis(10));
        }
        Self { running, port }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The status and the body of a path.
    #[track_caller]
    pub fn get(&self, path: &str) -> (u16, String) {
        let answer = self.exchange(path).unwrap_or_else(|error| {
            panic!("{path}: {error}\n{}", self.running.stderr());
        });
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("{path}: no HTTP: {answer:?}"));
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.unwrap_or_else(|| panic!("{path}: no status: {head:?}"));
        (status, body.to_owned())
    }

    fn exchange(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(STARTUP))?;
        // HTTP/1.0: the answer ends with the connection.
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Stops it as `docker stop` does, and gives its end.
    pub fn stop(self) -> Output {
        self.running.signal(Signal::TERM);
        self.running.wait()
    }
}
