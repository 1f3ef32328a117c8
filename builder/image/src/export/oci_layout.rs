//! An OCI layout, in a tar or in a directory.
//!
//! A directory may hold a layout already: the image is added, and takes its names from whatever
//! had them. `index.json` is written last, so that at no time it names what is not there.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::ioctl_ficlone;

use super::archive::{ArchiveWriter, blob_name, check_size};
use super::spec::Destination;
use super::{ExportError, ExportImage};
use crate::blob_source::{BlobReader, LayerBlob};
use crate::manifest::{IMAGE_NAME, ImageIndex, Manifest};

pub(super) const MARKER: &str = "oci-layout";
pub(super) const MARKER_CONTENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
pub(super) const INDEX: &str = "index.json";

/// Writes an image as a tar with an OCI layout in it.
pub fn write_tar(image: &ExportImage, destination: &Destination) -> Result<(), ExportError> {
    let mut archive = ArchiveWriter::create(destination)?;
    archive.file(MARKER, MARKER_CONTENT)?;
    archive.file(INDEX, &ImageIndex::new(image.index_entries()).to_vec())?;
    archive.blobs(image)?;
    archive.finish()
}

/// Adds an image to an OCI layout in a directory, making it if there is none.
pub fn write_directory(image: &ExportImage, directory: &Path) -> Result<(), ExportError> {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(|e| ExportError::write("create", &blobs, e))?;
    for layer in image.distinct_layers() {
        place_layer(layer, &directory.join(blob_name(&layer.descriptor.digest)))?;
    }
    for (digest, bytes) in [
        (&image.config.digest, &image.config_bytes),
        (&image.manifest.digest, &image.manifest_bytes),
    ] {
        place(&directory.join(blob_name(digest)), bytes)?;
    }
    place(&directory.join(MARKER), MARKER_CONTENT)?;
    let path = directory.join(INDEX);
    let index = merged_index(image, &path);
    place(&path, &index.to_vec())
}

/// The images that are there, without those whose name or place the new one takes.
fn merged_index(image: &ExportImage, path: &Path) -> ImageIndex {
    let mut entries = match fs::read(path).map(|bytes| Manifest::read(&bytes, "")) {
        Ok(Ok(Manifest::Index(index))) => index.manifests,
        // What cannot be understood names nothing that could be kept.
        _ => Vec::new(),
    };
    let new = image.index_entries();
    entries.retain(|old| {
        !new.iter().any(|new| {
            match (
                old.annotations.get(IMAGE_NAME),
                new.annotations.get(IMAGE_NAME),
            ) {
                (Some(old), Some(new)) => old == new,
                // Without a name it is its digest that counts.
                (None, _) => old.digest == new.digest,
                (Some(_), None) => false,
            }
        })
    });
    entries.extend(new);
    ImageIndex::new(entries)
}

/// Writes a small file so that it appears whole.
fn place(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    let mut sink = super::sink::Sink::open(&Destination::File(path.to_owned()))?;
    io::Write::write_all(&mut sink, bytes).map_err(|source| sink.error(source))?;
    sink.finish()
}

/// Puts a layer's blob into its place: by sharing its blocks or its inode with the file that it
/// comes from, else by copying it.
fn place_layer(layer: &LayerBlob, path: &Path) -> Result<(), ExportError> {
    let (digest, size) = (layer.descriptor.digest, layer.descriptor.size);
    if fs::metadata(path).is_ok_and(|there| there.is_file() && there.len() == size) {
        return Ok(());
    }
    let read = |source| ExportError::ReadBlob { digest, source };
    let reader = layer.source.open(0).map_err(read)?;
    if let BlobReader::File(file) = &reader {
        check_size(layer, file.metadata().map_err(read)?.len())?;
        if let Some(source) = layer.source.path()
            && (clone_file(file, path) || link(source, path))
        {
            return Ok(());
        }
    }
    let mut sink = super::sink::Sink::open(&Destination::File(path.to_owned()))?;
    let copied = sink
        .copy(reader, size)
        .map_err(|source| sink.error(source))?;
    check_size(layer, copied)?;
    sink.finish()
}

/// Shares the blocks, where the filesystem can (btrfs, XFS, bcachefs).
fn clone_file(source: &File, path: &Path) -> bool {
    let Some(parent) = path.parent() else {
        return false;
    };
    let Ok(temporary) = tempfile::NamedTempFile::new_in(parent) else {
        return false;
    };
    ioctl_ficlone(&temporary, source).is_ok() && temporary.persist(path).is_ok()
}

/// Shares the inode. One of the wrong size that is in the way makes this fail, and is replaced by
/// the copy.
fn link(source: &Path, path: &Path) -> bool {
    fs::hard_link(source, path).is_ok()
}
