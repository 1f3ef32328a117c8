//! `ashlar tag`.

use ashlar_model::reference::Reference;
use clap::Args;

use super::value;

/// Give an image another name.
///
/// A name that another image has moves to this one.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example: ashlar tag hello registry.example.com/team/hello:1.2")]
pub struct TagArgs {
    /// Image: its name, or its ID or the beginning of it
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// The new name
    #[arg(value_name = "NAME", value_parser = value::tag)]
    pub name: Reference,
}
