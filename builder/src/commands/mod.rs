//! What each command does: one file per command.

pub mod build;
mod cache;
mod du;
mod farm;
mod fsck;
mod history;
mod images;
mod inspect;
pub(crate) mod lookup;
mod output;
mod prune;
mod pull;
mod push;
mod rmi;
mod run;
mod tag;
mod version;
mod vertex;

use crate::cli::Command;
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::settings::Settings;

/// Runs a command.
pub fn dispatch(command: &Command, settings: &Settings) -> Result<ExitCode, CliError> {
    match command {
        Command::Build(args) => build::run(args, settings),
        Command::Submit(args) => farm::submit::run(args, settings),
        Command::Logs(args) => farm::logs::run(args, settings),
        Command::Wait(args) => farm::wait::run(args, settings),
        Command::Cancel(args) => farm::cancel::run(args, settings),
        Command::Builds(args) => farm::builds::run(args, settings),
        Command::Run(args) => run::run(args, settings),
        Command::Images(args) => images::run(args, settings),
        Command::Tag(args) => tag::run(args, settings),
        Command::Inspect(args) => inspect::run(args, settings),
        Command::History(args) => history::run(args, settings),
        Command::Pull(args) => pull::run(args, settings),
        Command::Push(args) => push::run(args, settings),
        Command::Rmi(args) => rmi::run(args, settings),
        Command::Du(args) => du::run(args, settings),
        Command::Fsck(args) => fsck::run(args, settings),
        Command::Cache(args) => cache::run(args, settings),
        Command::Prune(args) => prune::run(args, settings),
        Command::Version(args) => version::run(args),
    }
}
