//! What goes wrong in a workshop, and whose affair it is.

use std::error::Error;
use std::fmt;

use ashlar_engine::plan::SourceError;
use ashlar_engine::plan::source::Fault;
use ashlar_image::pull::PullError;
use ashlar_image::registry::RegistryError;
use ashlar_model::executor::StepError;
use ashlar_store::home::StoreError;

use crate::images::failure::{pull_fault, pull_hint, registry_fault};

/// Whose affair an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// What was asked for cannot be done as it was asked for.
    Input,
    /// What this machine was told about itself or others is wrong.
    Usage,
    /// This machine or a service cannot do it.
    Environment,
    /// Ashlar is wrong.
    Bug,
    /// It was called off.
    Cancelled,
}

impl From<Fault> for ErrorKind {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Input => Self::Input,
            Fault::Environment => Self::Environment,
        }
    }
}

/// Something that could not be done.
#[derive(Debug)]
pub struct WorkshopError {
    /// Whose affair it is.
    pub kind: ErrorKind,
    /// What failed, and where: one sentence without full stop.
    pub message: String,
    /// Why. Its own text may repeat the message.
    pub cause: Option<Box<dyn Error + Send + Sync>>,
    /// What to do about it.
    pub hints: Vec<String>,
}

impl fmt::Display for WorkshopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for WorkshopError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

impl WorkshopError {
    /// An error of some kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            cause: None,
            hints: Vec::new(),
        }
    }

    /// What this machine was told is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// This machine or a service cannot do it.
    pub fn environment(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Environment, message)
    }

    /// Ashlar is wrong.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Bug, message)
    }

    /// An error whose own message is what failed.
    pub fn of(kind: ErrorKind, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let error = error.into();
        let mut new = Self::new(kind, error.to_string());
        new.cause = Some(error);
        new
    }

    /// Adds why it failed.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    fn hinted(self, hint: Option<String>) -> Self {
        hint.into_iter().fold(self, Self::hint)
    }
}

impl From<StoreError> for WorkshopError {
    fn from(error: StoreError) -> Self {
        let hint = error.hint();
        Self::of(ErrorKind::Environment, error).hinted(hint)
    }
}

/// What is built from cannot be had.
impl From<SourceError> for WorkshopError {
    fn from(error: SourceError) -> Self {
        let SourceError {
            message,
            hint,
            fault,
            cause,
        } = error;
        let mut new = Self::new(fault.into(), message);
        new.cause = cause;
        new.hinted(hint)
    }
}

/// An image cannot be had.
impl From<PullError> for WorkshopError {
    fn from(error: PullError) -> Self {
        let (kind, hint) = (pull_fault(&error).into(), pull_hint(&error));
        Self::of(kind, error).hinted(hint)
    }
}

/// A registry does not do what it was asked for.
impl From<RegistryError> for WorkshopError {
    fn from(error: RegistryError) -> Self {
        let (kind, hint) = (registry_fault(&error).into(), error.hint());
        Self::of(kind, error).hinted(hint)
    }
}

/// A step's error outside of a build.
impl From<StepError> for WorkshopError {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Failed { .. } => Self::of(ErrorKind::Input, error),
            StepError::Input { message, hint } => Self::new(ErrorKind::Input, message).hinted(hint),
            StepError::Environment {
                message,
                hint,
                source,
            } => {
                let mut new = Self::environment(message);
                new.cause = source;
                new.hinted(hint)
            }
            StepError::LayersLost { .. } => {
                let hint = error.hint().map(ToOwned::to_owned);
                Self::environment(error.to_string()).hinted(hint)
            }
            StepError::Cancelled => Self::new(ErrorKind::Cancelled, "interrupted"),
            other => Self::bug(other.to_string()),
        }
    }
}
