//! Connects to one of the servers behind a name.
//!
//! A name may stand for several addresses, each of another server with the same stores behind it.
//! Every connection begins with another of them, and goes to the next when one is not there: so a
//! broken connection that is made anew finds a server that lives. An address that failed is asked
//! last for some seconds.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use ashlar_model::executor::BoxFuture;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Duration, Instant, timeout};
use tonic::codegen::Service;
use tonic::codegen::http::Uri;

/// How long one of several addresses is waited for.
const PATIENCE: Duration = Duration::from_millis(700);

/// How long an address that failed is asked last.
const AVOIDED: Duration = Duration::from_secs(10);

/// An idle connection is asked for life this often.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A host, and what is known of its addresses. Its connections share it.
#[derive(Debug)]
pub(super) struct Host {
    name: String,
    port: u16,
    failed: Mutex<HashMap<SocketAddr, Instant>>,
    /// How many addresses it had when it was last looked up.
    addresses: AtomicUsize,
    /// Where the next connection begins.
    next: AtomicUsize,
}

impl Host {
    /// `HOST:PORT`; an IPv6 address in brackets. `None` if it is none.
    pub(super) fn parse(authority: &str) -> Option<Self> {
        let (name, port) = authority.rsplit_once(':')?;
        let name = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'))
            .unwrap_or(name);
        if name.is_empty() {
            return None;
        }
        Some(Self {
            name: name.to_owned(),
            port: port.parse().ok()?,
            failed: Mutex::default(),
            addresses: AtomicUsize::new(1),
            // Not all clients begin with the same server.
            next: AtomicUsize::new(usize::try_from(std::process::id()).unwrap_or(0)),
        })
    }

    /// How many servers it stands for, as far as is known.
    pub(super) fn servers(&self) -> usize {
        self.addresses.load(Ordering::Relaxed)
    }

    /// Notes that a server does not answer.
    pub(super) fn avoid(&self, address: SocketAddr) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.insert(address, Instant::now());
    }

    /// The addresses, in the order in which they are tried.
    async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let mut found = Vec::new();
        for address in lookup_host((self.name.as_str(), self.port)).await? {
            if !found.contains(&address) {
                found.push(address);
            }
        }
        self.addresses.store(found.len().max(1), Ordering::Relaxed);
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.retain(|_, since| since.elapsed() < AVOIDED);
        Ok(in_order(found, turn, |address| {
            failed.contains_key(address)
        }))
    }

    async fn connect(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let addresses = self.addresses().await?;
        let is_only = addresses.len() < 2;
        let mut last = None;
        for address in addresses {
            let connecting = TcpStream::connect(address);
            // Whoever asks for the only one sets a limit of its own.
            let connected = if is_only {
                connecting.await
            } else {
                timeout(PATIENCE, connecting)
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            };
            match connected {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
                    rustix::net::sockopt::set_tcp_keepidle(&stream, KEEPALIVE)?;
                    return Ok((stream, address));
                }
                Err(error) => {
                    self.avoid(address);
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| io::Error::other("the name has no address")))
    }
}

/// Addresses beginning with another one at each turn, those that failed last. The kind that the
/// system prefers (IPv6 or IPv4) stays in front.
fn in_order(
    addresses: Vec<SocketAddr>,
    turn: usize,
    has_failed: impl Fn(&SocketAddr) -> bool,
) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().copied() else {
        return addresses;
    };
    let (mut same, other): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv4() == first.is_ipv4());
    let start = turn % same.len();
    same.rotate_left(start);
    same.extend(other);
    let (failed, mut good): (Vec<_>, Vec<_>) =
        same.into_iter().partition(|address| has_failed(address));
    good.extend(failed);
    good
}

/// Where a connection leads to, as its owner sees it.
#[derive(Debug, Default)]
pub(super) struct Place {
    state: Mutex<Option<Result<SocketAddr, Instant>>>,
}

impl Place {
    fn set(&self, state: Result<SocketAddr, Instant>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
    }

    /// Notes that whoever is there does not answer.
    pub(super) fn note_failed(&self) {
        self.set(Err(Instant::now()));
    }

    /// The server's address, if there is a connection.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.and_then(Result::ok)
    }

    /// Whether no server could be connected to a moment ago, or none answered.
    pub(super) fn has_failed(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(*state, Some(Err(when)) if when.elapsed() < AVOIDED)
    }
}

/// Makes a connection for tonic, and makes it anew when it breaks.
#[derive(Debug, Clone)]
pub(super) struct Dial {
    pub(super) host: Arc<Host>,
    pub(super) place: Arc<Place>,
}

impl Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<TcpStream>>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The host is ours, whatever the request says.
    fn call(&mut self, _uri: Uri) -> Self::Future {
        let Self { host, place } = self.clone();
        Box::pin(async move {
            match host.connect().await {
                Ok((stream, address)) => {
                    place.set(Ok(address));
                    Ok(TokioIo::new(stream))
                }
                Err(error) => {
                    place.note_failed();
                    Err(error)
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_a_name_and_a_port() {
        let host = |text: &str| Host::parse(text).map(|host| (host.name, host.port));
        assert_eq!(host("cache:1"), Some(("cache".to_owned(), 1)));
        assert_eq!(host("[::1]:2"), Some(("::1".to_owned(), 2)));
        for text in ["", "cache", ":1", "cache:", "cache:x", "cache:65536"] {
            assert_eq!(host(text), None, "{text}");
        }
    }

    #[test]
    fn every_connection_begins_with_another_server() {
        let address = |number: u8| SocketAddr::from(([10, 0, 0, number], 1));
        let six: SocketAddr = "[fd00::1]:1".parse().unwrap();
        let all = vec![address(1), address(2), six, address(3)];
        let order = |turn, failed: Option<SocketAddr>| {
            in_order(all.clone(), turn, |one| Some(*one) == failed)
        };
        assert_eq!(order(0, None), [address(1), address(2), address(3), six]);
        assert_eq!(order(5, None), [address(3), address(1), address(2), six]);
        assert_eq!(
            order(5, Some(address(3))),
            [address(1), address(2), six, address(3)]
        );
        assert!(in_order(Vec::new(), 3, |_| false).is_empty());
    }
}
