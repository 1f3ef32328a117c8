//! `ashlar cancel`.

use clap::Args;

use super::value::FarmArgs;

/// Call a build on a farm off.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  ashlar cancel \"$id\"")]
pub struct CancelArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would take them for the help")]
    pub farm: FarmArgs,

    /// The build, as `ashlar submit` printed it
    #[arg(value_name = "ID")]
    pub id: String,
}
