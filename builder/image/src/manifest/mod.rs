//! Image manifests and indexes, in OCI's form and in Docker's (schema 2), which differ in nothing
//! but media types.
//!
//! A manifest names an image's configuration and layers; an index names manifests, usually one for
//! each platform. What is read here comes from strangers: it is bounded in size, and checked
//! before anything relies on it. Unknown keys are dropped; `null` is as good as absent.

mod choose;
mod format;
mod read;

use std::collections::BTreeMap;

use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::BlobDigest;
use ashlar_model::media_type::{DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use serde::Serialize;

pub use choose::{ChoosePlatformError, choose};
pub use format::ManifestFormat;
pub use read::{MAX_MANIFEST_SIZE, ReadManifestError};

/// The media types that [`Manifest::read`] understands, as an `Accept` header lists them.
pub const ACCEPTED_MEDIA_TYPES: [&str; 4] =
    [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST];

/// Annotation with an image's tag, in an OCI layout's `index.json`.
pub const REFERENCE_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation with an image's whole name, in an OCI layout's `index.json`.
pub const IMAGE_NAME: &str = "io.containerd.image.name";

/// A manifest of one image or of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifest {
    /// One image.
    Image(ImageManifest),
    /// One image for each platform.
    Index(ImageIndex),
}

/// The manifest of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    schema_version: SchemaVersion,
    /// [`OCI_MANIFEST`] or [`DOCKER_MANIFEST`].
    pub media_type: String,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub layers: Vec<Descriptor>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An index: manifests of one image for several platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    schema_version: SchemaVersion,
    /// [`OCI_INDEX`] or [`DOCKER_INDEX`].
    pub media_type: String,
    /// The manifests, in the order of preference.
    pub manifests: Vec<Descriptor>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Always 2: version 1 was Docker's first registry format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct SchemaVersion;

impl Serialize for SchemaVersion {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(2)
    }
}

impl ImageManifest {
    /// A manifest in the given form. The media types of configuration and layers are changed to
    /// that form's; digests and sizes stay.
    pub fn new(format: ManifestFormat, config: &Descriptor, layers: &[Descriptor]) -> Self {
        Self {
            schema_version: SchemaVersion,
            media_type: format.manifest_media_type().to_owned(),
            config: Descriptor::new(format.config_media_type(), config.digest, config.size),
            layers: layers.iter().map(|layer| format.layer(layer)).collect(),
            annotations: BTreeMap::new(),
        }
    }

    /// The JSON form, compact.
    pub fn to_vec(&self) -> Vec<u8> {
        // Maps have string keys and nothing here can refuse to be written.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Points to this manifest as [`to_vec`](Self::to_vec) writes it.
    pub fn descriptor(&self) -> Descriptor {
        describe(&self.media_type, &self.to_vec())
    }
}

impl ImageIndex {
    /// An OCI index.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: SchemaVersion,
            media_type: OCI_INDEX.to_owned(),
            manifests,
            annotations: BTreeMap::new(),
        }
    }

    /// The JSON form, compact.
    pub fn to_vec(&self) -> Vec<u8> {
        // Maps have string keys and nothing here can refuse to be written.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// Points to a small blob that is at hand.
pub fn describe(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor::new(media_type, BlobDigest::of(bytes), bytes.len() as u64)
}

/// Whether a media type is an index's.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_INDEX)
}

#[cfg(test)]
mod tests {
    use ashlar_model::media_type::{OCI_CONFIG, OCI_LAYER_GZIP};

    use super::*;

    #[test]
    fn a_manifest_is_written_as_the_specification_has_it() {
        let config = describe(OCI_CONFIG, b"{}");
        let layer = describe(OCI_LAYER_GZIP, b"layer");
        let manifest =
            ImageManifest::new(ManifestFormat::Oci, &config, std::slice::from_ref(&layer));
        let expected = format!(
            concat!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","#,
                r#""config":{{"mediaType":"application/vnd.oci.image.config.v1+json","#,
                r#""digest":"{}","size":2}},"layers":[{{"#,
                r#""mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","#,
                r#""digest":"{}","size":5}}]}}"#
            ),
            config.digest, layer.digest
        );
        let bytes = manifest.to_vec();
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
        assert_eq!(manifest.descriptor().digest, BlobDigest::of(&bytes));
        let back = Manifest::read(&bytes, OCI_MANIFEST).unwrap();
        assert_eq!(back, Manifest::Image(manifest));
    }
}
