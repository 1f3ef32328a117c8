//! `ashlar pull`.

use ashlar_model::platform::Platform;
use ashlar_model::reference::Reference;
use clap::Args;

use super::value;
use crate::ui::ProgressMode;

/// Fetch an image from a registry into the local store.
///
/// Credentials are those of `docker login` and `podman login`. Prints the image ID.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example: ashlar pull --platform linux/arm64 debian:bookworm")]
pub struct PullArgs {
    /// Platform to choose from an image that has several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = value::platform)]
    pub platform: Option<Platform>,

    /// How progress is shown [default: $ASHLAR_PROGRESS, else auto]
    #[arg(long, value_enum, value_name = "MODE")]
    pub progress: Option<ProgressMode>,

    /// Show nothing but errors
    #[arg(short, long)]
    pub quiet: bool,

    /// Image to fetch
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub image: Reference,
}
