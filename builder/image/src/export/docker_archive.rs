//! The tar of `docker save` (since Docker 25): an OCI layout with a `manifest.json` beside it.
//!
//! Everything that reads the old form finds `manifest.json`; everything that knows better finds
//! the layout. Layers stay compressed: all readers unpack them.

use ashlar_model::reference::Reference;
use serde::Serialize;

use super::archive::{ArchiveWriter, blob_name};
use super::oci_layout::{INDEX, MARKER, MARKER_CONTENT};
use super::{Destination, ExportError, ExportImage};
use crate::manifest::ImageIndex;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Writes an image as a tar for `docker load`.
pub fn write(image: &ExportImage, destination: &Destination) -> Result<(), ExportError> {
    let mut archive = ArchiveWriter::create(destination)?;
    archive.file(MARKER, MARKER_CONTENT)?;
    archive.file(INDEX, &ImageIndex::new(image.index_entries()).to_vec())?;
    archive.file("manifest.json", &manifest(image))?;
    archive.blobs(image)?;
    archive.finish()
}

fn manifest(image: &ExportImage) -> Vec<u8> {
    let entry = Entry {
        config: blob_name(&image.config.digest),
        // Docker takes the tags as they are, without `docker.io/library/`.
        repo_tags: image.names.iter().map(Reference::familiar).collect(),
        layers: image
            .layers
            .iter()
            .map(|layer| blob_name(&layer.descriptor.digest))
            .collect(),
    };
    // Nothing here can refuse to be written.
    serde_json::to_vec(&[entry]).unwrap_or_default()
}
