//! An image whose manifest and configuration are known.

use std::fmt;

use ashlar_model::config::ImageConfig;
use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::DiffId;
use ashlar_model::media_type::{Compression, DOCKER_CONFIG, OCI_CONFIG};
use ashlar_model::reference::Reference;

use super::PullError;
use crate::manifest::ImageManifest;
use crate::oci_layout::LayoutReference;

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// A registry.
    Registry(Reference),
    /// An OCI layout on this machine.
    Layout(LayoutReference),
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Layout(reference) => reference.fmt(f),
        }
    }
}

/// An image. Its manifest and configuration are in the store; its layers need not be.
///
/// Invariant: there are as many layers as diff IDs, and each layer's compression is known.
#[derive(Debug, Clone)]
pub struct ImageHandle {
    /// Where it comes from.
    pub source: ImageSource,
    /// What the name stood for: the manifest, or the index that it was chosen from.
    pub resolved: Descriptor,
    /// Points to the manifest.
    pub manifest_descriptor: Descriptor,
    /// The manifest.
    pub manifest: ImageManifest,
    /// The configuration; [`config_descriptor`](Self::config_descriptor) points to it.
    pub config: ImageConfig,
}

impl ImageHandle {
    /// Points to the configuration. Its digest is the image's ID.
    pub const fn config_descriptor(&self) -> &Descriptor {
        &self.manifest.config
    }

    /// The layers, bottom first: blob and digest of the plain tar.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = (&Descriptor, DiffId)> {
        let diff_ids = self.config.rootfs.diff_ids.iter().copied();
        self.manifest.layers.iter().zip(diff_ids)
    }

    /// Checks the invariant.
    pub(super) fn check(self) -> Result<Self, PullError> {
        let (layers, diff_ids) = (&self.manifest.layers, &self.config.rootfs.diff_ids);
        if layers.len() != diff_ids.len() {
            return Err(PullError::LayerCount {
                image: self.source.to_string(),
                layers: layers.len(),
                diff_ids: diff_ids.len(),
            });
        }
        let strange = layers
            .iter()
            .find(|layer| Compression::of_layer_media_type(&layer.media_type).is_none());
        match strange {
            Some(layer) => Err(PullError::LayerMediaType {
                image: self.source.to_string(),
                media_type: layer.media_type.chars().take(120).collect(),
            }),
            None => Ok(self),
        }
    }
}

/// Whether a media type is an image configuration's. Manifests without one are old.
pub(super) fn is_config(media_type: &str) -> bool {
    matches!(
        media_type,
        OCI_CONFIG | DOCKER_CONFIG | "" | "application/octet-stream"
    )
}
