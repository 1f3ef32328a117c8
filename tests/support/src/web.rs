//! An HTTP server that does to its clients what a test tells it to.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::http::Message;

/// A request that the server got.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `HEAD`…
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The body.
    pub body: Vec<u8>,
    message: Message,
}

impl Request {
    /// A header field's value.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.message.field(name)
    }

    /// `METHOD /path`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    /// The first byte that is asked for.
    fn range_start(&self) -> Option<usize> {
        let range = self.field("range")?.strip_prefix("bytes=")?;
        range.split('-').next()?.parse().ok()
    }
}

/// What the server answers.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    cut_after: Option<usize>,
    delay: Duration,
}

impl Answer {
    /// An answer without a body.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    /// An answer of 200.
    pub fn body(body: impl Into<Vec<u8>>) -> Self {
        Self {
            body: body.into(),
            ..Self::status(200)
        }
    }

    /// Adds a header field.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.fields.push((name.to_owned(), value.to_string()));
        self
    }

    /// Ends the connection after so many bytes of the body.
    #[must_use]
    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.cut_after = Some(bytes);
        self
    }

    /// Waits before it answers.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

/// A file that a [`Site`] serves, and how.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Its bytes.
    pub content: Vec<u8>,
    /// Its `ETag`.
    pub etag: Option<String>,
    /// Its `Last-Modified`.
    pub modified: Option<String>,
    /// Whether the first answer with a body ends after half of it.
    pub breaks_once: bool,
    /// `Authorization` that clients must have.
    pub authorization: Option<String>,
}

impl Page {
    /// A file that is served with nothing said about its version.
    pub fn new(content: impl Into<Vec<u8>>) -> Self {
        Self {
            content: content.into(),
            ..Self::default()
        }
    }

    /// With an `ETag`, quotes left out.
    #[must_use]
    pub fn etag(mut self, etag: &str) -> Self {
        self.etag = Some(format!("\"{etag}\""));
        self
    }

    /// With a `Last-Modified`.
    #[must_use]
    pub fn modified(mut self, time: &str) -> Self {
        self.modified = Some(time.to_owned());
        self
    }

    fn answer(&mut self, request: &Request) -> Answer {
        if self.authorization.is_some()
            && request.field("authorization") != self.authorization.as_deref()
        {
            return Answer::status(401);
        }
        let mut answer = Answer::status(200).field("Date", "Mon, 02 Nov 2026 12:00:00 GMT");
        if let Some(etag) = &self.etag {
            answer = answer.field("ETag", etag);
        }
        if let Some(modified) = &self.modified {
            answer = answer.field("Last-Modified", modified);
        }
        let unchanged = match request.field("if-none-match") {
            Some(known) => Some(known) == self.etag.as_deref(),
            None => {
                let since = request.field("if-modified-since");
                since.is_some() && since == self.modified.as_deref()
            }
        };
        if unchanged {
            answer.status = 304;
            return answer;
        }
        let same = request.field("if-range").is_none_or(|validator| {
            Some(validator) == self.etag.as_deref() || Some(validator) == self.modified.as_deref()
        });
        let length = self.content.len();
        answer.body = match request.range_start().filter(|_| same) {
            Some(start) if start < length => {
                answer.status = 206;
                answer = answer.field(
                    "Content-Range",
                    format!("bytes {start}-{}/{length}", length - 1),
                );
                self.content[start..].to_vec()
            }
            Some(_) => {
                answer.status = 416;
                Vec::new()
            }
            None => self.content.clone(),
        };
        if request.method == "GET" && std::mem::take(&mut self.breaks_once) {
            answer.cut_after = Some(answer.body.len() / 2);
        }
        answer
    }
}

/// Files by their paths, which a test may change while they are served.
#[derive(Debug, Clone, Default)]
pub struct Site(Arc<Mutex<BTreeMap<String, Page>>>);

impl Site {
    /// Puts a file there, or another in its place.
    pub fn put(&self, path: &str, page: Page) {
        self.lock().insert(path.to_owned(), page);
    }

    /// Takes a file away.
    pub fn remove(&self, path: &str) {
        self.lock().remove(path);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Page>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the site answers to a request.
    pub fn answer(&self, request: &Request) -> Answer {
        let path = request.target.split('?').next().unwrap_or_default();
        match self.lock().get_mut(path) {
            Some(page) => page.answer(request),
            None => Answer::status(404),
        }
    }
}

type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

struct Shared {
    handler: Box<Handler>,
    requests: Mutex<Vec<Request>>,
    closed: AtomicBool,
}

/// A server on the loopback interface that serves until it is dropped.
pub struct WebServer {
    port: u16,
    shared: Arc<Shared>,
}

impl fmt::Debug for WebServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebServer")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl WebServer {
    /// A server that answers as a function says.
    pub fn start(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("there is no free port");
        let port = listener.local_addr().expect("a listener has a port").port();
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            requests: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        let server = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if server.closed.load(Ordering::Relaxed) {
                    break;
                }
                let server = Arc::clone(&server);
                // A client that goes away in the middle is the client's affair.
                thread::spawn(move || drop(server.serve(&stream)));
            }
        });
        Self { port, shared }
    }

    /// A server of files.
    pub fn of(site: &Site) -> Self {
        let site = site.clone();
        Self::start(move |request| site.answer(request))
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The URL of a path that begins with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host())
    }

    /// The requests since the last call.
    pub fn take_requests(&self) -> Vec<Request> {
        let mut requests = self.shared.requests.lock();
        std::mem::take(requests.as_mut().unwrap_or_else(|error| panic!("{error}")))
    }

    /// The requests since the last call, as `METHOD /path`.
    pub fn take_lines(&self) -> Vec<String> {
        self.take_requests().iter().map(Request::line).collect()
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        // Wakes the listener up, so that it sees this.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        let Some(message) = Message::read(&mut reader, false)? else {
            return Ok(());
        };
        let mut words = message.start.split(' ').map(str::to_owned);
        let request = Request {
            method: words.next().unwrap_or_default(),
            target: words.next().unwrap_or_default(),
            body: message.body.clone(),
            message,
        };
        if let Ok(mut requests) = self.requests.lock() {
            requests.push(request.clone());
        }
        let answer = (self.handler)(&request);
        thread::sleep(answer.delay);
        let fields: Vec<(&str, &str)> = answer
            .fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let status = format!("{} Status", answer.status);
        let mut message = Message::answer(&status, &fields, answer.body);
        message.set("Connection", "close");
        if answer.status == 304 {
            message.remove("Content-Length");
        }
        let length = answer.cut_after.unwrap_or(message.body.len());
        let body = if request.method == "HEAD" {
            &[]
        } else {
            &message.body[..length.min(message.body.len())]
        };
        message.write(&mut &*stream, body)
    }
}
