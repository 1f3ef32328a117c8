//! A proxy before a real registry that notes every request, and misbehaves as it is told.

use std::io::{self, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{PASSWORD, USER};
use crate::http::Message;

/// What the token server gives to those who know the password.
const TOKEN: &str = "a-token-for-those-who-know";

/// How the proxy misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It does not.
    None,
    /// Answers everything with this status.
    Status(u16),
    /// Answers everything with this status as often as the second number says, then behaves.
    StatusTimes(u16, usize),
    /// Ends every layer blob after half of its bytes.
    HalfBlob,
    /// Ends every layer blob after half of its bytes, once each; ranges are served in full.
    HalfBlobOnce,
    /// Changes one byte of every layer blob.
    WrongDigest,
    /// Wants a bearer token from its own token server, which wants the password.
    Token,
}

/// A request that the proxy saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `PUT`...
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The `Range` field, if there was one.
    pub range: Option<String>,
    /// The status of the answer.
    pub status: u16,
    /// How many bytes the body of the request had.
    pub received: usize,
    /// How many bytes the body of the answer had.
    pub sent: usize,
}

/// A proxy that serves until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    port: u16,
    upstream: u16,
    fault: Fault,
    closed: AtomicBool,
    requests: Mutex<Vec<Request>>,
}

impl Proxy {
    /// A proxy before the registry on a port.
    pub fn before(upstream: u16, fault: Fault) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("there is no free port");
        let port = listener.local_addr().expect("a listener has a port").port();
        let shared = Arc::new(Shared {
            port,
            upstream,
            fault,
            closed: AtomicBool::new(false),
            requests: Mutex::new(Vec::new()),
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

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `127.0.0.1:PORT/NAME`.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.host())
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().clone()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.shared.lock().clear();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        // Wakes the listener up, so that it sees this.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a connection, of one request.
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        let Some(request) = Message::read(&mut BufReader::new(stream), false)? else {
            return Ok(());
        };
        let mut words = request.start.split(' ').map(str::to_owned);
        let method = words.next().unwrap_or_default();
        let path = words.next().unwrap_or_default();
        let mut answer = match self.own_answer(&request, &path) {
            Some(answer) => answer,
            None => self.forward(request.clone(), &method)?,
        };
        // What a range was asked for was found to be a layer before.
        let is_layer = is_layer(&answer.body) || request.field("range").is_some();
        let is_blob = method == "GET" && path.contains("/blobs/") && is_layer;
        if is_blob && self.fault == Fault::WrongDigest {
            let middle = answer.body.len() / 2;
            answer.body[middle] ^= 1;
        }
        let mut sent = answer.body.len();
        let again = self
            .lock()
            .iter()
            .any(|known| known.path == path && known.method == "GET");
        if is_blob && (self.fault == Fault::HalfBlob || self.fault == Fault::HalfBlobOnce && !again)
        {
            sent /= 2;
        }
        answer.set("Connection", "close");
        self.lock().push(Request {
            method,
            path,
            range: request.field("range").map(str::to_owned),
            status: answer.status(),
            received: request.body.len(),
            sent,
        });
        answer.write(&mut &*stream, &answer.body[..sent])
    }

    /// What the proxy says by itself.
    fn own_answer(&self, request: &Message, path: &str) -> Option<Message> {
        let authorization = request.field("authorization");
        match self.fault {
            Fault::Status(code) => Some(refusal(code)),
            Fault::StatusTimes(code, times) if self.lock().len() < times => Some(refusal(code)),
            Fault::Token if path.starts_with("/token") => {
                let basic = format!("Basic {}", BASE64.encode(format!("{USER}:{PASSWORD}")));
                let body = format!("{{\"token\":\"{TOKEN}\",\"expires_in\":300}}");
                Some(if authorization == Some(&basic) {
                    Message::answer("200 OK", &[("Content-Type", "application/json")], body)
                } else {
                    refusal(401)
                })
            }
            Fault::Token if authorization != Some(&format!("Bearer {TOKEN}")) => {
                let challenge = format!(
                    "Bearer realm=\"http://127.0.0.1:{}/token\",service=\"test\"",
                    self.port
                );
                let mut answer = refusal(401);
                answer.set("WWW-Authenticate", &challenge);
                Some(answer)
            }
            _ => None,
        }
    }

    fn forward(&self, mut request: Message, method: &str) -> io::Result<Message> {
        let upstream = TcpStream::connect(("127.0.0.1", self.upstream))?;
        request.remove("transfer-encoding");
        request.remove("expect");
        if self.fault == Fault::Token {
            request.remove("authorization");
        }
        request.set("Content-Length", &request.body.len().to_string());
        // The registry makes the addresses of uploads from this: they must lead back here.
        request.set("Host", &format!("127.0.0.1:{}", self.port));
        request.set("Connection", "close");
        request.write(&mut &upstream, &request.body)?;
        let mut answer = Message::read(&mut BufReader::new(&upstream), method == "HEAD")?
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        if answer.field("transfer-encoding").is_some() {
            answer.remove("transfer-encoding");
            answer.set("Content-Length", &answer.body.len().to_string());
        }
        Ok(answer)
    }
}

/// Whether a body is a compressed layer, and not a configuration.
fn is_layer(body: &[u8]) -> bool {
    body.starts_with(&[0x1f, 0x8b]) || body.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
}

fn refusal(code: u16) -> Message {
    let (reason, error) = match code {
        401 => ("Unauthorized", "UNAUTHORIZED"),
        403 => ("Forbidden", "DENIED"),
        404 => ("Not Found", "NAME_UNKNOWN"),
        429 => ("Too Many Requests", "TOOMANYREQUESTS"),
        _ => ("Internal Server Error", "UNKNOWN"),
    };
    Message::answer(
        &format!("{code} {reason}"),
        &[("Content-Type", "application/json")],
        format!("{{\"errors\":[{{\"code\":\"{error}\",\"message\":\"as the test wants it\"}}]}}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Access, Authority, Registry};
    use crate::{bases, command::TestCommand, judge};

    fn copy_to_and_fro(to: &str, options: &[&str]) -> crate::command::Output {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let base = bases::busybox().foreign_reference();
        let copy = |from: &str, to: &str| {
            TestCommand::root("skopeo")
                .args(["--insecure-policy", "copy", "--retry-times=0"])
                .args(options)
                .args([from, to])
                .run()
        };
        let there = copy(&base, &format!("docker://{to}/base:1"));
        if there.code() != Some(0) {
            return there;
        }
        copy(
            &format!("docker://{to}/base:1"),
            &format!("dir:{}", directory.path().display()),
        )
    }

    const PLAIN: [&str; 2] = ["--src-tls-verify=false", "--dest-tls-verify=false"];

    #[test]
    fn a_registry_takes_and_gives_images() {
        let registry = Registry::start();
        copy_to_and_fro(&registry.host(), &PLAIN).success();
        let manifest = judge::skopeo_manifest(&format!("docker://{}/base:1", registry.host()));
        let layer = crate::layout::text(&manifest["layers"][0]["digest"]);
        assert!(registry.blob_path(&layer).is_file());
    }

    #[test]
    fn a_registry_with_a_password_wants_it() {
        let registry = Registry::start_with(Access::Password);
        copy_to_and_fro(&registry.host(), &PLAIN).stderr_has("authentication required");
        let login = format!("{USER}:{PASSWORD}");
        let options = [
            "--src-creds",
            &login,
            "--dest-creds",
            &login,
            PLAIN[0],
            PLAIN[1],
        ];
        // The layout takes no login, and skopeo does not mind.
        copy_to_and_fro(&registry.host(), &options).success();
    }

    #[test]
    fn a_registry_with_a_certificate_is_for_those_who_trust_its_authority() {
        let authority = Authority::new();
        let registry = Registry::start_with(Access::Tls(&authority));
        let host = format!("localhost:{}", registry.port());
        copy_to_and_fro(&host, &[]).stderr_has("certificate");
        let certificate = authority.directory().join("ca.crt");
        TestCommand::root("sh")
            .args(["-c", "mkdir $0/trust && cp $1 $0/trust/"])
            .arg(authority.directory())
            .arg(certificate)
            .run()
            .success();
        let trust = authority.directory().join("trust").display().to_string();
        copy_to_and_fro(
            &host,
            &["--src-cert-dir", &trust, "--dest-cert-dir", &trust],
        )
        .success();
    }

    #[test]
    fn a_proxy_misbehaves_as_it_is_told() {
        let registry = Registry::start();
        for (fault, complaint) in [
            (Fault::None, None),
            (Fault::Status(500), Some("500")),
            (Fault::Status(404), Some("404")),
            (Fault::HalfBlob, Some("EOF")),
            (Fault::WrongDigest, Some("igest")),
            (Fault::Token, Some("unauthorized")),
        ] {
            let proxy = Proxy::before(registry.port(), fault);
            let output = copy_to_and_fro(&proxy.host(), &PLAIN);
            match complaint {
                None => {
                    output.success();
                }
                Some(complaint) => {
                    output.exit_code(1).stderr_has(complaint);
                }
            }
            assert!(!proxy.requests().is_empty());
        }
    }

    #[test]
    fn a_token_is_given_for_the_password() {
        let registry = Registry::start();
        let proxy = Proxy::before(registry.port(), Fault::Token);
        let login = format!("{USER}:{PASSWORD}");
        let options = [
            "--src-creds",
            &login,
            "--dest-creds",
            &login,
            PLAIN[0],
            PLAIN[1],
        ];
        copy_to_and_fro(&proxy.host(), &options).success();
        assert!(
            proxy
                .requests()
                .iter()
                .any(|request| request.path.starts_with("/token"))
        );
    }
}
