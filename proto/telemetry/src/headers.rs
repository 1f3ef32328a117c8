//! The trace that a request belongs to, in its headers: W3C Trace Context.

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::codegen::http::{HeaderMap, HeaderName, HeaderValue};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Says in the headers of a request that it belongs to the current span. Costs nothing if there is
/// none.
pub fn inject(headers: &mut HeaderMap) {
    let span = Span::current();
    if span.is_disabled() {
        return;
    }
    TraceContextPropagator::new().inject_context(&span.context(), &mut Setter(headers));
}

/// Makes a span part of the trace that the headers of a request name, if they do.
pub fn adopt(span: &Span, headers: &HeaderMap) {
    if !span.is_disabled() {
        set_parent(
            span,
            &TraceContextPropagator::new().extract(&Getter(headers)),
        );
    }
}

/// Makes a span part of the trace that a `traceparent`, such as the variable that CI systems set,
/// names. What is none is passed over.
pub fn adopt_text(span: &Span, traceparent: &str) {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(traceparent) {
        headers.insert("traceparent", value);
    }
    adopt(span, &headers);
}

fn set_parent(span: &Span, parent: &Context) {
    // Without OpenTelemetry among the subscribers there is no trace to be part of.
    let _not_traced = span.set_parent(parent.clone());
}

struct Setter<'a>(&'a mut HeaderMap);

impl Injector for Setter<'_> {
    fn set(&mut self, key: &str, value: String) {
        let name = HeaderName::from_bytes(key.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&value)) {
            // An empty state is no header.
            if !value.is_empty() {
                self.0.insert(name, value);
            }
        }
    }
}

struct Getter<'a>(&'a HeaderMap);

impl Extractor for Getter<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_trace_nothing_is_said() {
        let mut headers = HeaderMap::new();
        inject(&mut headers);
        assert!(headers.is_empty());
        adopt_text(&Span::current(), "no\nheader");
    }
}
