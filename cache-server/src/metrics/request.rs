//! The layer that counts and traces requests.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::http::{HeaderMap, Request, Response};
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http_body::{Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;
use tower::{Layer, Service};
use tracing::{Instrument as _, Span};

use super::namespaces::Refusal;
use super::{MethodLabel, Metrics, OutcomeLabels};
use crate::trace;

/// Counts the requests to a service, and opens a span for each.
#[derive(Debug, Clone)]
pub struct CountLayer(pub Metrics);

impl<S> Layer<S> for CountLayer {
    type Service = Count<S>;

    fn layer(&self, inner: S) -> Count<S> {
        Count {
            inner,
            metrics: self.0.clone(),
        }
    }
}

/// A service whose requests are counted.
#[derive(Debug, Clone)]
pub struct Count<S> {
    inner: S,
    metrics: Metrics,
}

/// A method as the label says it. Paths that no service has are one label: clients must not make
/// labels.
fn method_of(path: &str) -> &str {
    const PACKAGES: [&str; 7] = [
        "/build.bazel.remote.execution.v2.",
        "/ashlar.cache.v1.",
        "/ashlar.farm.v1.",
        "/google.longrunning.",
        "/google.bytestream.",
        "/grpc.health.v1.",
        "/grpc.reflection.",
    ];
    let known = PACKAGES.iter().any(|package| path.starts_with(package));
    let short = path.len() < 120 && path.bytes().filter(|byte| *byte == b'/').count() == 2;
    if known && short {
        path.trim_start_matches('/')
    } else {
        "other"
    }
}

/// What is learned of a request while it is served. Found among its extensions.
#[derive(Debug, Clone)]
pub struct Notes {
    namespace: Arc<OnceLock<String>>,
    span: Span,
}

impl Notes {
    /// Notes that a request is one of a namespace. Later ones are passed over.
    pub fn namespace<T>(request: &tonic::Request<T>, namespace: &str) {
        let Some(notes) = request.extensions().get::<Self>() else {
            return;
        };
        if notes.namespace.set(namespace.to_owned()).is_ok() {
            notes.span.record("namespace", namespace);
        }
    }
}

impl<S, B> Service<Request<B>> for Count<S>
where
    S: Service<Request<Counted<B>>, Response = Response<tonic::body::Body>>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = Response<tonic::body::Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let method = method_of(request.uri().path()).to_owned();
        let span = trace::request(&method, request.headers());
        let running = Running::start(self.metrics.clone(), method, span.clone());
        let mut request = request.map(|body| Counted {
            body,
            bytes: self.metrics.received.clone(),
            own: running.received.clone(),
            running: None,
        });
        request.extensions_mut().insert(Notes {
            namespace: running.namespace.clone(),
            span: span.clone(),
        });
        let answer = span.in_scope(|| self.inner.call(request));
        async move {
            let answer = answer.await?;
            let mut running = running;
            running.look(answer.headers());
            if !is_grpc(answer.headers()) {
                // A page: it has no status of gRPC, now or later.
                running.code = Some(if answer.status().is_success() {
                    tonic::Code::Ok
                } else {
                    tonic::Code::Unknown
                });
            }
            Ok(answer.map(|body| {
                tonic::body::Body::new(Counted {
                    body,
                    bytes: running.metrics.sent.clone(),
                    own: running.sent.clone(),
                    running: Some(running),
                })
            }))
        }
        .instrument(span)
        .boxed()
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content = headers.get(axum::http::header::CONTENT_TYPE);
    content.is_some_and(|content| content.as_bytes().starts_with(b"application/grpc"))
}

/// A request that is not over. It is when this is dropped.
#[derive(Debug)]
struct Running {
    metrics: Metrics,
    method: String,
    start: Instant,
    code: Option<tonic::Code>,
    /// Whether the client was told when to come again.
    is_put_off: bool,
    namespace: Arc<OnceLock<String>>,
    received: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
    span: Span,
}

impl Running {
    fn start(metrics: Metrics, method: String, span: Span) -> Self {
        let label = MethodLabel {
            method: method.clone(),
        };
        metrics.running.get_or_create(&label).inc();
        Self {
            metrics,
            method,
            start: Instant::now(),
            code: None,
            is_put_off: false,
            namespace: Arc::default(),
            received: Arc::default(),
            sent: Arc::default(),
            span,
        }
    }

    /// Looks for gRPC's status in headers or trailers.
    fn look(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.code = Some(tonic::Code::from_bytes(status.as_bytes()));
            // Details of this server are those of `google.rpc.RetryInfo` where it is exhausted.
            self.is_put_off = headers.contains_key("grpc-status-details-bin");
        }
    }

    fn refusal(&self) -> Option<Refusal> {
        match self.code? {
            tonic::Code::PermissionDenied | tonic::Code::Unauthenticated => Some(Refusal::Rights),
            tonic::Code::ResourceExhausted if self.is_put_off => Some(Refusal::Rate),
            tonic::Code::ResourceExhausted => Some(Refusal::Quota),
            _ => None,
        }
    }

    fn count_for_namespace(&self) {
        let refusal = self.refusal();
        let namespaces = &self.metrics.namespaces;
        let counts = match (self.namespace.get(), refusal) {
            (Some(namespace), Some(Refusal::Rights)) => namespaces.of_known(namespace),
            (Some(namespace), _) => namespaces.of(namespace),
            (None, Some(_)) => namespaces.of_known(""),
            // Nothing of any namespace: health, pages.
            (None, None) => return,
        };
        counts.requests.one();
        counts.received.add(self.received.load(Ordering::Relaxed));
        counts.sent.add(self.sent.load(Ordering::Relaxed));
        if let Some(why) = refusal {
            counts.refused(why);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whoever goes before the end has cancelled it.
        let code = self.code.unwrap_or(tonic::Code::Cancelled);
        let label = MethodLabel {
            method: self.method.clone(),
        };
        let elapsed = self.start.elapsed();
        self.metrics.running.get_or_create(&label).dec();
        self.metrics
            .seconds
            .get_or_create(&label)
            .observe(elapsed.as_secs_f64());
        self.metrics
            .requests
            .get_or_create(&OutcomeLabels {
                method: label.method,
                code: format!("{code:?}"),
            })
            .inc();
        self.count_for_namespace();
        let (received, sent) = (&self.received, &self.sent);
        trace::end(
            &self.span,
            code,
            received.load(Ordering::Relaxed),
            sent.load(Ordering::Relaxed),
        );
        tracing::debug!(method = self.method, ?code, ?elapsed, "request");
    }
}

/// A body whose bytes are counted.
#[derive(Debug)]
pub struct Counted<B> {
    body: B,
    bytes: Counter,
    own: Arc<AtomicU64>,
    running: Option<Running>,
}

impl<B> http_body::Body for Counted<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        // What is read for a stream belongs to its request.
        let span = self.running.as_ref().map(|running| running.span.clone());
        let within = span.as_ref().map(Span::enter);
        let frame = Pin::new(&mut self.body).poll_frame(context);
        drop(within);
        let frame = ready!(frame);
        if let Some(Ok(frame)) = &frame {
            if let Some(data) = frame.data_ref() {
                self.bytes.inc_by(data.len() as u64);
                self.own.fetch_add(data.len() as u64, Ordering::Relaxed);
            }
            if let (Some(trailers), Some(running)) = (frame.trailers_ref(), &mut self.running) {
                running.look(trailers);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
