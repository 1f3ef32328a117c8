//! The gate before the services: each request is asked who it comes from, and carries the answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use ashlar_model::executor::BoxFuture;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::server::NamedService;
use tower::Service;

use super::access::{Access, Shown};
use super::caller::{Caller, Port};
use crate::audit::{Audit, Event, What};
use crate::tls::Peer;

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
                    request.extensions_mut().insert(caller);
                    inner.call(request).await
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}
