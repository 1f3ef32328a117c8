//! `ashlar cache`: one file per command.

mod explain;
mod keygen;
mod ls;
mod remote;
mod stats;

use crate::cli::cache::{CacheArgs, CacheCommand};
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::settings::Settings;

/// Runs the command.
pub(super) fn run(args: &CacheArgs, settings: &Settings) -> Result<ExitCode, CliError> {
    match &args.command {
        CacheCommand::Explain(args) => explain::run(args, settings),
        CacheCommand::Keygen(args) => keygen::run(args),
        CacheCommand::Ls(args) => ls::run(args, settings),
        CacheCommand::Stats(args) => stats::run(args, settings),
    }
}
