//! `ashlar cache`.

pub mod explain;
pub mod keygen;
pub mod ls;
pub mod stats;

use clap::{Args, Subcommand};

/// Look at what is shared with other machines, and why steps were not found; make keys to sign
/// results with.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  ashlar cache explain                      why steps of the last build ran
  ashlar cache stats                        what the shared caches hold")]
pub struct CacheArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: CacheCommand,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
#[expect(
    missing_docs,
    reason = "clap would take them for the help, which stands with each command's arguments"
)]
pub enum CacheCommand {
    Explain(explain::ExplainArgs),
    Keygen(keygen::KeygenArgs),
    Ls(ls::LsArgs),
    Stats(stats::StatsArgs),
}
