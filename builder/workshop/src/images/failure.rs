//! Errors of registries and stores, as errors of builds.

use ashlar_engine::plan::SourceError;
use ashlar_engine::plan::source::Fault;
use ashlar_image::pull::PullError;
use ashlar_image::registry::RegistryError;
use ashlar_model::executor::StepError;
use ashlar_store::home::StoreError;

/// Whose affair a registry's answer is: what is not there was asked for in error; everything else
/// is between this machine and the registry.
pub(crate) const fn registry_fault(error: &RegistryError) -> Fault {
    match error {
        RegistryError::NotFound { .. } => Fault::Input,
        _ => Fault::Environment,
    }
}

pub(crate) fn pull_fault(error: &PullError) -> Fault {
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

pub(crate) fn pull_hint(error: &PullError) -> Option<String> {
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
