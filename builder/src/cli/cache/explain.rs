//! `ashlar cache explain`.

use clap::Args;

use crate::cli::Format;

/// Tell why steps of the last build were not found.
///
/// Of each step that ran, or was found only by the content of what it is made from, it names what
/// differs from the nearest earlier result: files of the context, variables, the command, an
/// image, or an earlier step. The last builds of this store that missed anything are remembered.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  ashlar cache explain
  ashlar cache explain 'RUN make'
  ashlar cache explain 4 --format json")]
pub struct ExplainArgs {
    /// How the result is printed
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,

    /// Only this step: its number in the build's output, or a part of its name
    #[arg(value_name = "STEP")]
    pub step: Option<String>,
}
