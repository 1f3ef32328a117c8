//! Why a store did not do what it was asked.

use std::error::Error;

/// What kind of fault it is: what a caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// The blob is not there.
    NotFound,
    /// The bytes are not those of the digest, or the message is not what the format prescribes.
    Invalid,
    /// The store is full, or the caller has used up what it may have.
    Exhausted,
    /// The caller has used up what it may have. The message is for it to read.
    OverQuota,
    /// The caller may not do that.
    Denied,
    /// The store does not know this operation or hash function.
    Unsupported,
    /// A result names blobs that are not there, or a lease has been lost.
    Precondition,
    /// The store cannot be reached, or did not answer in time: another try may go well.
    Unavailable,
    /// The store itself is broken: a disk error, a bug.
    Internal,
}

impl FaultKind {
    /// As a word for metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Invalid => "invalid",
            Self::Exhausted => "exhausted",
            Self::OverQuota => "over_quota",
            Self::Denied => "denied",
            Self::Unsupported => "unsupported",
            Self::Precondition => "precondition",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// Whether it is an answer like others: "it is not there", "you are too late".
    pub const fn is_answer(self) -> bool {
        matches!(self, Self::NotFound | Self::Precondition)
    }
}

/// A store's refusal or failure.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What kind it is.
    pub kind: FaultKind,
    /// What failed, as a sentence without its cause.
    pub message: String,
    /// The underlying error.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl Fault {
    /// A fault without underlying error.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The blob, or whatever was asked for, is not there.
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(FaultKind::NotFound, format!("{what} is not there"))
    }

    /// Something is not what it must be.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(FaultKind::Invalid, message)
    }

    /// The same fault, with what caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// A fault and what caused it, in one line.
pub fn in_one_line(fault: &Fault) -> String {
    let mut line = fault.to_string();
    let mut cause = fault.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}
