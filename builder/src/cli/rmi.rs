//! `ashlar rmi`.

use clap::Args;

/// Take names away from images.
///
/// The layers stay, as results that later builds may use, until `ashlar prune --all`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  ashlar rmi hello:old
  ashlar rmi --force 3f2a            all names of the image with this ID")]
pub struct RmiArgs {
    /// Take all names away from an image that is given by its ID; no error if there is none
    #[arg(short, long)]
    pub force: bool,

    /// Images: their names, or their IDs or the beginnings of them
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
}
