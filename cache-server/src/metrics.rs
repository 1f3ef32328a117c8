//! What Prometheus is told, and the layer that counts requests.
//!
//! | metric | kind |
//! |---|---|
//! | `ashlar_cache_requests_total{method, code}` | requests, by gRPC's method and status |
//! | `ashlar_cache_request_seconds{method}` | how long they took, streams to their end |
//! | `ashlar_cache_requests_running{method}` | requests that are not over |
//! | `ashlar_cache_received_bytes_total`, `ashlar_cache_sent_bytes_total` | bodies of requests and answers |
//! | `ashlar_cache_hits_total`, `ashlar_cache_misses_total` | results that were asked for |
//! | `ashlar_cache_store_blobs`, `_store_bytes`, `_store_results`, `_store_limit_bytes`, `_store_evicted_blobs` | what the store holds |
//! | `ashlar_cache_leases_held`, `ashlar_cache_uploads_open` | what is going on |
//! | `ashlar_cache_ready` | 1 while `/readyz` says yes |

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::Body;
use axum::http::{HeaderMap, Request, Response};
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http_body::{Frame, SizeHint};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tower::{Layer, Service};

/// Names one method of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MethodLabel {
    method: String,
}

/// Names the outcome of one method of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    method: String,
    code: String,
}

/// All that is counted. Cloning it gives another handle.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Results that were asked for and found.
    pub hits: Counter,
    /// Results that were asked for and not found.
    pub misses: Counter,
    requests: Family<OutcomeLabels, Counter>,
    seconds: Family<MethodLabel, Histogram, fn() -> Histogram>,
    running: Family<MethodLabel, Gauge>,
    received: Counter,
    sent: Counter,
}

/// From a tenth of a millisecond to about half a minute.
fn seconds_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 2.5, 14))
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            hits: Counter::default(),
            misses: Counter::default(),
            requests: Family::default(),
            seconds: Family::new_with_constructor(seconds_histogram),
            running: Family::default(),
            received: Counter::default(),
            sent: Counter::default(),
        }
    }
}

/// Numbers that are looked up when Prometheus asks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Now {
    /// What the store holds; `None` if it does not answer.
    pub usage: Option<crate::stores::Usage>,
    /// Keys that are held.
    pub leases: Option<u64>,
    /// Uploads that are going on or suspended.
    pub uploads: usize,
    /// Whether the server can serve.
    pub ready: bool,
}

impl Metrics {
    /// The page that Prometheus reads.
    pub fn page(&self, now: &Now) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::with_prefix("ashlar_cache");
        registry.register(
            "requests",
            "Requests by method and status",
            self.requests.clone(),
        );
        registry.register(
            "request_seconds",
            "How long requests took, streams to their end",
            self.seconds.clone(),
        );
        registry.register(
            "requests_running",
            "Requests that are not over",
            self.running.clone(),
        );
        registry.register(
            "received_bytes",
            "Bytes of the bodies of requests",
            self.received.clone(),
        );
        registry.register(
            "sent_bytes",
            "Bytes of the bodies of answers",
            self.sent.clone(),
        );
        registry.register("hits", "Results asked for and found", self.hits.clone());
        registry.register(
            "misses",
            "Results asked for and not found",
            self.misses.clone(),
        );
        let mut gauge = |name: &str, help: &str, value: u64| {
            let gauge: Gauge = Gauge::default();
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            registry.register(name, help, gauge);
        };
        if let Some(leases) = now.leases {
            gauge("leases_held", "Leases that are held", leases);
        }
        gauge(
            "uploads_open",
            "Uploads that go on or are suspended",
            now.uploads as u64,
        );
        gauge("ready", "Whether the server can serve", now.ready.into());
        if let Some(usage) = now.usage {
            gauge("store_blobs", "Blobs in the store", usage.blobs);
            gauge(
                "store_bytes",
                "Bytes of blobs in the store",
                usage.blob_bytes,
            );
            gauge("store_results", "Results in the store", usage.results);
            gauge(
                "store_limit_bytes",
                "Bytes that the store may hold, 0 for no limit",
                usage.limit_bytes,
            );
            gauge(
                "store_evicted_blobs",
                "Blobs evicted since the start",
                usage.evicted_blobs,
            );
        }
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry)?;
        Ok(page)
    }
}

/// Counts the requests to a service.
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
    const PACKAGES: [&str; 5] = [
        "/build.bazel.remote.execution.v2.",
        "/ashlar.cache.v1.",
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
        let running = Running::start(self.metrics.clone(), method);
        let received = self.metrics.received.clone();
        let request = request.map(|body| Counted {
            body,
            bytes: received,
            running: None,
        });
        let answer = self.inner.call(request);
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
            let bytes = running.metrics.sent.clone();
            Ok(answer.map(|body| {
                tonic::body::Body::new(Counted {
                    body,
                    bytes,
                    running: Some(running),
                })
            }))
        }
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
}

impl Running {
    fn start(metrics: Metrics, method: String) -> Self {
        let label = MethodLabel {
            method: method.clone(),
        };
        metrics.running.get_or_create(&label).inc();
        Self {
            metrics,
            method,
            start: Instant::now(),
            code: None,
        }
    }

    /// Looks for gRPC's status in headers or trailers.
    fn look(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.code = Some(tonic::Code::from_bytes(status.as_bytes()));
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
        tracing::debug!(method = self.method, ?code, ?elapsed, "request");
    }
}

/// A body whose bytes are counted.
#[derive(Debug)]
pub struct Counted<B> {
    body: B,
    bytes: Counter,
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
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            if let Some(data) = frame.data_ref() {
                self.bytes.inc_by(data.len() as u64);
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

/// The page as an answer.
pub fn answer(page: String) -> Response<Body> {
    let mut answer = Response::new(Body::from(page));
    answer.headers_mut().insert(
        axum::http::header::CONTENT_TYPE,
        axum::http::HeaderValue::from_static(
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
    );
    answer
}
