//! A server that does to its clients what a test tells it to.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// `METHOD path`.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// The start of the asked range.
    pub(crate) fn range_start(&self) -> Option<usize> {
        let value = self.header("range")?.strip_prefix("bytes=")?;
        value.split('-').next()?.parse().ok()
    }
}

/// What to answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The connection ends after so many bytes of the body.
    cut_after: Option<usize>,
    delay: Duration,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            cut_after: None,
            delay: Duration::ZERO,
        }
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn header(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.headers.push((name.to_owned(), format!("{value}")));
        self
    }

    pub(crate) fn cut_after(mut self, bytes: usize) -> Self {
        self.cut_after = Some(bytes);
        self
    }

    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The rest of a blob, as a server with ranges gives it.
    pub(crate) fn range(blob: &[u8], request: &Request) -> Self {
        match request.range_start() {
            None => Self::new(200).body(blob),
            Some(start) if start < blob.len() => Self::new(206)
                .header(
                    "Content-Range",
                    format!("bytes {start}-{}/{}", blob.len() - 1, blob.len()),
                )
                .body(&blob[start..]),
            Some(_) => Self::new(416),
        }
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

struct Shared {
    handler: Box<Handler>,
    requests: Mutex<Vec<Request>>,
    active: AtomicUsize,
    most_active: AtomicUsize,
}

/// A server on a loopback port. Its threads end with the test's process.
pub(crate) struct FakeServer {
    shared: Arc<Shared>,
    port: u16,
}

impl FakeServer {
    pub(crate) fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            requests: Mutex::default(),
            active: AtomicUsize::new(0),
            most_active: AtomicUsize::new(0),
        });
        let server = Self {
            shared: Arc::clone(&shared),
            port,
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(&shared, &stream));
            }
        });
        server
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What was asked, without the first look at `/v2/`.
    pub(crate) fn requests(&self) -> Vec<Request> {
        let all = self.shared.requests.lock().unwrap();
        all.iter()
            .filter(|request| request.path != "/v2/")
            .cloned()
            .collect()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.requests().iter().map(Request::line).collect()
    }

    /// How many requests were under way at once at most.
    pub(crate) fn most_active(&self) -> usize {
        self.shared.most_active.load(Ordering::SeqCst)
    }
}

/// Serves one connection until either side ends it.
fn serve(shared: &Shared, stream: &TcpStream) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader) {
        let active = shared.active.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most_active.fetch_max(active, Ordering::SeqCst);
        shared.requests.lock().unwrap().push(request.clone());
        let reply = if request.path == "/v2/" {
            Reply::new(200)
        } else {
            (shared.handler)(&request)
        };
        std::thread::sleep(reply.delay);
        let goes_on = answer(stream, &request, &reply);
        shared.active.fetch_sub(1, Ordering::SeqCst);
        if !goes_on {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader
        .read_line(&mut line)
        .ok()
        .filter(|count| *count > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut request = Request {
        method,
        path,
        headers,
        body: Vec::new(),
    };
    let length = request
        .header("content-length")
        .map_or(0, |length| length.parse().unwrap());
    request.body = vec![0; length];
    reader.read_exact(&mut request.body).ok()?;
    Some(request)
}

/// False if the connection is to end.
fn answer(mut stream: &TcpStream, request: &Request, reply: &Reply) -> bool {
    let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
    let has_length = reply
        .headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    if !has_length {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let body = if request.method == "HEAD" {
        &[]
    } else {
        &reply.body[..reply.cut_after.unwrap_or(reply.body.len())]
    };
    let sent = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body));
    sent.is_ok() && reply.cut_after.is_none()
}
