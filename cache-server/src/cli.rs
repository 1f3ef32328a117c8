//! The command line: what may be written, and the help that explains it. Nothing is done here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::settings::Options;

/// Shares what Ashlar builds between machines.
///
/// Builders look up the results of steps here before they run them, and leave theirs. The server
/// speaks the Remote Execution API (version 2), so that other builders can use it, too.
#[derive(Debug, Parser)]
#[command(
    name = "ashlar-cache",
    version,
    propagate_version = false,
    disable_help_subcommand = true,
    args_override_self = true,
    after_help = "Example: ashlar-cache serve --root /var/cache/ashlar --limit 50GB\n\n\
                  Exit codes: 0 done, 1 failed, 2 wrong usage or settings."
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
    Serve(Box<ServeArgs>),
    CheckConfig(Box<CheckConfigArgs>),
    Fsck(FsckArgs),
    /// Print the version.
    Version,
}

/// Run the server.
///
/// Every flag can be set in a file (--config, with underscores for hyphens) and in the environment
/// (ASHLAR_CACHE_SERVER_ and the name in capitals, such as ASHLAR_CACHE_SERVER_LIMIT). Flags win
/// over the environment, and that over the file.
///
/// The first SIGTERM or SIGINT lets requests end; the second one ends them.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  ashlar-cache serve --root /var/cache/ashlar
      for this machine only
  ashlar-cache serve --root /var/cache/ashlar --listen 0.0.0.0:8980 --limit 50GB \\
      --write-token-file /etc/ashlar/tokens --tls-cert cert.pem --tls-key key.pem
      for others: everyone reads, and those with a token write
  ashlar-cache serve --root cache --listen unix:/run/ashlar/cache.sock --socket-mode 660
      for a group of users of this machine")]
pub struct ServeArgs {
    /// Settings file, TOML [default: $ASHLAR_CACHE_SERVER_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// What is set by flags.
    #[command(flatten)]
    pub options: Options,
}

/// Check settings without running the server.
///
/// Reads what `serve` would read, tokens and certificates included, and shows what would be in
/// force.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example: ashlar-cache check-config --config /etc/ashlar/cache.toml")]
pub struct CheckConfigArgs {
    /// Settings file, TOML [default: $ASHLAR_CACHE_SERVER_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// What is set by flags.
    #[command(flatten)]
    pub options: Options,
}

/// Read the whole store, and tell what is damaged.
///
/// The server must not run meanwhile; it looks for damage itself, in the background. The exit code
/// is 1 if something is damaged and was not repaired.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example: ashlar-cache fsck --root /var/cache/ashlar --repair")]
pub struct FsckArgs {
    /// Directory of the store [default: $ASHLAR_CACHE_SERVER_ROOT]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// Remove what is damaged, so that all that is left is sound
    #[arg(long)]
    pub repair: bool,
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
            help.push_str(&format!("# ashlar-cache {}\n\n", path.join(" ")));
            help.push_str(&shown.clone().render_long_help().to_string());
            help.push('\n');
        }
        insta::assert_snapshot!(help);
    }
}
