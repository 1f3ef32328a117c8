//! Why an image cannot be had.

use std::path::PathBuf;

use ashlar_model::config::ReadConfigError;
use ashlar_store::home::StoreError;

use crate::manifest::{ChoosePlatformError, ReadManifestError};
use crate::oci_layout::{ImportBlobError, OpenLayoutError};
use crate::registry::RegistryError;

/// An image cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The registry failed.
    #[error("cannot get {image}")]
    Registry {
        /// The image.
        image: String,
        /// Why not.
        source: Box<RegistryError>,
    },
    /// The OCI layout cannot be used.
    #[error("cannot use {image}")]
    Layout {
        /// The image.
        image: String,
        /// Why not.
        source: OpenLayoutError,
    },
    /// A blob cannot be taken from the OCI layout.
    #[error("cannot use {image}")]
    Import {
        /// The image.
        image: String,
        /// Why not.
        source: ImportBlobError,
    },
    /// The image is not made for the platform.
    #[error("cannot use {image}")]
    Platform {
        /// The image.
        image: String,
        /// Why not.
        source: ChoosePlatformError,
    },
    /// The manifest cannot be used.
    #[error("cannot use the manifest of {image}")]
    Manifest {
        /// The image.
        image: String,
        /// Why not.
        source: ReadManifestError,
    },
    /// Indexes point to indexes without end.
    #[error("{image} has more than {limit} indexes inside each other")]
    Depth {
        /// The image.
        image: String,
        /// How many are allowed.
        limit: usize,
    },
    /// It is something else than an image.
    #[error("{image} is no container image: its configuration is of the type `{media_type}`")]
    NotAnImage {
        /// The name.
        image: String,
        /// Media type of the configuration.
        media_type: String,
    },
    /// The configuration cannot be used.
    #[error("cannot use the configuration of {image}")]
    Config {
        /// The image.
        image: String,
        /// Why not.
        source: ReadConfigError,
    },
    /// Manifest and configuration do not go together.
    #[error("{image} is damaged: its manifest has {layers} layers, its configuration {diff_ids}")]
    LayerCount {
        /// The image.
        image: String,
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
    /// A layer is in a form that nobody here can unpack.
    #[error("{image} has a layer of the type `{media_type}`, which is not supported")]
    LayerMediaType {
        /// The image.
        image: String,
        /// The layer's type.
        media_type: String,
    },
    /// There is no such layer.
    #[error("{image} has no layer number {index}")]
    NoLayer {
        /// The image.
        image: String,
        /// Counted from 0.
        index: usize,
    },
    /// The store failed.
    #[error("cannot store {image}")]
    Store {
        /// The image.
        image: String,
        /// Why not.
        source: StoreError,
    },
    /// A file of the layout is in use by a task that was ended.
    #[error("reading {} was interrupted", .0.display())]
    Interrupted(PathBuf),
}

impl PullError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Registry { source, .. } => source.hint(),
            Self::Platform { source, .. } => source.available.first().map(|platform| {
                format!("build for one that there is, such as --platform {platform}")
            }),
            Self::Store { source, .. } => source.hint(),
            _ => None,
        }
    }
}
