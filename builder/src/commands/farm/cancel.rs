//! `ashlar cancel`.

use super::{connect_plainly, operation, spec, to_cli_error};
use crate::cli::cancel::CancelArgs;
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::settings::Settings;
use crate::workshop::run_interruptible;

/// Runs the command.
pub(in super::super) fn run(args: &CancelArgs, settings: &Settings) -> Result<ExitCode, CliError> {
    let spec = spec(&args.farm, settings)?;
    run_interruptible(async {
        let client = connect_plainly(&spec, settings).await?;
        let operation = operation(&client, &args.id);
        client.cancel(&operation).await.map_err(to_cli_error)
    })?;
    Ok(ExitCode::Success)
}
