//! The log: lines or JSON objects on standard error.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::settings::value::LogFormat;

/// What is logged.
pub fn filter(levels: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::try_new(levels)
}

/// Starts the log of this process.
pub fn start(filter: EnvFilter, format: LogFormat, no_color: bool) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    // A log that was started before, as tests do, goes on.
    let _started = match format {
        LogFormat::Text => builder
            .with_ansi(!no_color && io::stderr().is_terminal())
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
