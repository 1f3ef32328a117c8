//! Failures with their lines of the Dockerfile.

use ashlar_engine::dockerfile::ParseError;
use ashlar_engine::dockerfile::diagnostic::Diagnostic;
use ashlar_engine::dockerfile::source::Source;
use ashlar_engine::plan::PlanError;
use ashlar_engine::plan::source::Fault;
use ashlar_engine::schedule::{Failure, FarmFailure, FarmFault, StepFailure};
use ashlar_model::executor::StepError;

use crate::diagnostics::CliError;
use crate::failure::kind;

/// The Dockerfile is none.
pub(super) fn parse_error(error: &ParseError) -> CliError {
    let diagnostic = error.diagnostic();
    let shown = CliError::failed(format!("failed to parse dockerfile: {}", error.kind()))
        .detail(diagnostic.snippet());
    error.hint().into_iter().fold(shown, CliError::hint)
}

/// The Dockerfile could not be planned.
pub(super) fn plan_error(error: PlanError) -> CliError {
    let PlanError {
        message,
        place,
        hint,
        cause,
        ..
    } = error;
    let fault = cause.as_ref().map_or(Fault::Input, |cause| cause.fault);
    let mut shown = CliError::new(kind(fault), message);
    if let Some(place) = place {
        shown = shown.detail(place.snippet());
    }
    if let Some(cause) = cause.and_then(|cause| cause.cause) {
        shown = shown.caused_by(cause);
    }
    hint.into_iter().fold(shown, CliError::hint)
}

/// A step failed, or what is around steps.
pub(super) fn failure(failure: Failure, source: &Source) -> CliError {
    match failure {
        Failure::Step(step) => step_failure(&step, source),
        Failure::Store(error) => CliError::environment("the local store failed").caused_by(error),
        Failure::Farm(farm) => farm_failure(&farm),
        Failure::Cancelled => CliError::interrupted(),
        Failure::Internal(message) => CliError::bug(message.to_string()),
    }
}

/// The farm did not do its part.
fn farm_failure(farm: &FarmFailure) -> CliError {
    let shown = match farm.fault {
        // Whoever called it off asked for that.
        FarmFault::CalledOff => CliError::failed(farm.message.clone()),
        FarmFault::NotDone | FarmFault::Vanished => CliError::environment(farm.message.clone()),
    };
    let shown = match &farm.source {
        Some(source) => shown.caused_by(crate::diagnostics::said(source.as_ref())),
        None => shown,
    };
    farm.hint.iter().cloned().fold(shown, CliError::hint)
}

fn step_failure(step: &StepFailure, source: &Source) -> CliError {
    let mut shown = match &step.error {
        StepError::Failed { .. } | StepError::Input { .. } => {
            CliError::failed(format!("{}: {}", step.name, step.error))
        }
        StepError::Environment { .. } | StepError::LayersLost { .. } => {
            CliError::environment(format!("{}: {}", step.name, step.error))
        }
        StepError::Cancelled => CliError::interrupted(),
        error => CliError::bug(format!("{}: {error}", step.name)),
    };
    if !step.last_output.is_empty() {
        let lines: Vec<String> = step
            .last_output
            .iter()
            .map(|line| format!(" > {line}\n"))
            .collect();
        shown = shown.detail(format!(
            "------\n > {}:\n{}------",
            step.name,
            lines.concat()
        ));
    }
    if let Some(range) = step.range {
        shown = shown.detail(Diagnostic::new(source, range, "").snippet());
    }
    match &step.error {
        StepError::Environment { hint, source, .. } => {
            if let Some(source) = source {
                shown = shown.caused_by(crate::diagnostics::said(source.as_ref()));
            }
            hint.iter().cloned().fold(shown, CliError::hint)
        }
        error => {
            let hint = error.hint().map(ToOwned::to_owned);
            hint.into_iter().fold(shown, CliError::hint)
        }
    }
}
