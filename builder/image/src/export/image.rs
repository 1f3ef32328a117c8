//! An image that is to be exported.

use ashlar_model::config::{DateTime, ImageConfig};
use ashlar_model::descriptor::Descriptor;
use ashlar_model::reference::Reference;
use bytes::Bytes;

use crate::blob_source::LayerBlob;
use crate::manifest::{IMAGE_NAME, ImageManifest, ManifestFormat, REFERENCE_NAME, describe};

/// Annotation with the time that an image was made, in an OCI layout's `index.json`.
const CREATED: &str = "org.opencontainers.image.created";

/// An image with all its parts.
#[derive(Debug, Clone)]
pub struct ExportImage {
    /// Points to the manifest.
    pub manifest: Descriptor,
    /// The manifest's bytes.
    pub manifest_bytes: Bytes,
    /// Points to the configuration.
    pub config: Descriptor,
    /// The configuration's bytes.
    pub config_bytes: Bytes,
    /// The layers, bottom first.
    pub layers: Vec<LayerBlob>,
    /// The image's names.
    pub names: Vec<Reference>,
    /// When the image was made.
    pub created: Option<DateTime>,
}

impl ExportImage {
    /// Makes a manifest for a configuration and its layers.
    pub fn new(
        format: ManifestFormat,
        config: &ImageConfig,
        layers: Vec<LayerBlob>,
        names: Vec<Reference>,
    ) -> Self {
        let config_bytes = config.to_vec();
        let descriptor = describe(format.config_media_type(), &config_bytes);
        let descriptors: Vec<Descriptor> = layers
            .iter()
            .map(|layer| layer.descriptor.clone())
            .collect();
        let manifest = ImageManifest::new(format, &descriptor, &descriptors);
        Self::with_manifest(
            &manifest,
            manifest.to_vec().into(),
            config_bytes.into(),
            layers,
            names,
        )
        .at(config.created)
    }

    /// An image that has its manifest already, such as one that was pulled. Its bytes are kept as
    /// they are, and so is its digest.
    pub fn with_manifest(
        manifest: &ImageManifest,
        manifest_bytes: Bytes,
        config_bytes: Bytes,
        layers: Vec<LayerBlob>,
        names: Vec<Reference>,
    ) -> Self {
        Self {
            manifest: describe(&manifest.media_type, &manifest_bytes),
            config: describe(&manifest.config.media_type, &config_bytes),
            manifest_bytes,
            config_bytes,
            layers,
            names,
            created: None,
        }
    }

    /// The same image with the time that it was made.
    #[must_use]
    pub const fn at(mut self, created: Option<DateTime>) -> Self {
        self.created = created;
        self
    }

    /// The entries of an `index.json`: one for each name, or one without name. Annotations are
    /// BuildKit's.
    pub(super) fn index_entries(&self) -> Vec<Descriptor> {
        let mut plain = self.manifest.clone();
        if let Some(created) = self.created {
            plain
                .annotations
                .insert(CREATED.to_owned(), created.to_string());
        }
        if self.names.is_empty() {
            return vec![plain];
        }
        self.names
            .iter()
            .map(|name| {
                let mut entry = plain.clone();
                let annotations = &mut entry.annotations;
                annotations.insert(IMAGE_NAME.to_owned(), name.to_string());
                if let Some(tag) = name.tag() {
                    annotations.insert(REFERENCE_NAME.to_owned(), tag.to_owned());
                }
                entry
            })
            .collect()
    }

    /// The layers' blobs, each once: layers without content are often the same.
    pub(super) fn distinct_layers(&self) -> impl Iterator<Item = &LayerBlob> {
        let mut seen = std::collections::BTreeSet::new();
        self.layers
            .iter()
            .filter(move |layer| seen.insert(layer.descriptor.digest))
    }
}
