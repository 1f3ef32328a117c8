//! `ashlar inspect`.

use clap::Args;

/// Show all that is known of images, as JSON.
///
/// Prints one array with an object for each image, with the field names of `docker image inspect`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example: ashlar inspect hello | jq '.[0].Config.Env'")]
pub struct InspectArgs {
    /// Images: their names, or their IDs or the beginnings of them
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,

    /// How it is printed; there is only one way
    #[arg(long, value_parser = ["json"], hide = true)]
    format: Option<String>,
}
