//! `ashlar logs`.

use clap::Args;

use super::value::FarmArgs;
use crate::ui::ProgressMode;

/// Show what a build on a farm has said.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  ashlar logs 5f0c…
  ashlar logs -f \"$id\"      and what it says from now on, until it ends")]
pub struct LogsArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would take them for the help")]
    pub farm: FarmArgs,

    /// Go on until the build ends
    #[arg(short, long)]
    pub follow: bool,

    /// How progress is shown [default: $ASHLAR_PROGRESS, else plain]
    #[arg(long, value_enum, value_name = "MODE")]
    pub progress: Option<ProgressMode>,

    /// The build, as `ashlar submit` printed it
    #[arg(value_name = "ID")]
    pub id: String,
}
