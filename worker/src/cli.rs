//! The command line: what may be written, and the help that explains it. Nothing is done here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::settings::Options;

/// Runs the steps of builds for a farm.
///
/// A worker connects to a farm (`ashlar-cache` with a port for workers), takes steps and whole
/// builds from its queue, runs them in the sandbox of `ashlar`, and leaves the results there. It
/// needs no root.
#[derive(Debug, Parser)]
#[command(
    name = "ashlar-worker",
    version,
    propagate_version = false,
    disable_help_subcommand = true,
    args_override_self = true,
    after_help = "Example: ashlar-worker run --farm grpcs://farm:8981 --token-file token\n\n\
                  Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 this machine cannot \
                  run steps."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
#[expect(
    missing_docs,
    reason = "clap would take them for the help, which stands with each command's arguments"
)]
pub enum Command {
    Run(Box<RunArgs>),
    Keygen(KeygenArgs),
    /// Print the version.
    Version,
}

/// Take work from a farm and run it, until told to stop.
///
/// Every flag can be set in a file (--config, with underscores for hyphens) and in the environment
/// (ASHLAR_WORKER_ and the name in capitals, such as ASHLAR_WORKER_FARM). Flags win over the
/// environment, and that over the file.
///
/// The first SIGTERM or SIGINT lets work end that ends within the time of grace, and hands the rest
/// back to the farm; the second one hands all of it back at once.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  ashlar-worker run --farm grpc://127.0.0.1:8981
      for a farm on this machine
  ashlar-worker run --farm grpcs://farm:8981 --token-file /etc/ashlar/worker-token \\
      --farm-key /etc/ashlar/farm.key --root /var/lib/ashlar-worker --limit 200GB --slots 8
      one of many")]
pub struct RunArgs {
    /// Settings file, TOML [default: $ASHLAR_WORKER_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// What is set by flags.
    #[command(flatten)]
    pub options: Options,
}

/// Make a key to which secrets of builds are sealed.
///
/// The private key goes to FILE, which must not exist; workers are given it with --farm-key. The
/// public key goes to FILE.pub and is printed: clients may insist on it, with
/// `--remote URL,key=...`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example: ashlar-worker keygen /etc/ashlar/farm.key")]
pub struct KeygenArgs {
    /// Where to write the private key
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_is_this() {
        let mut command = Cli::command().term_width(100);
        let mut help = String::new();
        let mut names = vec![vec![]];
        names.extend(
            command
                .get_subcommands()
                .map(|command| vec![command.get_name().to_owned()]),
        );
        for path in names {
            let mut shown = &mut command;
            for name in &path {
                shown = shown.find_subcommand_mut(name).expect("a command");
            }
            let shown = shown.clone().term_width(100);
            help.push_str(&format!("# ashlar-worker {}\n\n", path.join(" ")));
            help.push_str(&shown.clone().render_long_help().to_string());
            help.push('\n');
        }
        insta::assert_snapshot!(help);
    }
}
