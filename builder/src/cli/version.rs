//! `ashlar version`.

use clap::Args;

use super::Format;

/// Show the version of this program.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example: ashlar version --format json")]
pub struct VersionArgs {
    /// How it is printed
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
}
