//! `ashlar submit`.

use super::id;
use crate::cli::submit::SubmitArgs;
use crate::commands::build;
use crate::commands::output::line;
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::settings::Settings;

/// Runs the command.
pub(in super::super) fn run(args: &SubmitArgs, settings: &Settings) -> Result<ExitCode, CliError> {
    let operation = build::submit(&args.build, settings)?;
    line(id(&operation))
}
