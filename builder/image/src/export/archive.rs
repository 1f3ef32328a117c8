//! A tar of an image's parts: small files and blobs, the same bytes for the same parts.

use std::io::Write as _;

use ashlar_model::digest::BlobDigest;
use tar::{EntryType, Header};

use super::sink::Sink;
use super::{Destination, ExportError, ExportImage};
use crate::blob_source::LayerBlob;

/// A tar is a sequence of blocks of so many bytes.
const BLOCK: u64 = 512;
const ZEROS: [u8; 1024] = [0; 1024];

/// Writes a tar to a destination.
pub(super) struct ArchiveWriter {
    sink: Sink,
}

impl ArchiveWriter {
    pub(super) fn create(destination: &Destination) -> Result<Self, ExportError> {
        Ok(Self {
            sink: Sink::open(destination)?,
        })
    }

    pub(super) fn directory(&mut self, name: &str) -> Result<(), ExportError> {
        self.header(name, EntryType::Directory, 0o755, 0)
    }

    pub(super) fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), ExportError> {
        let size = bytes.len() as u64;
        self.header(name, EntryType::Regular, 0o644, size)?;
        self.raw(bytes)?;
        self.pad(size)
    }

    /// `blobs/` with all blobs of an image: manifest, configuration, layers.
    pub(super) fn blobs(&mut self, image: &ExportImage) -> Result<(), ExportError> {
        self.directory("blobs/")?;
        self.directory("blobs/sha256/")?;
        self.file(&blob_name(&image.manifest.digest), &image.manifest_bytes)?;
        self.file(&blob_name(&image.config.digest), &image.config_bytes)?;
        for layer in image.distinct_layers() {
            self.layer(layer)?;
        }
        Ok(())
    }

    fn layer(&mut self, layer: &LayerBlob) -> Result<(), ExportError> {
        let (digest, size) = (layer.descriptor.digest, layer.descriptor.size);
        let read = |source| ExportError::ReadBlob { digest, source };
        let reader = layer.source.open(0).map_err(read)?;
        if let crate::blob_source::BlobReader::File(file) = &reader {
            // Before the first byte is written, as it could not be taken back from a pipe.
            check_size(layer, file.metadata().map_err(read)?.len())?;
        }
        self.header(&blob_name(&digest), EntryType::Regular, 0o644, size)?;
        let copied = self
            .sink
            .copy(reader, size)
            .map_err(|source| self.sink.error(source))?;
        check_size(layer, copied)?;
        self.pad(size)
    }

    pub(super) fn finish(mut self) -> Result<(), ExportError> {
        self.raw(&ZEROS)?;
        self.sink.finish()
    }

    fn header(
        &mut self,
        name: &str,
        kind: EntryType,
        mode: u32,
        size: u64,
    ) -> Result<(), ExportError> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header
            .set_path(name)
            .map_err(|source| self.sink.error(source))?;
        header.set_cksum();
        self.raw(header.as_bytes())
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.sink
            .write_all(bytes)
            .map_err(|source| self.sink.error(source))
    }

    fn pad(&mut self, size: u64) -> Result<(), ExportError> {
        let padding = size.next_multiple_of(BLOCK) - size;
        match usize::try_from(padding) {
            Ok(padding) => self.raw(&ZEROS[..padding]),
            Err(_) => Ok(()),
        }
    }
}

pub(super) fn blob_name(digest: &BlobDigest) -> String {
    format!("blobs/sha256/{}", digest.to_hex())
}

pub(super) fn check_size(layer: &LayerBlob, actual: u64) -> Result<(), ExportError> {
    if actual == layer.descriptor.size {
        return Ok(());
    }
    Err(ExportError::BlobSize {
        digest: layer.descriptor.digest,
        expected: layer.descriptor.size,
        actual,
    })
}
