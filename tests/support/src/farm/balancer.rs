//! One address for several servers: what stands before them where many run.
//!
//! Each connection goes to the next server that says it is ready; those that are open stay where
//! they are, whatever becomes of their server.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::http;

/// How often servers are asked how they are.
const PERIOD: Duration = Duration::from_millis(100);

/// How long one may take to answer that.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_millis(500);

/// A balancer that works until it is dropped.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    backends: Mutex<Vec<Backend>>,
    next: AtomicUsize,
    closed: AtomicBool,
}

/// A server.
#[derive(Debug, Clone, Copy)]
struct Backend {
    /// Where connections go.
    port: u16,
    /// Where it says how it is.
    health: u16,
    ready: bool,
}

impl Balancer {
    /// A balancer before nobody.
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("there is no free port");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::<Shared>::default();
        let server = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if server.closed.load(Ordering::Relaxed) {
                    break;
                }
                let server = Arc::clone(&server);
                thread::spawn(move || server.serve(&client));
            }
        });
        let health = Arc::clone(&shared);
        thread::spawn(move || {
            while !health.closed.load(Ordering::Relaxed) {
                health.look();
                thread::sleep(PERIOD);
            }
        });
        Self { address, shared }
    }

    /// `grpc://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("grpc://{}", self.address)
    }

    /// Puts a server behind it, or says that the one in this place is elsewhere now: connections go
    /// to `port`, and `/readyz` is asked for at `health`.
    pub fn place(&self, number: usize, port: u16, health: u16) {
        let mut backends = self.shared.backends();
        let backend = Backend {
            port,
            health,
            ready: false,
        };
        match backends.get_mut(number) {
            Some(there) => *there = backend,
            None => backends.push(backend),
        }
    }

    /// How many servers are ready.
    pub fn ready(&self) -> usize {
        let backends = self.shared.backends();
        backends.iter().filter(|backend| backend.ready).count()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        // Wakes the listener up, so that it sees this.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    fn backends(&self) -> MutexGuard<'_, Vec<Backend>> {
        self.backends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) {
        let seen = self.backends().clone();
        for (number, backend) in seen.iter().enumerate() {
            let answer = http::get(backend.health, "/readyz", PATIENCE);
            let ready = answer.is_ok_and(|(status, _)| status == 200);
            if let Some(own) = self.backends().get_mut(number)
                && own.health == backend.health
            {
                own.ready = ready;
            }
        }
    }

    /// Connects to a server that is ready; to any, if none is.
    fn connect(&self) -> Option<TcpStream> {
        let backends = self.backends().clone();
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let in_turn = || backends.iter().cycle().skip(start % backends.len().max(1));
        let ready = in_turn().take(backends.len()).filter(|own| own.ready);
        let others = in_turn().take(backends.len()).filter(|own| !own.ready);
        ready.chain(others).find_map(|backend| {
            let address = SocketAddr::from(([127, 0, 0, 1], backend.port));
            TcpStream::connect_timeout(&address, CONNECT).ok()
        })
    }

    fn serve(&self, client: &TcpStream) {
        let Some(server) = self.connect() else {
            return;
        };
        for stream in [client, &server] {
            // It only makes small messages slower.
            drop(stream.set_nodelay(true));
        }
        thread::scope(|scope| {
            scope.spawn(|| pass(client, &server));
            pass(&server, client);
        });
    }
}

/// Passes bytes on in one direction until there are no more.
fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    let mut buffer = vec![0; 1 << 16];
    let copied: io::Result<()> = (|| {
        loop {
            let count = from.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            to.write_all(&buffer[..count])?;
        }
    })();
    match copied {
        // The other direction may go on.
        Ok(()) => drop(to.shutdown(Shutdown::Write)),
        Err(_) => {
            drop(to.shutdown(Shutdown::Both));
            drop(from.shutdown(Shutdown::Both));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// A server that sends its name, and says over HTTP whether it is ready.
    fn named(name: &'static str, ready: bool) -> (u16, u16) {
        let serve = |answer: String| {
            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            thread::spawn(move || {
                for mut stream in listener.incoming().map_while(Result::ok) {
                    let mut request = [0; 4];
                    drop(stream.read(&mut request));
                    drop(stream.write_all(answer.as_bytes()));
                }
            });
            port
        };
        let status = if ready { "200 OK" } else { "503 No" };
        let health = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        (serve(name.to_owned()), serve(health))
    }

    fn ask(balancer: &Balancer) -> String {
        let mut stream = TcpStream::connect(balancer.address).unwrap();
        stream.write_all(b"who?").unwrap();
        let mut name = String::new();
        stream.read_to_string(&mut name).unwrap();
        name
    }

    fn wait_for(balancer: &Balancer, ready: usize) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while balancer.ready() != ready {
            assert!(Instant::now() < deadline, "{balancer:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn connections_go_in_turn_to_those_that_are_ready() {
        let balancer = Balancer::start();
        for (number, (name, ready)) in [("a", true), ("b", false), ("c", true)]
            .into_iter()
            .enumerate()
        {
            let (port, health) = named(name, ready);
            balancer.place(number, port, health);
        }
        wait_for(&balancer, 2);
        let mut seen: Vec<String> = (0..6).map(|_| ask(&balancer)).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen, ["a", "c"]);
        // One that has come to another place.
        let (port, health) = named("new", true);
        balancer.place(0, port, health);
        balancer.place(2, port, health);
        wait_for(&balancer, 2);
        assert_eq!(ask(&balancer), "new");
    }
}
