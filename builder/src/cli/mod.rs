//! The command line: what may be written, and the help that explains it. Nothing is done here.
//!
//! One file per command, each with the struct that clap fills; doc comments are the help. Names
//! and forms of flags are Docker's wherever Docker has them.

pub mod build;
pub mod builds;
pub mod cache;
pub mod cancel;
pub mod du;
pub mod fsck;
pub mod history;
pub mod images;
pub mod inspect;
pub mod logs;
pub mod prune;
pub mod pull;
pub mod push;
pub mod rmi;
pub mod run;
pub mod submit;
pub mod tag;
pub mod value;
pub mod version;
pub mod wait;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use value::Quota;

/// Builds OCI images from Dockerfiles, without daemon and without root.
///
/// Steps run in parallel in user namespaces; what was built before is reused.
/// Images stay in Ashlar's own store until they are pushed or written to a file.
#[derive(Debug, Parser)]
#[command(
    name = "ashlar",
    version,
    propagate_version = false,
    disable_help_subcommand = true,
    args_override_self = true,
    after_help = "Example: ashlar build -t hello . && ashlar run hello\n\n\
                  Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the machine or a service cannot \
                  do it, 70 a bug, 130 interrupted."
)]
pub struct Cli {
    /// Flags that all commands share.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that all commands share.
#[derive(Debug, Clone, Default, Args)]
pub struct GlobalArgs {
    /// Directory of the local store [default: $ASHLAR_HOME, else ~/.local/share/ashlar]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        help_heading = "Global options"
    )]
    pub home: Option<PathBuf>,

    /// With `false`, certificates of registries are not checked, and they may speak plain HTTP
    /// [default: true]
    #[arg(
        long,
        global = true,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Global options"
    )]
    pub tls_verify: Option<bool>,

    /// How much the store may take at any time: a size, 10% of its filesystem, or none. The store
    /// remembers it [default: $ASHLAR_STORE_QUOTA]
    #[arg(
        long,
        global = true,
        value_name = "SIZE",
        help_heading = "Global options"
    )]
    pub store_quota: Option<Quota>,
}

/// What to do.
#[derive(Debug, Subcommand)]
#[expect(
    missing_docs,
    reason = "clap would take them for the help, which stands with each command's arguments"
)]
pub enum Command {
    Build(Box<build::BuildArgs>),
    Submit(Box<submit::SubmitArgs>),
    Logs(logs::LogsArgs),
    Wait(wait::WaitArgs),
    Cancel(cancel::CancelArgs),
    Builds(builds::BuildsArgs),
    Run(Box<run::RunArgs>),
    #[command(visible_alias = "ls")]
    Images(images::ImagesArgs),
    Tag(tag::TagArgs),
    Inspect(inspect::InspectArgs),
    History(history::HistoryArgs),
    Pull(pull::PullArgs),
    Push(push::PushArgs),
    Rmi(rmi::RmiArgs),
    Prune(prune::PruneArgs),
    Du(du::DuArgs),
    Fsck(fsck::FsckArgs),
    Cache(cache::CacheArgs),
    Version(version::VersionArgs),
}

/// How a list or a record is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Aligned columns, for people
    #[default]
    Table,
    /// One JSON object on each line, for programs
    Json,
}

/// Reads a command line, program name included.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let cli = Cli::try_parse_from(arguments)?;
    match &cli.command {
        Command::Build(build) => build.check(),
        Command::Submit(submit) => submit.check(),
        _ => Ok(()),
    }
    .map_err(|message| Cli::command().error(ErrorKind::ArgumentConflict, message))?;
    Ok(cli)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        for command in Cli::command().get_subcommands() {
            let after = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(after.contains("Example"), "{}", command.get_name());
        }
    }

    #[test]
    fn global_flags_may_stand_after_the_command() {
        let arguments = ["ashlar", "images", "--home", "/x"].map(OsString::from);
        let cli = parse(arguments).unwrap();
        assert_eq!(cli.global.home, Some(PathBuf::from("/x")));
    }
}
