//! `ashlar du`.

use clap::Args;

use super::Format;

/// Show what the local store keeps and how much space it takes.
///
/// IN USE is what named images need; CACHED what only cached results need (`prune --all` removes
/// it); UNUSED what `prune` removes.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  ashlar du
  ashlar du --verbose                 also what each image shares with others")]
pub struct DuArgs {
    /// Show for each image what it shares with others
    #[arg(short, long)]
    pub verbose: bool,

    /// How the table is printed
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
}
