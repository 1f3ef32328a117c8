//! Errors of registries, stores and steps, as errors of commands.

use ashlar_engine::plan::SourceError;
use ashlar_engine::plan::source::Fault;
use ashlar_image::pull::PullError;
use ashlar_image::registry::RegistryError;
use ashlar_model::executor::StepError;
use ashlar_workshop::error::{ErrorKind as Kind, WorkshopError};

use crate::diagnostics::{CliError, ErrorKind};

impl From<WorkshopError> for CliError {
    fn from(error: WorkshopError) -> Self {
        let WorkshopError {
            kind,
            message,
            cause,
            hints,
        } = error;
        let shown = match kind {
            Kind::Input => Self::failed(message),
            Kind::Usage => Self::usage(message),
            Kind::Environment => Self::environment(message),
            Kind::Bug => Self::bug(message),
            Kind::Cancelled => Self::interrupted(),
        };
        let shown = match cause {
            Some(cause) => shown.caused_by(cause),
            None => shown,
        };
        hints.into_iter().fold(shown, Self::hint)
    }
}

/// What a build is made from cannot be had.
pub fn source_to_cli_error(error: SourceError) -> CliError {
    WorkshopError::from(error).into()
}

/// An image that a command names cannot be had.
pub fn to_cli_error(error: PullError) -> CliError {
    WorkshopError::from(error).into()
}

/// A registry fails a command.
pub fn registry_to_cli_error(error: RegistryError) -> CliError {
    WorkshopError::from(error).into()
}

/// A step's error outside of a build.
pub fn step_to_cli_error(error: StepError) -> CliError {
    WorkshopError::from(error).into()
}

/// The kind of a command's error.
pub const fn kind(fault: Fault) -> ErrorKind {
    match fault {
        Fault::Input => ErrorKind::Failed,
        Fault::Environment => ErrorKind::Environment,
    }
}
