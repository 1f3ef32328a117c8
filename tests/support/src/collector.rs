//! A collector of OpenTelemetry: keeps the spans that are sent to it, for tests to look at.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span as WireSpan;
use tokio::runtime::Runtime;
use tonic::{Request, Response, Status, async_trait};

/// How long spans may take to arrive: they are sent within a second.
const DEADLINE: Duration = Duration::from_secs(60);

/// A span as it arrived.
#[derive(Debug, Clone)]
pub struct Span {
    /// The program that made it.
    pub service: String,
    /// The trace that it is part of.
    pub trace: Vec<u8>,
    /// Its own id.
    pub id: Vec<u8>,
    /// The id of the span that it is part of; empty for the first.
    pub parent: Vec<u8>,
    /// Its name.
    pub name: String,
    /// Whether it failed.
    pub failed: bool,
    /// Its attributes, as text.
    pub attributes: BTreeMap<String, String>,
    /// All that it says, names of events included.
    pub text: String,
}

impl Span {
    /// An attribute; empty if there is none.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

type Spans = Arc<Mutex<Vec<Span>>>;

/// A collector on a port of the loopback interface, until it is dropped.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    spans: Spans,
    _runtime: Runtime,
}

impl Collector {
    /// Starts one.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let spans = Spans::default();
        let service = TraceServiceServer::new(Service(spans.clone()));
        runtime.spawn(async move {
            let incoming = tonic::transport::server::TcpIncoming::from(listener);
            let served = tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming);
            served.await.expect("the collector serves");
        });
        Self {
            address,
            spans,
            _runtime: runtime,
        }
    }

    /// What `--trace` gets.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans that have arrived.
    pub fn spans(&self) -> Vec<Span> {
        locked(&self.spans).clone()
    }

    /// Waits until the spans that have arrived are as they should be, and gives them.
    #[track_caller]
    pub fn wait_for(&self, what: &str, are: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let spans = self.spans();
            if are(&spans) {
                return spans;
            }
            assert!(
                Instant::now() < deadline,
                "{what} did not arrive, but {spans:#?}"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn locked(spans: &Spans) -> MutexGuard<'_, Vec<Span>> {
    spans.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Service(Spans);

#[async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of_resource in request.into_inner().resource_spans {
            let resource = of_resource.resource.unwrap_or_default();
            let attributes = attributes(&resource.attributes);
            let service = attributes.get("service.name").cloned().unwrap_or_default();
            for span in of_resource
                .scope_spans
                .into_iter()
                .flat_map(|one| one.spans)
            {
                locked(&self.0).push(read(&service, span));
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn read(service: &str, span: WireSpan) -> Span {
    Span {
        text: format!("{span:?}"),
        service: service.to_owned(),
        attributes: attributes(&span.attributes),
        failed: span.status.is_some_and(|status| status.code == 2),
        trace: span.trace_id,
        id: span.span_id,
        parent: span.parent_span_id,
        name: span.name,
    }
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|pair| (pair.key.clone(), text(pair.value.as_ref())))
        .collect()
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}
