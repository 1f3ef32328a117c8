//! `ashlar images`.

use clap::Args;

use super::Format;

/// List the images in the local store.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  ashlar images                     all images
  ashlar images debian              those of one repository
  ashlar images --format json       one object on each line, for programs")]
pub struct ImagesArgs {
    /// Print only image IDs
    #[arg(short, long)]
    pub quiet: bool,

    /// Print IDs whole
    #[arg(long)]
    pub no_trunc: bool,

    /// Show digests of manifests
    #[arg(long)]
    pub digests: bool,

    /// How the list is printed
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,

    /// Only images of this repository, or this repository and tag
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub repository: Option<String>,
}
