//! `ashlar wait`.

use ashlar_remote::client::image::ImageOutcome;
use ashlar_remote::client::{FarmError, Outcome};

use super::{connect_plainly, id, image_failure, operation, spec, to_cli_error};
use crate::cli::wait::WaitArgs;
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::settings::Settings;
use crate::workshop::run_interruptible;

/// Runs the command.
pub(in super::super) fn run(args: &WaitArgs, settings: &Settings) -> Result<ExitCode, CliError> {
    let spec = spec(&args.farm, settings)?;
    let outcome = run_interruptible(async {
        let client = connect_plainly(&spec, settings).await?;
        let operation = operation(&client, &args.id);
        let ended = client.wait(&operation).await;
        ended.map_err(|error| failure(&operation, error))
    })?;
    ended(&args.id, &outcome)
}

/// What a build that has ended means for the exit code.
fn ended(build: &str, outcome: &Outcome) -> Result<ExitCode, CliError> {
    if !outcome.failed {
        return Ok(ExitCode::Success);
    }
    let shown = match ImageOutcome::decode(&outcome.bytes) {
        Ok(ImageOutcome::Failed(failure)) => image_failure(failure),
        // A worker of another version.
        Ok(ImageOutcome::Made(_)) | Err(_) => CliError::failed(outcome.message.clone()),
    };
    Err(shown.hint(format!("ashlar logs {} shows what it said", id(build))))
}

fn failure(operation: &str, error: FarmError) -> CliError {
    if error.is_cancelled() {
        return CliError::failed(format!("build {} was cancelled", id(operation)));
    }
    to_cli_error(error)
}
