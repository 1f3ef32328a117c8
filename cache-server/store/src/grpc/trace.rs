//! Calls as spans, and the trace that they belong to.

use ashlar_telemetry::headers::inject;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::transport::Error;
use tracing::Span;

/// Opens a span for a call, and tells the server of it. It ends when the answer begins.
pub(super) fn begin(request: &mut Request<Body>) -> Span {
    let path = request.uri().path();
    let (service, method) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or_default();
    let span = tracing::info_span!(
        "call",
        otel.name = format_args!("{service}/{method}"),
        otel.kind = "client",
        otel.status_code = tracing::field::Empty,
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
        rpc.grpc.status_code = tracing::field::Empty,
    );
    if !span.is_disabled() {
        span.in_scope(|| inject(request.headers_mut()));
    }
    span
}

/// Notes what came of a call.
pub(super) fn end(span: &Span, outcome: &Result<Response<Body>, Error>) {
    if span.is_disabled() {
        return;
    }
    let Ok(answer) = outcome else {
        span.record("otel.status_code", "ERROR");
        return;
    };
    // It stands in the headers if there is nothing else in the answer.
    if let Some(status) = answer.headers().get("grpc-status") {
        let code = tonic::Code::from_bytes(status.as_bytes());
        span.record("rpc.grpc.status_code", i64::from(i32::from(code)));
        if !matches!(code, tonic::Code::Ok | tonic::Code::NotFound) {
            span.record("otel.status_code", "ERROR");
        }
    }
}
