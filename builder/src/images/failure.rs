//! Errors of registries and stores, as errors of builds and commands.

use ashlar_engine::plan::SourceError;
use ashlar_engine::plan::source::Fault;
use ashlar_image::pull::PullError;
use ashlar_image::registry::RegistryError;
use ashlar_model::executor::StepError;
use ashlar_store::home::StoreError;

use crate::diagnostics::{CliError, ErrorKind};

/// Whose affair a registry's answer is: what is not there was asked for in error; everything else
/// is between this machine and the registry.
const fn registry_fault(error: &RegistryError) -> Fault {
    match error {
        RegistryError::NotFound { .. } => Fault::Input,
        _ => Fault::Environment,
    }
}

fn pull_fault(error: &PullError) -> Fault {
    match error {
        PullError::Registry { source, .. } => registry_fault(source),
        _ if store_error(error).is_some() => Fault::Environment,
        _ => Fault::Input,
    }
}

/// The store's error that another one came from, if it did.
fn store_error(error: &PullError) -> Option<&StoreError> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

fn pull_hint(error: &PullError) -> Option<String> {
    store_error(error)
        .and_then(StoreError::hint)
        .or_else(|| error.hint())
}

/// An image that a Dockerfile names cannot be had.
pub fn to_source_error(error: PullError) -> SourceError {
    SourceError {
        message: error.to_string(),
        hint: pull_hint(&error),
        fault: pull_fault(&error),
        cause: std::error::Error::source(&error)
            .is_some()
            .then(|| Box::new(error).into()),
    }
}

/// What a build is made from cannot be had.
pub fn source_to_cli_error(error: SourceError) -> CliError {
    let SourceError {
        message,
        hint,
        fault,
        cause,
    } = error;
    let mut shown = CliError::new(kind(fault), message);
    if let Some(cause) = cause {
        shown = shown.caused_by(cause);
    }
    hint.into_iter().fold(shown, CliError::hint)
}

/// An image that a command names cannot be had.
pub fn to_cli_error(error: PullError) -> CliError {
    let hint = pull_hint(&error);
    let shown = CliError::of(kind(pull_fault(&error)), error);
    hint.into_iter().fold(shown, CliError::hint)
}

/// A registry fails a command.
pub fn registry_to_cli_error(error: RegistryError) -> CliError {
    let hint = error.hint();
    let shown = CliError::of(kind(registry_fault(&error)), error);
    hint.into_iter().fold(shown, CliError::hint)
}

/// A layer that a step needs cannot be had.
pub fn to_step_error(error: RegistryError) -> StepError {
    StepError::Environment {
        message: error.to_string(),
        hint: error.hint(),
        source: std::error::Error::source(&error)
            .is_some()
            .then(|| Box::new(error).into()),
    }
}

/// The kind of a command's error.
pub const fn kind(fault: Fault) -> ErrorKind {
    match fault {
        Fault::Input => ErrorKind::Failed,
        Fault::Environment => ErrorKind::Environment,
    }
}

/// A step's error outside of a build.
pub fn step_to_cli_error(error: StepError) -> CliError {
    match error {
        StepError::Failed { .. } => CliError::of(ErrorKind::Failed, error),
        StepError::Input { message, hint } => hint
            .into_iter()
            .fold(CliError::failed(message), CliError::hint),
        StepError::Environment {
            message,
            hint,
            source,
        } => {
            let mut shown = CliError::environment(message);
            if let Some(source) = source {
                shown = shown.caused_by(source);
            }
            hint.into_iter().fold(shown, CliError::hint)
        }
        StepError::LayersLost { .. } => {
            let hint = error.hint().map(ToOwned::to_owned);
            hint.into_iter()
                .fold(CliError::environment(error.to_string()), CliError::hint)
        }
        StepError::Cancelled => CliError::interrupted(),
        other => CliError::bug(other.to_string()),
    }
}
