//! Several connections to one server, or to several with the same stores behind them, that look
//! like one.
//!
//! One HTTP/2 connection has one window and one processor's share of work; a few of them use what
//! the network has. Calls go to them in turn. One whose server was not there a moment ago, or
//! leaves a call without an answer, is passed over as long as there is another; a call that was
//! given up without an answer makes its connection anew, to another server if there is one. The
//! token and the client's name are added here, so that every client of any service has them.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use ashlar_model::executor::BoxFuture;
use tokio::time::{Duration, Instant};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{HeaderValue, Request, Response};
use tonic::transport::{Channel, Endpoint, Error};
use tracing::Instrument as _;

use super::dial::{Dial, Host, Place};
use super::trace;
use crate::doubted;

/// A call that waits longer for its answer makes others go elsewhere.
const SLOW: Duration = Duration::from_millis(600);

/// Gives what is sent as authorization, anew for each call.
pub(super) type Authorization = Arc<dyn Fn() -> Option<HeaderValue> + Send + Sync>;

/// A service for tonic's generated clients. Clones share the connections.
#[derive(Clone)]
pub struct GrpcChannel {
    connections: Arc<[Arc<Connection>]>,
    next: Arc<AtomicUsize>,
    authorization: Option<Authorization>,
    /// Whether calls say that what the server notes is doubted.
    doubt: Arc<AtomicBool>,
}

impl std::fmt::Debug for GrpcChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrpcChannel")
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    state: Mutex<State>,
    /// How it is made anew; `None` for one that was given.
    maker: Option<Maker>,
}

#[derive(Debug)]
struct State {
    channel: Channel,
    /// Calls that wait for the beginning of their answer: number, and since when.
    waiting: Vec<(u64, Instant)>,
    calls: u64,
}

#[derive(Debug)]
struct Maker {
    endpoint: Endpoint,
    host: Arc<Host>,
    place: Arc<Place>,
}

impl Maker {
    fn dial(&self) -> Dial {
        Dial {
            host: Arc::clone(&self.host),
            place: Arc::clone(&self.place),
        }
    }
}

impl Connection {
    fn with(channel: Channel, maker: Option<Maker>) -> Arc<Self> {
        let state = State {
            channel,
            waiting: Vec::new(),
            calls: 0,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            maker,
        })
    }

    /// One that is there already.
    pub(super) fn given(channel: Channel) -> Arc<Self> {
        Self::with(channel, None)
    }

    /// One to a host, which is made when it is used.
    pub(super) fn to(endpoint: Endpoint, host: Arc<Host>) -> Arc<Self> {
        let maker = Maker {
            endpoint,
            host,
            place: Arc::default(),
        };
        let channel = maker.endpoint.connect_with_connector_lazy(maker.dial());
        Self::with(channel, Some(maker))
    }

    /// Makes it now.
    pub(super) async fn open(&self) -> Result<(), Error> {
        if let Some(maker) = &self.maker {
            let channel = maker.endpoint.connect_with_connector(maker.dial()).await?;
            self.state().channel = channel;
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn servers(&self) -> usize {
        self.maker.as_ref().map_or(1, |maker| maker.host.servers())
    }

    /// Whether it is better to ask another.
    fn is_bad(&self) -> bool {
        let has_failed = self
            .maker
            .as_ref()
            .is_some_and(|maker| maker.place.has_failed());
        let mut waiting = self.state().waiting.clone().into_iter();
        has_failed || waiting.any(|(_, since)| since.elapsed() >= SLOW)
    }

    fn begin(self: &Arc<Self>) -> (Channel, Waiting) {
        let mut state = self.state();
        state.calls += 1;
        let number = state.calls;
        let begin = Instant::now();
        state.waiting.push((number, begin));
        let waiting = Waiting {
            connection: Arc::clone(self),
            number,
            begin,
            is_answered: false,
        };
        (state.channel.clone(), waiting)
    }

    /// Lets a server go that does not answer. Calls that are under way stay with it.
    fn renew(&self) {
        let Some(maker) = &self.maker else {
            return;
        };
        if let Some(address) = maker.place.address() {
            maker.host.avoid(address);
        }
        maker.place.note_failed();
        self.state().channel = maker.endpoint.connect_with_connector_lazy(maker.dial());
    }
}

/// A call that waits for the beginning of its answer.
struct Waiting {
    connection: Arc<Connection>,
    number: u64,
    begin: Instant,
    is_answered: bool,
}

impl Waiting {
    /// The answer has begun, or there is none since the connection broke.
    fn over(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.connection.state();
        state.waiting.retain(|(number, _)| *number != self.number);
        drop(state);
        if !self.is_answered && self.begin.elapsed() >= SLOW {
            self.connection.renew();
        }
    }
}

impl GrpcChannel {
    /// Calls go over these connections in turn; there must be one at least.
    pub(super) fn new(
        connections: Vec<Arc<Connection>>,
        authorization: Option<Authorization>,
    ) -> Option<Self> {
        if connections.is_empty() {
            return None;
        }
        Some(Self {
            connections: connections.into(),
            next: Arc::default(),
            authorization,
            doubt: Arc::default(),
        })
    }

    /// Whether calls say that what the server notes of blobs is [doubted]. Shared by all clones.
    pub const fn doubt(&self) -> &Arc<AtomicBool> {
        &self.doubt
    }

    /// Whether a call that gets no answer here may get one elsewhere.
    pub(super) fn has_others(&self) -> bool {
        let mut hosts: Vec<*const Host> = Vec::new();
        for connection in self.connections.iter() {
            if let Some(maker) = &connection.maker {
                let host = Arc::as_ptr(&maker.host);
                if !hosts.contains(&host) {
                    hosts.push(host);
                }
            }
        }
        hosts.len() > 1 || self.connections.iter().any(|one| one.servers() > 1)
    }

    /// The connection whose turn it is, or the next one that is better.
    fn pick(&self) -> Arc<Connection> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        let (before, after) = self.connections.split_at(turn);
        let mut in_turn = after.iter().chain(before);
        let good = in_turn.find(|connection| !connection.is_bad());
        Arc::clone(good.unwrap_or(&self.connections[turn]))
    }
}

impl Service<Request<Body>> for GrpcChannel {
    type Response = Response<Body>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Response<Body>, Error>>;

    /// Always: which connection is asked is decided by the call, which waits for it.
    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let (mut connection, waiting) = self.pick().begin();
        if let Some(authorization) = self.authorization.as_ref().and_then(|give| give()) {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        if self.doubt.load(Ordering::Relaxed) {
            let yes = HeaderValue::from_static("1");
            request.headers_mut().insert(doubted::HEADER, yes);
        }
        let span = trace::begin(&mut request);
        Box::pin(async move {
            let outcome = async {
                poll_fn(|context| connection.poll_ready(context)).await?;
                connection.call(request).await
            };
            let outcome = outcome.instrument(span.clone()).await;
            trace::end(&span, &outcome);
            waiting.over();
            outcome
        })
    }
}
