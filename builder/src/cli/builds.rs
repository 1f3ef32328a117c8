//! `ashlar builds`.

use clap::Args;

use super::Format;
use super::value::FarmArgs;

/// List the builds that were given to a farm, the newest first.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  ashlar builds
  ashlar builds --limit 5 --format json")]
pub struct BuildsArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would take them for the help")]
    pub farm: FarmArgs,

    /// The most builds that are listed
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,

    /// How the list is printed
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
}
