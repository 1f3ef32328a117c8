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
    Invalidate(InvalidateArgs),
    Reindex(Box<ReindexArgs>),
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
      for a group of users of this machine
  ashlar-cache serve --redis redis://redis:6379 --objects s3://bucket/cache \\
      --listen 0.0.0.0:8980 --write-token-file /etc/ashlar/tokens
      one of many, over Redis and S3")]
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

    /// Try the stores of a farm as well, by writing to them
    #[arg(long)]
    pub connect: bool,

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

/// Make the index of an object store again, after Redis was lost.
///
/// Reads what lists the blobs in each object. Servers may run meanwhile. Results are not in the
/// object store: builds make them again, but need not send again what they have.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example: ashlar-cache reindex --config /etc/ashlar/cache.toml")]
pub struct ReindexArgs {
    /// Settings file, TOML [default: $ASHLAR_CACHE_SERVER_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// What is set by flags.
    #[command(flatten)]
    pub options: Options,
}

/// Remove results from a running server, so that steps are run again.
///
/// Says how many of those that were looked at were removed. It needs the right `admin` in the
/// namespaces that it concerns; others are passed over. The server notes it in its audit log.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  ashlar-cache invalidate --server grpcs://cache:8980 --token-file admin \\
      --signer 5f0c6f4c77d8a1b8a1f3b0f2d1c9d3d0b5e3a7b1c2d3e4f5061728394a5b6c7d \\
      --reason 'builder-7 was broken into'
      all that a builder has signed
  ashlar-cache invalidate --server grpc://127.0.0.1:8980 --prefix acme/web/pr/17 --dry-run
      what is there of a pull request, without removing it

Exit codes: 0 done, 1 failed, 2 wrong usage.")]
pub struct InvalidateArgs {
    /// The server: grpc://HOST:PORT, grpcs://HOST:PORT for TLS, or unix:///PATH
    #[arg(long, value_name = "ADDR")]
    pub server: String,

    /// A file with the token to show
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Certificates of authorities, one of which the server's has to lead up to, PEM [default: the
    /// system's]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// Certificate to show, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Which results.
    #[command(flatten)]
    pub what: Invalidated,

    /// Why, for the server's audit log
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub reason: String,

    /// Only say how many there are
    #[arg(long)]
    pub dry_run: bool,
}

/// Which results are removed.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct Invalidated {
    /// Those that this key has signed: its id, 64 hexadecimal digits
    #[arg(long, value_name = "ID")]
    pub signer: Option<String>,

    /// Those of this namespace and of all below it, cache mounts included; '' for all
    #[arg(long, value_name = "NS")]
    pub prefix: Option<String>,

    /// Those of one step: its definition key, content key or instruction key, 64 hexadecimal digits
    #[arg(long, value_name = "HEX")]
    pub key: Option<String>,
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
