//! `ashlar push`.

use ashlar_model::reference::Reference;
use clap::Args;

use super::value;
use crate::ui::ProgressMode;

/// Send an image from the local store to a registry.
///
/// What the registry has already is not sent. Credentials are those of `docker login` and
/// `podman login`. Prints the digest of the manifest.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  ashlar push registry.example.com/team/hello:1.2
  ashlar push hello registry.example.com/team/hello      under another name")]
pub struct PushArgs {
    /// How progress is shown [default: $ASHLAR_PROGRESS, else auto]
    #[arg(long, value_enum, value_name = "MODE")]
    pub progress: Option<ProgressMode>,

    /// Show nothing but errors
    #[arg(short, long)]
    pub quiet: bool,

    /// Image in the local store: its name, or its ID or the beginning of it
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// Name to push to [default: the image's]
    #[arg(value_name = "NAME", value_parser = value::tag)]
    pub destination: Option<Reference>,
}
