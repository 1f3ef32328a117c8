//! Traces of builds: where they go, and the span that all others are part of.

use ashlar_telemetry::headers::adopt_text;
use ashlar_telemetry::traces::TraceSettings;
use ashlar_telemetry::{Collector, Traces};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use crate::diagnostics::CliError;
use crate::settings::Settings;
use crate::workshop::WarningSink;

/// The trace of one build, if it is wanted.
#[derive(Debug)]
pub(crate) struct BuildTrace {
    traces: Option<Traces>,
}

impl BuildTrace {
    /// Starts it. A collector that is not there costs one warning, later.
    pub(crate) fn start(
        flag: Option<&Collector>,
        settings: &Settings,
        warnings: &WarningSink,
    ) -> Result<Self, CliError> {
        let Some(address) = settings.trace(flag)? else {
            return Ok(Self { traces: None });
        };
        let trace = TraceSettings {
            address,
            service: "ashlar",
            version: env!("CARGO_PKG_VERSION"),
            instance: String::new(),
            ratio: 1.0,
        };
        let warnings = warnings.clone();
        let traces = Traces::start(&trace, Box::new(move |message| warnings(message)));
        let traces = traces.map_err(|error| CliError::usage(error.to_string()).caused_by(error))?;
        traces.take_all();
        Ok(Self {
            traces: Some(traces),
        })
    }

    /// Does the work of a build as its trace, which is part of the one that `$TRACEPARENT` names.
    pub(crate) async fn within<T, E>(
        &self,
        settings: &Settings,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        if self.traces.is_none() {
            return work.await;
        }
        let span = tracing::info_span!("build", otel.status_code = Empty, outcome = Empty);
        if let Some(parent) = settings.environment().traceparent() {
            adopt_text(&span, parent);
        }
        let result = work.instrument(span.clone()).await;
        note(&span, result.is_ok());
        result
    }

    /// Sends what was not sent yet, within two seconds.
    pub(crate) fn finish(&self) {
        if let Some(traces) = &self.traces {
            traces.finish();
        }
    }
}

fn note(span: &Span, is_done: bool) {
    span.record("outcome", if is_done { "built" } else { "failed" });
    if !is_done {
        span.record("otel.status_code", "ERROR");
    }
}
