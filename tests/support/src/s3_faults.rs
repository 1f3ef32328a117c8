//! A proxy before an S3 server that answers for it as a busy, broken or lying one would.
//!
//! It understands HTTP, so that faults fall on requests, whatever connections these come over. What
//! happens to each follows from the plan and from how many requests there were before it, and from
//! nothing else. [`wire`](crate::wire) does to connections what networks do.

use std::io::{self, BufReader, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::http::Message;
use crate::numbers::Numbers;

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is answered.
    None,
    /// 503, as S3 answers those who ask too much.
    SlowDown,
    /// 500.
    Internal,
    /// 404, whatever there is.
    NotFound,
    /// It is answered so much later.
    Delay(Duration),
    /// It is done, and the connection ends after so many bytes of the answer's body.
    Cut(usize),
    /// It is done, and the connection ends without an answer.
    LoseAnswer,
    /// The byte of the answer's body at this place, or at what is left of it after dividing by the
    /// body's length, is changed.
    Flip(usize),
    /// The connection ends before it is done.
    Refuse,
}

/// What happens to the requests to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Nothing.
    Sound,
    /// The same to each.
    Each(Fault),
    /// The same to each with this method: `GET`, `PUT`…
    On(&'static str, Fault),
    /// To about one in four something that follows from the seed.
    Seeded(u64),
}

impl Plan {
    fn fault_of(self, number: u64, method: &str, target: &str) -> Fault {
        match self {
            Self::Sound => Fault::None,
            Self::Each(fault) => fault,
            Self::On(own, fault) if own == method => fault,
            Self::On(..) => Fault::None,
            Self::Seeded(seed) => Fault::random(&mut Numbers::of(seed, number), method, target),
        }
    }
}

impl Fault {
    fn random(numbers: &mut Numbers, method: &str, target: &str) -> Self {
        let reads_object = method == "GET" && !target.contains('?');
        let magnitude = 1_u64 << numbers.below(20);
        let at = usize::try_from(magnitude + numbers.below(magnitude)).unwrap_or_default();
        match numbers.below(40) {
            0 | 1 => Self::SlowDown,
            2 => Self::Internal,
            3 => Self::Delay(Duration::from_millis(1 + numbers.below(300))),
            4 => Self::Refuse,
            5 => Self::LoseAnswer,
            6 | 7 => Self::Cut(at),
            8 if reads_object => Self::NotFound,
            9 if reads_object => Self::Flip(at),
            _ => Self::None,
        }
    }

    /// The answer that takes the place of the server's.
    fn answer(self) -> Option<Message> {
        let (status, code) = match self {
            Self::SlowDown => ("503 Slow Down", "SlowDown"),
            Self::Internal => ("500 Internal Server Error", "InternalError"),
            Self::NotFound => ("404 Not Found", "NoSuchKey"),
            _ => return None,
        };
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <Error><Code>{code}</Code><Message>So it was planned.</Message></Error>"
        );
        let fields = [("Content-Type", "application/xml")];
        Some(Message::answer(status, &fields, body))
    }
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    plan: Mutex<Plan>,
    requests: AtomicU64,
    faults: AtomicU64,
    closed: AtomicBool,
}

/// A proxy that serves until it is dropped.
#[derive(Debug)]
pub struct S3Faults {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl S3Faults {
    /// A proxy before a server on a port of the loopback interface. It does no harm.
    pub fn before(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("there is no free port");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared {
            server: SocketAddr::from(([127, 0, 0, 1], port)),
            plan: Mutex::new(Plan::Sound),
            requests: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        });
        let proxy = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if proxy.closed.load(Ordering::Relaxed) {
                    break;
                }
                let proxy = Arc::clone(&proxy);
                // A connection that breaks is what this is for.
                thread::spawn(move || drop(proxy.serve(&client)));
            }
        });
        Self { address, shared }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Says what happens to the requests to come. Seeded plans begin anew.
    pub fn set(&self, plan: Plan) {
        *lock(&self.shared.plan) = plan;
        self.shared.requests.store(0, Ordering::Relaxed);
    }

    /// No faults any more.
    pub fn calm(&self) {
        self.set(Plan::Sound);
    }

    /// How many requests came since the plan was made.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// How many met a fault since the beginning.
    pub fn faults(&self) -> u64 {
        self.shared.faults.load(Ordering::Relaxed)
    }
}

impl Drop for S3Faults {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        // Wakes the listener up, so that it sees this.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    /// Answers the requests of one connection.
    fn serve(&self, client: &TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut requests = BufReader::new(client);
        let mut server = None;
        while let Some(request) = Message::read(&mut requests, false)? {
            if self.closed.load(Ordering::Relaxed) {
                break;
            }
            let mut words = request.start.split(' ');
            let method = words.next().unwrap_or_default().to_owned();
            let target = words.next().unwrap_or_default().to_owned();
            let number = self.requests.fetch_add(1, Ordering::Relaxed);
            let fault = lock(&self.plan).fault_of(number, &method, &target);
            if fault != Fault::None {
                self.faults.fetch_add(1, Ordering::Relaxed);
            }
            match fault {
                Fault::Refuse => break,
                Fault::Delay(delay) => thread::sleep(delay),
                _ => {}
            }
            let head_only = method == "HEAD";
            if let Some(answer) = fault.answer() {
                let body = if head_only { &[][..] } else { &answer.body };
                answer.write(&mut &*client, body)?;
                continue;
            }
            let mut answer = self.ask(&mut server, &request, head_only)?;
            match fault {
                Fault::LoseAnswer => break,
                Fault::Cut(at) => {
                    answer.write(&mut &*client, &answer.body[..at.min(answer.body.len())])?;
                    break;
                }
                Fault::Flip(at) if !answer.body.is_empty() => {
                    let place = at % answer.body.len();
                    answer.body[place] ^= 0x20;
                }
                _ => {}
            }
            answer.write(&mut &*client, &answer.body)?;
        }
        client.shutdown(Shutdown::Both)
    }

    /// Passes a request on. The connection is kept for the next one.
    fn ask(
        &self,
        server: &mut Option<BufReader<TcpStream>>,
        request: &Message,
        head_only: bool,
    ) -> io::Result<Message> {
        let mut open = match server.take() {
            Some(open) => open,
            None => {
                let stream = TcpStream::connect(self.server)?;
                stream.set_nodelay(true)?;
                BufReader::new(stream)
            }
        };
        let mut passed = request.clone();
        if passed.field("transfer-encoding").is_some() {
            passed.remove("Transfer-Encoding");
            passed.set("Content-Length", &request.body.len().to_string());
        }
        passed.write(open.get_mut(), &passed.body)?;
        open.get_mut().flush()?;
        let answer = Message::read(&mut open, head_only)?;
        let mut answer = answer.ok_or(io::ErrorKind::UnexpectedEof)?;
        if answer.field("transfer-encoding").is_some() {
            answer.remove("Transfer-Encoding");
            answer.set("Content-Length", &answer.body.len().to_string());
        }
        *server = Some(open);
        Ok(answer)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::get;
    use crate::web::{Answer, WebServer};

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn requests_meet_what_was_planned() {
        let server = WebServer::start(|_| Answer::body("0123456789"));
        let port = server.host().rsplit(':').next().unwrap().parse().unwrap();
        let proxy = S3Faults::before(port);
        let ask = || get(proxy.port(), "/a", PATIENCE);
        assert_eq!(ask().unwrap(), (200, "0123456789".to_owned()));
        proxy.set(Plan::Each(Fault::SlowDown));
        let (status, body) = ask().unwrap();
        assert!(status == 503 && body.contains("SlowDown"), "{body}");
        proxy.set(Plan::On("PUT", Fault::Internal));
        assert_eq!(ask().unwrap().0, 200);
        proxy.set(Plan::On("GET", Fault::NotFound));
        assert_eq!(ask().unwrap().0, 404);
        proxy.set(Plan::Each(Fault::Flip(13)));
        assert_eq!(ask().unwrap(), (200, "012\u{13}456789".to_owned()));
        proxy.set(Plan::Each(Fault::LoseAnswer));
        ask().unwrap_err();
        proxy.set(Plan::Each(Fault::Cut(3)));
        assert_eq!(ask().unwrap().1, "012");
        proxy.calm();
        assert_eq!(ask().unwrap(), (200, "0123456789".to_owned()));
        assert_eq!(proxy.requests(), 1);
        assert_eq!(proxy.faults(), 5);
    }

    #[test]
    fn a_seed_says_everything() {
        let faults = |seed| -> Vec<Fault> {
            (0..400)
                .map(|number| Plan::Seeded(seed).fault_of(number, "GET", "/b/o"))
                .collect()
        };
        assert_eq!(faults(1), faults(1));
        assert_ne!(faults(1), faults(2));
        let faults = faults(3);
        let sound = faults.iter().filter(|fault| **fault == Fault::None).count();
        assert!((200..390).contains(&sound), "{sound} of 400 are sound");
        assert!(faults.contains(&Fault::NotFound) && faults.contains(&Fault::SlowDown));
    }
}
