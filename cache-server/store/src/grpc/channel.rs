//! Several connections to one server that look like one.
//!
//! One HTTP/2 connection has one window and one processor's share of work; a few of them use what
//! the network has. Calls go to them in turn. The token and the client's name are added here, so
//! that every client of any service has them.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use ashlar_model::executor::BoxFuture;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{HeaderValue, Request, Response};
use tonic::transport::{Channel, Error};
use tracing::Instrument as _;

use super::trace;

/// A service for tonic's generated clients. Clones share the connections.
#[derive(Debug, Clone)]
pub struct GrpcChannel {
    connections: Arc<[Channel]>,
    next: Arc<AtomicUsize>,
    /// Marked as sensitive: it shows itself nowhere.
    authorization: Option<HeaderValue>,
}

impl GrpcChannel {
    /// Calls go over these connections in turn; there must be one at least.
    pub(super) fn new(
        connections: Vec<Channel>,
        authorization: Option<HeaderValue>,
    ) -> Option<Self> {
        if connections.is_empty() {
            return None;
        }
        Some(Self {
            connections: connections.into(),
            next: Arc::default(),
            authorization,
        })
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
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let mut connection = self.connections[turn % self.connections.len()].clone();
        if let Some(authorization) = &self.authorization {
            request
                .headers_mut()
                .insert(AUTHORIZATION, authorization.clone());
        }
        let span = trace::begin(&mut request);
        Box::pin(async move {
            let outcome = async {
                poll_fn(|context| connection.poll_ready(context)).await?;
                connection.call(request).await
            };
            let outcome = outcome.instrument(span.clone()).await;
            trace::end(&span, &outcome);
            outcome
        })
    }
}
