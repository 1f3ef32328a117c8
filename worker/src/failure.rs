//! Errors as the operator meets them.
//!
//! ```text
//! error: cannot open the key /etc/ashlar/farm.key   one line: what failed
//!   caused by: No such file or directory            why
//! hint: make one with `ashlar-worker keygen`        what to do
//! ```

use std::error::Error;
use std::fmt::Write as _;

use ashlar_model::executor::StepError;
use ashlar_workshop::WorkshopError;
use ashlar_workshop::error::ErrorKind;

/// This machine cannot run steps.
const UNABLE: u8 = 3;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    hints: Vec<String>,
    /// What the process returns.
    pub code: u8,
}

impl Failure {
    /// It could not be done.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            source: None,
            hints: Vec::new(),
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

    /// This machine cannot run steps.
    pub fn unable(error: StepError) -> Self {
        let mut failure = Self::from(WorkshopError::from(error));
        failure.code = UNABLE;
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
    pub fn hinted(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
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
        for hint in &self.hints {
            let _infallible = writeln!(text, "hint: {hint}");
        }
        text
    }
}

impl From<WorkshopError> for Failure {
    fn from(error: WorkshopError) -> Self {
        let WorkshopError {
            kind,
            message,
            cause,
            hints,
        } = error;
        Self {
            message,
            source: cause,
            hints,
            code: if kind == ErrorKind::Usage { 2 } else { 1 },
        }
    }
}
