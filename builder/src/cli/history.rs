//! `ashlar history`.

use clap::Args;

use super::Format;

/// Show how an image came about, newest step first.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example: ashlar history --no-trunc hello")]
pub struct HistoryArgs {
    /// Print instructions whole
    #[arg(long)]
    pub no_trunc: bool,

    /// How the list is printed
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,

    /// Image: its name, or its ID or the beginning of it
    #[arg(value_name = "IMAGE")]
    pub image: String,
}
