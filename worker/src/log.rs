//! The log: lines or JSON objects on standard error.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::settings::value::LogFormat;

/// What is logged.
pub fn filter(levels: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::try_new(levels)
}

/// Starts the log of this process.
pub fn start(filter: EnvFilter, format: LogFormat, no_color: bool) {
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let layer = match format {
        LogFormat::Text => layer
            .with_ansi(!no_color && io::stderr().is_terminal())
            .boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    // A log that was started before, as tests do, goes on.
    let _started = tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init();
}
