//! What Prometheus is told.
//!
//! | module | subject |
//! |---|---|
//! | [`request`] | the layer that counts and traces requests |
//! | [`namespaces`] | what each namespace does; few of them, and the rest as one |
//! | [`engines`] | Redis, the object store, other servers, and what becomes of what they hold |
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
//! | `ashlar_cache_store_up{store}` | 1 while a store can be used: what `/readyz` says of each |
//! | `ashlar_cache_server_info{version}` | 1 |
//! | `ashlar_cache_certificate_expiry_seconds` | when the server's certificate ends, in seconds since 1970 |
//! | `ashlar_cache_jwks_age_seconds{issuer}` | since when keys of an issuer of tokens were not read |
//!
//! The modules have the rest, and [`crate::dispatch::counts`] what the queue counts.

pub mod engines;
pub mod namespaces;
pub mod request;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ashlar_store::counters::Counters;
use axum::body::Body;
use axum::http::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use engines::Engines;
use namespaces::ByNamespace;
pub use request::CountLayer;

use crate::dispatch::counts::{QueueNow, Tally};
use crate::stores::{HolderUsage, StoreState, Usage};
use crate::tls::Tls;

/// Names one method of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabel {
    method: String,
}

/// Names the outcome of one method of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    method: String,
    code: String,
}

/// Names a store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreLabel {
    store: &'static str,
}

/// Names an issuer of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IssuerLabel {
    issuer: String,
}

/// All that is counted. Cloning it gives another handle.
#[derive(Debug, Clone)]
pub struct Metrics {
    hits: Counter,
    misses: Counter,
    requests: Family<OutcomeLabels, Counter>,
    seconds: Family<MethodLabel, Histogram, fn() -> Histogram>,
    running: Family<MethodLabel, Gauge>,
    received: Counter,
    sent: Counter,
    namespaces: Arc<ByNamespace>,
    engines: Arc<Counters>,
    tls: Arc<OnceLock<Tls>>,
}

/// From a tenth of a millisecond to about half a minute.
fn seconds_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 2.5, 14))
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

/// Numbers that are looked up when Prometheus asks.
#[derive(Debug, Default)]
pub struct Now {
    /// What the store holds; `None` if it does not answer.
    pub usage: Option<Usage>,
    /// Keys that are held.
    pub leases: Option<u64>,
    /// Uploads that are going on or suspended.
    pub uploads: usize,
    /// Whether the server can serve.
    pub ready: bool,
    /// How each of the stores is.
    pub stores: Vec<StoreState>,
    /// What namespaces hold, the largest first.
    pub held: Vec<HolderUsage>,
    /// Namespaces that were not let store blobs for want of room, and how many blobs.
    pub refused_blobs: Vec<(Arc<str>, u64)>,
    /// When the server's certificate ends.
    pub certificate_ends: Option<SystemTime>,
    /// Issuers of tokens, and since when their keys were not read.
    pub jwks_ages: Vec<(String, Duration)>,
    /// What the queue has counted, and what there is in it.
    pub queue: Option<(Arc<Tally>, QueueNow)>,
}

impl Metrics {
    /// Counts for a server whose stores count there.
    pub fn new(engines: Arc<Counters>) -> Self {
        Self {
            hits: Counter::default(),
            misses: Counter::default(),
            requests: Family::default(),
            seconds: Family::new_with_constructor(seconds_histogram),
            running: Family::default(),
            received: Counter::default(),
            sent: Counter::default(),
            namespaces: Arc::default(),
            engines,
            tls: Arc::default(),
        }
    }

    /// Tells from now on when the server's certificate ends.
    pub fn watch_certificate(&self, tls: Tls) {
        // There is one server to a process, and it has said it before.
        let _was_set = self.tls.set(tls);
    }

    /// When the server's certificate ends.
    pub fn certificate_ends(&self) -> Option<SystemTime> {
        self.tls.get().map(Tls::ends)
    }

    /// A result of a namespace was asked for and found.
    pub fn hit(&self, namespace: &str) {
        self.hits.inc();
        self.namespaces.of(namespace).hits.one();
    }

    /// A result of a namespace was asked for and not found.
    pub fn missed(&self, namespace: &str) {
        self.misses.inc();
        self.namespaces.of(namespace).misses.one();
    }

    /// The namespaces that have labels of their own.
    pub fn known_namespaces(&self) -> Vec<String> {
        self.namespaces.names()
    }

    /// Results that were asked for and found.
    pub fn hits(&self) -> u64 {
        self.hits.get()
    }

    /// Results that were asked for and not found.
    pub fn misses(&self) -> u64 {
        self.misses.get()
    }

    /// The page that Prometheus reads.
    pub fn page(&self, now: &Now) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::with_prefix("ashlar_cache");
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("server", "The server's version", Info::new(version));
        self.register_requests(&mut registry);
        now.register(&mut registry);
        if let Some((tally, queue)) = &now.queue {
            tally.register(queue, &mut registry);
        }
        registry.register_collector(Box::new(
            self.namespaces.reader(&now.held, &now.refused_blobs),
        ));
        registry.register_collector(Box::new(Engines(self.engines.clone())));
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry)?;
        Ok(page)
    }

    fn register_requests(&self, registry: &mut Registry) {
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
    }
}

impl Now {
    fn register(&self, registry: &mut Registry) {
        let mut gauge = |name: &str, help: &str, value: u64| {
            let gauge: Gauge = Gauge::default();
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            registry.register(name, help, gauge);
        };
        if let Some(leases) = self.leases {
            gauge("leases_held", "Leases that are held", leases);
        }
        gauge(
            "uploads_open",
            "Uploads that go on or are suspended",
            self.uploads as u64,
        );
        gauge("ready", "Whether the server can serve", self.ready.into());
        if let Some(usage) = self.usage {
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
        if let Some(ends) = self.certificate_ends {
            let ends = ends.duration_since(UNIX_EPOCH).unwrap_or_default();
            gauge(
                "certificate_expiry_seconds",
                "When the server's certificate ends, in seconds since 1970",
                ends.as_secs(),
            );
        }
        let stores: Family<StoreLabel, Gauge> = Family::default();
        for state in &self.stores {
            let label = StoreLabel { store: state.name };
            stores
                .get_or_create(&label)
                .set(state.fault.is_none().into());
        }
        registry.register("store_up", "Whether a store can be used", stores);
        let ages: Family<IssuerLabel, Gauge> = Family::default();
        for (issuer, age) in &self.jwks_ages {
            let issuer = issuer.clone();
            let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
            ages.get_or_create(&IssuerLabel { issuer }).set(age);
        }
        registry.register(
            "jwks_age_seconds",
            "Since when the keys of an issuer of tokens were not read",
            ages,
        );
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
