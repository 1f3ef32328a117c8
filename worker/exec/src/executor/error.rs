//! Errors of the layers below, as errors of a step.

pub(super) use ashlar_model::error_chain::error_chain as chain;
use ashlar_model::executor::{ExitStatus, StepError};
use ashlar_store::home::StoreError;

use crate::sandbox::{CallError, RunError, SetupError, StartError};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The local store failed.
pub fn of_store(error: StoreError) -> StepError {
    let hint = error.hint();
    match error {
        // It says all there is to say.
        StoreError::Quota(full) => StepError::Environment {
            message: full.to_string(),
            hint,
            source: None,
        },
        error => environment("the local store failed", hint, error),
    }
}

pub(super) fn of_start(error: StartError) -> StepError {
    let hint = error.hint();
    environment("this machine cannot run build steps", hint, error)
}

pub(super) fn of_call(error: CallError) -> StepError {
    environment("the sandbox failed", None, error)
}

pub(super) fn environment(
    message: &str,
    hint: Option<String>,
    cause: impl Into<Cause>,
) -> StepError {
    StepError::Environment {
        message: message.to_owned(),
        hint,
        source: Some(cause.into()),
    }
}

/// An error that ended a container before its command did.
pub(super) fn of_run(error: RunError, command: &str, missing_ids: Option<String>) -> StepError {
    match error {
        RunError::Cancelled => StepError::Cancelled,
        // What a shell reports for these: 127 and 126.
        RunError::Setup(SetupError::CommandNotFound { command: name }) => StepError::Failed {
            command: format!("{command} (exec: {name:?}: executable file not found in $PATH)"),
            status: ExitStatus::Code(127),
        },
        RunError::Setup(SetupError::CommandNotExecutable {
            command: name,
            source,
        }) => {
            let missing = source.is(rustix::io::Errno::NOENT);
            StepError::Failed {
                command: format!("{command} (exec: {name:?}: {source})"),
                status: ExitStatus::Code(if missing { 127 } else { 126 }),
            }
        }
        RunError::Setup(SetupError::MountSource { path, source })
            if source.is(rustix::io::Errno::NOENT) =>
        {
            StepError::Input {
                message: format!("{path:?}: not found"),
                hint: None,
            }
        }
        RunError::Setup(
            error @ (SetupError::User(_)
            | SetupError::MountSource { .. }
            | SetupError::MountPoint { .. }
            | SetupError::WorkingDirectory { .. }
            | SetupError::BadSpec { .. }),
        ) => StepError::Input {
            message: chain(&error),
            hint: error.hint(),
        },
        RunError::Setup(error @ SetupError::UnmappedId { .. }) => StepError::Input {
            message: chain(&error),
            hint: missing_ids.or_else(|| error.hint()),
        },
        RunError::Setup(error) => {
            let hint = error.hint();
            environment("the container cannot be started", hint, error)
        }
        error => environment("the sandbox failed", None, error),
    }
}
