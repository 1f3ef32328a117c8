//! A TCP proxy that counts what passes, and does to connections what a real network does.
//!
//! A [`Wire`] lies between one client and one server. It is sound until it is told otherwise, at
//! any time: for connections to come ([`Wire::set`]) or for those that are open
//! ([`Wire::now`]). With [`Plan::Seeded`] each connection gets a trouble that follows from the
//! seed and the connection's number, and from nothing else.

mod connection;
mod plan;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use connection::Connection;
pub use plan::{Direction, Plan, Trouble};

/// A proxy that serves until it is dropped.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What has passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Connections that clients made, refused ones among them.
    pub connections: u64,
    /// Bytes from clients to the server.
    pub up: u64,
    /// Bytes from the server to clients.
    pub down: u64,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<SocketAddr>,
    plan: Mutex<Plan>,
    open: Mutex<Vec<Arc<Connection>>>,
    closed: AtomicBool,
    connections: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
}

impl Wire {
    /// A proxy before a server on a port of the loopback interface. It does no harm.
    pub fn before(port: u16) -> Self {
        Self::with_plan(port, Plan::Sound)
    }

    /// A proxy that does to connections what a plan says.
    pub fn with_plan(port: u16, plan: Plan) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("there is no free port");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared {
            target: Mutex::new(SocketAddr::from(([127, 0, 0, 1], port))),
            plan: Mutex::new(plan),
            open: Mutex::default(),
            closed: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
        });
        let server = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if server.closed.load(Ordering::Relaxed) {
                    break;
                }
                server.accept(client);
            }
        });
        Self { address, shared }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// `grpc://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("grpc://{}", self.address)
    }

    /// The same place under an address that does not say that it is on this machine. Clients treat
    /// it as one across a network, and compress what they send.
    pub fn far_url(&self) -> String {
        format!("grpc://0.0.0.0:{}", self.address.port())
    }

    /// Leads later connections to another port: the server was started again.
    pub fn lead_to(&self, port: u16) {
        lock(&self.shared.target).set_port(port);
    }

    /// Says what happens to the connections to come.
    pub fn set(&self, plan: Plan) {
        *lock(&self.shared.plan) = plan;
    }

    /// Does something to all connections that are open. Bytes are counted from now.
    pub fn now(&self, trouble: Trouble) {
        for connection in lock(&self.shared.open).iter() {
            connection.meet(trouble);
        }
    }

    /// Says what happens to all connections, to those that are open too.
    pub fn always(&self, trouble: Trouble) {
        self.set(Plan::Each(trouble));
        self.now(trouble);
    }

    /// Ends every trouble there is, and plans none.
    pub fn calm(&self) {
        self.always(Trouble::None);
    }

    /// What has passed since the beginning, or since [`Self::forget`].
    pub fn passed(&self) -> Passed {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Passed {
            connections: load(&self.shared.connections),
            up: load(&self.shared.up),
            down: load(&self.shared.down),
        }
    }

    /// Counts from 0 again, and seeded plans from the first connection.
    pub fn forget(&self) {
        for counter in [&self.shared.connections, &self.shared.up, &self.shared.down] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        self.now(Trouble::Cut(Direction::Up, 0));
        // Wakes the listener up, so that it sees this.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, client: TcpStream) {
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let trouble = lock(&self.plan).trouble_of(number);
        if trouble == Trouble::Refuse {
            return;
        }
        let target = *lock(&self.target);
        // A server that is not there: the client sees its connection end.
        let Ok(server) = TcpStream::connect(target) else {
            return;
        };
        let connection = Arc::new(Connection::new(client, server, trouble));
        lock(&self.open).push(Arc::clone(&connection));
        let shared = Arc::clone(self);
        thread::spawn(move || {
            connection.serve(&shared.up, &shared.down);
            lock(&shared.open).retain(|open| !Arc::ptr_eq(open, &connection));
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::time::{Duration, Instant};

    use super::*;

    /// A server that sends everything back.
    fn echo() -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || drop(std::io::copy(&mut &stream, &mut &stream)));
            }
        });
        port
    }

    fn client(wire: &Wire) -> TcpStream {
        let stream = TcpStream::connect(wire.host()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream
    }

    /// Sends some bytes, and gives what comes back until the connection ends.
    fn exchange(wire: &Wire, bytes: &[u8]) -> Vec<u8> {
        let mut stream = client(wire);
        let mut writer = stream.try_clone().unwrap();
        let bytes = bytes.to_vec();
        let sent = thread::spawn(move || {
            drop(writer.write_all(&bytes));
            drop(writer.shutdown(std::net::Shutdown::Write));
        });
        let mut back = Vec::new();
        // A connection that is cut may end with a reset.
        if let Err(error) = stream.read_to_end(&mut back) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        sent.join().unwrap();
        back
    }

    #[test]
    fn a_sound_wire_passes_everything_and_counts_it() {
        let wire = Wire::before(echo());
        let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        assert_eq!(exchange(&wire, &bytes), bytes);
        let passed = Passed {
            connections: 1,
            up: 300_000,
            down: 300_000,
        };
        assert_eq!(wire.passed(), passed);
        wire.forget();
        assert_eq!(wire.passed(), Passed::default());
    }

    #[test]
    fn a_connection_is_cut_after_exactly_so_many_bytes() {
        let wire = Wire::with_plan(echo(), Plan::Each(Trouble::Cut(Direction::Down, 1000)));
        let bytes = [7; 5000];
        assert_eq!(exchange(&wire, &bytes).len(), 1000);
        wire.set(Plan::Each(Trouble::Cut(Direction::Up, 77)));
        wire.forget();
        assert!(exchange(&wire, &bytes).len() <= 77);
        assert_eq!(wire.passed().up, 77);
    }

    #[test]
    fn one_byte_is_changed_and_no_other() {
        let wire = Wire::with_plan(echo(), Plan::Each(Trouble::Corrupt(Direction::Up, 4321)));
        let bytes = [7; 100_000];
        let back = exchange(&wire, &bytes);
        let changed: Vec<usize> = (0..bytes.len()).filter(|n| back[*n] != 7).collect();
        assert_eq!(changed, [4321]);
    }

    #[test]
    fn a_stalled_connection_goes_on_when_it_is_calm_again() {
        let wire = Wire::with_plan(echo(), Plan::Each(Trouble::Stall(Direction::Up, 3)));
        let mut stream = client(&wire);
        stream.write_all(b"abcdef").unwrap();
        let mut start = [0; 3];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"abc");
        stream
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let mut rest = [0; 3];
        let error = stream.read_exact(&mut rest).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        wire.calm();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"def");
    }

    #[test]
    fn open_connections_meet_trouble_at_once() {
        let wire = Wire::before(echo());
        let mut stream = client(&wire);
        let mut back = [0; 4];
        stream.write_all(b"once").unwrap();
        stream.read_exact(&mut back).unwrap();
        // One byte passes from now on.
        wire.now(Trouble::Stall(Direction::Down, 1));
        stream.write_all(b"more").unwrap();
        stream.read_exact(&mut back[..1]).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        assert!(stream.read_exact(&mut back[1..]).is_err());
        wire.now(Trouble::Cut(Direction::Down, 0));
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        assert_eq!(stream.read(&mut back).unwrap_or(0), 0);
    }

    #[test]
    fn a_wire_that_is_idle_is_cut_too() {
        let wire = Wire::before(echo());
        let mut stream = client(&wire);
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        wire.now(Trouble::Cut(Direction::Down, 0));
        let started = Instant::now();
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn delays_and_refusals() {
        let delay = Duration::from_millis(100);
        let wire = Wire::with_plan(echo(), Plan::Each(Trouble::Delay(delay)));
        let started = Instant::now();
        assert_eq!(exchange(&wire, b"slow"), b"slow");
        assert!(started.elapsed() >= delay * 2);
        wire.set(Plan::Each(Trouble::Refuse));
        assert_eq!(exchange(&wire, b"none"), b"");
        assert_eq!(wire.passed().connections, 2);
    }

    #[test]
    fn a_server_that_was_started_again_is_found() {
        let wire = Wire::before(1);
        assert_eq!(exchange(&wire, b"nobody"), b"");
        wire.lead_to(echo());
        assert_eq!(exchange(&wire, b"somebody"), b"somebody");
    }
}
