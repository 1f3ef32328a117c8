//! What is for the server that has the queue is passed on to it, by whichever server it came to.
//!
//! Who asks was found out where the request came in. It is told to the other server in a header that
//! counts between servers alone: on the port where they show each other their token.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ashlar_model::executor::BoxFuture;
use ashlar_store::grpc::endpoint::TokenSource;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body::Frame;
use serde::{Deserialize, Serialize};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, HeaderValue, Request, Response};
use tonic::server::NamedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower::{Service, ServiceExt as _};

use super::clients::{SOON, moved};
use super::{Dispatch, Leader, Place};
use crate::auth::{Caller, Grant, Right, Rights};
use crate::limits;
use crate::status::later;
use crate::tls::Peer;

/// The header in which servers tell each other who asks.
pub const CALLER: &str = "ashlar-caller";

/// So long connecting to another server may take.
const CONNECT: Duration = Duration::from_secs(2);

/// Who asks, as servers tell each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Passed {
    name: String,
    rules: String,
    grants: Vec<(String, Vec<Right>)>,
    address: String,
}

/// What a header says of who asks.
pub fn encode(caller: &Caller, peer: Option<&Peer>) -> Option<HeaderValue> {
    let grants = caller.grants().iter().map(|grant| {
        let rights = Right::ALL.into_iter();
        let rights = rights.filter(|right| grant.rights.has(*right));
        (grant.namespace.clone(), rights.collect())
    });
    let passed = Passed {
        name: caller.name().to_owned(),
        rules: caller.rules().to_string(),
        grants: grants.collect(),
        address: peer.map_or_else(String::new, |peer| peer.address.to_string()),
    };
    let text = serde_json::to_vec(&passed).ok()?;
    let text = URL_SAFE_NO_PAD.encode(text);
    HeaderValue::from_str(&text).ok()
}

/// Who asks, by the header of another server.
pub fn decode(headers: &HeaderMap) -> Option<(Caller, Peer)> {
    let text = URL_SAFE_NO_PAD
        .decode(headers.get(CALLER)?.as_bytes())
        .ok()?;
    let passed: Passed = serde_json::from_slice(&text).ok()?;
    let grants = passed.grants.into_iter().map(|(namespace, rights)| Grant {
        namespace,
        rights: rights.into_iter().collect::<Rights>(),
    });
    let grants: Vec<Grant> = grants.collect();
    let caller = Caller::known(passed.name, passed.rules, grants);
    Some((caller, Peer::at(passed.address)))
}

/// Connections to other servers.
#[derive(Debug, Clone)]
pub struct Forward {
    /// What they are shown.
    token: Arc<dyn TokenSource>,
    channels: Arc<Mutex<HashMap<Arc<str>, Channel>>>,
}

impl Forward {
    /// Passes on with a token.
    pub fn new(token: Arc<dyn TokenSource>) -> Self {
        Self {
            token,
            channels: Arc::default(),
        }
    }

    /// A connection to a server, which is made when it is used.
    fn channel(&self, address: &Arc<str>) -> Result<Channel, Status> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}"));
        let endpoint = endpoint.map_err(|_| unreachable(address))?;
        let channel = endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(5))
            .keep_alive_while_idle(true)
            .initial_stream_window_size(limits::STREAM_WINDOW)
            .initial_connection_window_size(limits::CONNECTION_WINDOW)
            .connect_lazy();
        // There are as many as there are servers; those of old addresses go with the rest.
        if channels.len() >= 64 {
            channels.clear();
        }
        channels.insert(address.clone(), channel.clone());
        Ok(channel)
    }

    /// Passes a request on, and the answer back.
    async fn pass(
        &self,
        leader: &Leader,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let caller = caller.ok_or_else(|| Status::internal("a request of nobody"))?;
        let peer = request.extensions().get::<Peer>().cloned();
        let address = &leader.address;
        let channel = self.channel(address)?;
        let headers = request.headers_mut();
        let who =
            encode(&caller, peer.as_ref()).filter(|who| who.len() < limits::HEADERS as usize / 2);
        let who =
            who.ok_or_else(|| Status::resource_exhausted("the caller has too many grants"))?;
        headers.insert(CALLER, who);
        let token = self.token.token();
        let token = token.ok_or_else(|| Status::internal("this server has no token"))?;
        let bearer = [b"Bearer ", token.reveal()].concat();
        let bearer = HeaderValue::from_bytes(&bearer);
        let mut bearer = bearer.map_err(|_| Status::internal("this server has no token"))?;
        bearer.set_sensitive(true);
        headers.insert("authorization", bearer);
        let answer = async { channel.ready_oneshot().await?.call(request).await };
        let answer = tokio::select! {
            answer = answer => answer.map_err(|error| {
                tracing::debug!(%address, "the server that has the queue is not reached: {error}");
                unreachable(address)
            })?,
            () = leader.over.cancelled() => return Err(moved()),
        };
        let over = leader.over.clone().cancelled_owned();
        let address = address.clone();
        Ok(answer.map(|body| {
            Body::new(Answer {
                body,
                address,
                over: Box::pin(over),
                is_over: false,
            })
        }))
    }
}

/// An answer that is passed on. One that breaks off says so, and to come again.
struct Answer {
    body: Body,
    address: Arc<str>,
    /// Another server has the queue.
    over: Pin<Box<WaitForCancellationFutureOwned>>,
    is_over: bool,
}

impl Answer {
    /// Ends it with a word to whoever reads it.
    fn end(&mut self, why: &Status) -> Result<Frame<Bytes>, Status> {
        self.is_over = true;
        let mut trailers = HeaderMap::new();
        why.add_header(&mut trailers)?;
        Ok(Frame::trailers(trailers))
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if self.over.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(self.end(&moved())));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(match frame {
            Some(Err(error)) => {
                tracing::debug!(address = %self.address, "an answer broke off: {error}");
                let why = unreachable(&self.address);
                Some(self.end(&why))
            }
            other => other,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }
}

fn unreachable(address: &str) -> Status {
    tracing::debug!(address, "a server is not reached");
    let message = "the server that has the queue is not reached: come again";
    later(Code::Unavailable, message, SOON)
}

/// A service of the queue: here, or wherever it is.
#[derive(Debug, Clone)]
pub struct Routed<S> {
    inner: S,
    dispatch: Dispatch,
}

impl<S> Routed<S> {
    /// A service that is used while the queue is here.
    pub const fn new(inner: S, dispatch: Dispatch) -> Self {
        Self { inner, dispatch }
    }
}

impl<S: NamedService> NamedService for Routed<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Routed<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.dispatch.elsewhere() {
            Some((Place::At(leader), forward)) => Box::pin(async move {
                let answer = forward.pass(&leader, request).await;
                Ok(answer.unwrap_or_else(Status::into_http))
            }),
            // While it is nowhere, the service says so.
            Some((Place::Nowhere, _)) | None => {
                let other = self.inner.clone();
                let mut inner = std::mem::replace(&mut self.inner, other);
                Box::pin(async move { inner.call(request).await })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_arrives_as_it_was_sent() {
        let grant = |namespace: &str, rights: &[Right]| Grant {
            namespace: namespace.to_owned(),
            rights: rights.iter().copied().collect(),
        };
        let caller = Caller::known(
            "jwt repo:acme/app",
            "main, all",
            [
                grant("acme/app", &[Right::Read, Right::Queue]),
                grant("", &[Right::Work]),
            ],
        );
        let header = encode(&caller, Some(&Peer::at("10.0.0.1:5"))).expect("a header");
        let mut headers = HeaderMap::new();
        assert!(decode(&headers).is_none());
        headers.insert(CALLER, header);
        let (passed, peer) = decode(&headers).expect("a caller");
        assert_eq!(passed, caller);
        assert_eq!(&*peer.address, "10.0.0.1:5");
        headers.insert(CALLER, HeaderValue::from_static("e30"));
        assert!(decode(&headers).is_none());
    }
}
