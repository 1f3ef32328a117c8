//! The gate before the services: each request is asked who it comes from, and carries the answer.
//!
//! A worker is attached for as long as it is there, so it is asked again and again: one whose token or
//! rule was taken away, or whose token has ended, is let go.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ashlar_model::executor::BoxFuture;
use bytes::Bytes;
use http_body::Frame;
use tonic::body::Body;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower::Service;

use super::access::{Access, Shown};
use super::caller::{Caller, Port};
use crate::audit::{Audit, Event, What};
use crate::tls::Peer;

/// The method of the workers' port whose requests last.
const ATTACH: &str = "/ashlar.farm.v1.Workers/Attach";
/// How often their senders are asked.
const AGAIN: Duration = Duration::from_secs(5);

/// Lets requests in, or not.
#[derive(Debug, Clone)]
pub struct Gate {
    /// Who may do what.
    pub access: Arc<Access>,
    /// Where it is noted who was refused.
    pub audit: Audit,
    /// Where requests come in.
    pub port: Port,
}

/// The only header `authorization`; an error if there are several, of which others might take
/// another one.
fn authorization(headers: &HeaderMap) -> Result<Option<&str>, Status> {
    let mut all = headers.get_all("authorization").iter();
    let first = all.next();
    if all.next().is_some() {
        return Err(Status::unauthenticated(
            "there are several authorization headers",
        ));
    }
    // Other characters make no token.
    Ok(first.map(|value| value.to_str().unwrap_or_default()))
}

impl Gate {
    /// A service behind the gate.
    pub fn before<S>(&self, inner: S) -> Gated<S> {
        Gated {
            inner,
            gate: self.clone(),
        }
    }

    /// Who the sender of a request to `path` is. A refusal is noted.
    pub async fn caller(
        &self,
        headers: &HeaderMap,
        peer: Option<&Peer>,
        path: &str,
    ) -> Result<Caller, Status> {
        let caller = match authorization(headers) {
            Ok(authorization) => {
                let shown = Shown {
                    authorization,
                    peer,
                };
                self.access.caller(shown).await
            }
            Err(status) => Err(status),
        };
        let caller = caller.inspect_err(|status| {
            let event = Event::new(What::Request).from(peer).with("method", path);
            self.audit.note(event.ended(status));
        })?;
        Ok(caller.on(self.port))
    }

    /// Waits until the sender of a request may do other things than when it was let in; says which
    /// way that is told.
    async fn changed(self, headers: HeaderMap, peer: Option<Peer>, before: Caller) -> Status {
        loop {
            tokio::time::sleep(AGAIN).await;
            match self.caller(&headers, peer.as_ref(), ATTACH).await {
                Ok(now) if now.grants() == before.grants() => {}
                Ok(_) => return Status::unavailable("the rules have changed: come again"),
                // The keys of its issuer cannot be fetched, which says nothing of it.
                Err(status) if status.code() == Code::Unavailable => {}
                Err(status) => return status,
            }
        }
    }
}

/// An answer that ends when its receiver is not the one any more that it was.
struct Guarded {
    body: Body,
    changed: BoxFuture<'static, Status>,
    is_over: bool,
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(status) = self.changed.as_mut().poll(context) {
            self.is_over = true;
            let mut trailers = HeaderMap::new();
            let told = status.add_header(&mut trailers);
            return Poll::Ready(Some(told.map(|()| Frame::trailers(trailers))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }
}

/// A service behind the gate.
#[derive(Debug, Clone)]
pub struct Gated<S> {
    inner: S,
    gate: Gate,
}

impl<S: NamedService> NamedService for Gated<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Gated<S>
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

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The one that is ready is used, and another one is left in its place.
        let other = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, other);
        let gate = self.gate.clone();
        Box::pin(async move {
            let peer = request.extensions().get().cloned();
            let path = request.uri().path();
            match gate.caller(request.headers(), peer.as_ref(), path).await {
                Ok(caller) => {
                    let changed = (path == ATTACH).then(|| {
                        let shown = request.headers().get(AUTHORIZATION).cloned();
                        let headers = shown.map(|shown| (AUTHORIZATION, shown));
                        gate.changed(headers.into_iter().collect(), peer, caller.clone())
                    });
                    request.extensions_mut().insert(caller);
                    let answer = inner.call(request).await?;
                    Ok(match changed {
                        None => answer,
                        Some(changed) => answer.map(|body| {
                            Body::new(Guarded {
                                body,
                                changed: Box::pin(changed),
                                is_over: false,
                            })
                        }),
                    })
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}
