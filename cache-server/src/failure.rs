//! Errors as the operator meets them.
//!
//! ```text
//! error: cannot listen on 10.0.0.7:8980          one line: what failed
//!   caused by: address in use (os error 98)      why
//! hint: end the other server, or change --listen what to do
//! ```

use std::error::Error;
use std::fmt::Write as _;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    hint: Option<&'static str>,
    /// What the process returns.
    pub code: u8,
}

impl Failure {
    /// It could not be done.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            source: None,
            hint: None,
            code: 1,
        }
    }

    /// It was asked wrongly.
    pub fn usage(error: impl Error + Send + Sync + 'static) -> Self {
        let message = error.to_string();
        let mut failure = Self::new(message);
        failure.code = 2;
        // The message is said; what is behind it is the cause.
        failure.source = error.source().map(|source| source.to_string().into());
        failure
    }

    /// The same, with its cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same, with what to do.
    #[must_use]
    pub const fn hinted(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// The same, as wrong usage.
    #[must_use]
    pub const fn as_usage(mut self) -> Self {
        self.code = 2;
        self
    }

    /// As it is shown.
    pub fn render(&self) -> String {
        let mut text = format!("error: {}\n", self.message);
        let mut next = self.source.as_deref().map(|source| source as &dyn Error);
        while let Some(cause) = next {
            let message = cause.to_string();
            if !text.contains(&message) {
                for (index, line) in message.trim_end().lines().enumerate() {
                    let start = if index == 0 { "caused by: " } else { "" };
                    let _infallible = writeln!(text, "  {start}{line}");
                }
            }
            next = cause.source();
        }
        if let Some(hint) = self.hint {
            let _infallible = writeln!(text, "hint: {hint}");
        }
        text
    }
}
