//! Traces: a span for each request, part of its client's trace, and the sending of them.

use ashlar_telemetry::headers::adopt;
use ashlar_telemetry::traces::{TraceError, TraceSettings};
use ashlar_telemetry::{Collector, Traces};
use axum::http::HeaderMap;
use tonic::Code;
use tracing::Span;
use tracing::field::Empty;

use crate::failure::Failure;
use crate::settings::Settings;
use crate::settings::env::Environment;

/// Starts sending traces, if they are wanted.
pub fn start(settings: &Settings, environment: &Environment) -> Result<Option<Traces>, Failure> {
    let Some(collector) = &settings.trace else {
        return Ok(None);
    };
    let address = address(collector, environment)?;
    let host = rustix::system::uname();
    let settings = TraceSettings {
        address,
        service: "ashlar-cache",
        version: env!("CARGO_PKG_VERSION"),
        instance: host.nodename().to_string_lossy().into_owned(),
        ratio: settings.trace_sample.as_number(),
    };
    let warn = Box::new(|message: &str| tracing::warn!("{message}"));
    let started = Traces::start(&settings, warn);
    started
        .map(Some)
        .map_err(|error: TraceError| Failure::usage(error))
}

/// Where traces are to be sent.
pub fn address(collector: &Collector, environment: &Environment) -> Result<String, Failure> {
    let address = collector.address(|name| environment.variable(name));
    address.map_err(|error| Failure::new("traces cannot be sent").caused_by(error))
}

/// The span of a request, if it is one to a service that traces are kept of.
pub fn request(method: &str, headers: &HeaderMap) -> Span {
    let Some((service, name)) = method.split_once('/') else {
        return Span::none();
    };
    if service.starts_with("grpc.") {
        // Health and reflection.
        return Span::none();
    }
    let span = tracing::info_span!(
        parent: None,
        "request",
        otel.name = method,
        otel.kind = "server",
        otel.status_code = Empty,
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = name,
        rpc.grpc.status_code = Empty,
        namespace = Empty,
        received_bytes = Empty,
        sent_bytes = Empty,
    );
    adopt(&span, headers);
    span
}

/// Notes what came of a request.
pub fn end(span: &Span, code: Code, received: u64, sent: u64) {
    if span.is_disabled() {
        return;
    }
    span.record("rpc.grpc.status_code", i64::from(i32::from(code)));
    // Collectors know no numbers without a sign.
    let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    span.record("received_bytes", number(received));
    span.record("sent_bytes", number(sent));
    // Those of the conventions for servers: the others are the client's doing.
    let failed = matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    );
    if failed {
        span.record("otel.status_code", "ERROR");
    }
}
