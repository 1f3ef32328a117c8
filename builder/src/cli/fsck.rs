//! `ashlar fsck`.

use clap::Args;

use super::Format;

/// Read the whole local store, and remove what is damaged.
///
/// Every file is compared with the digest that is kept of it. What is removed is made or fetched
/// again by the next build that needs it. Builds may go on meanwhile. The exit code is 1 if
/// something was damaged.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  ashlar fsck
  ashlar fsck --dry-run --format json      tell, and leave everything as it is")]
pub struct FsckArgs {
    /// Only tell what is damaged
    #[arg(long)]
    pub dry_run: bool,

    /// How the result is printed
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
}
