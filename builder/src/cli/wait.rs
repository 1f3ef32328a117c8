//! `ashlar wait`.

use clap::Args;

use super::value::FarmArgs;

/// Wait until a build on a farm has ended.
///
/// The exit code is that of the build: what `ashlar build` would have returned.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  id=$(ashlar submit -t registry.example.com/hello --push .) && ashlar wait \"$id\"")]
pub struct WaitArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would take them for the help")]
    pub farm: FarmArgs,

    /// The build, as `ashlar submit` printed it
    #[arg(value_name = "ID")]
    pub id: String,
}
