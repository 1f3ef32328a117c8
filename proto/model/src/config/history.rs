//! One line of an image's history.

use serde::{Deserialize, Serialize};

use super::{DateTime, lenient, time};

/// What one instruction did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When.
    #[serde(
        default,
        deserialize_with = "time::tolerant",
        skip_serializing_if = "Option::is_none"
    )]
    pub created: Option<DateTime>,
    /// The instruction.
    #[serde(
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub created_by: String,
    /// Who.
    #[serde(
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub author: String,
    /// By which program, such as `buildkit.dockerfile.v0`.
    #[serde(
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub comment: String,
    /// Whether it made no layer. The entries that made one are as many as the layers.
    #[serde(
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub empty_layer: bool,
}
