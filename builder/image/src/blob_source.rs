//! Where exporters and pushes take a blob's bytes from.

use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_model::descriptor::Descriptor;
use ashlar_model::executor::BoxFuture;
use ashlar_model::reference::Reference;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

/// The bytes of one blob. They can be read several times, as a broken upload is begun anew.
pub trait BlobSource: fmt::Debug + Send + Sync {
    /// Makes the bytes available, such as by fetching them. Called and awaited before the first
    /// [`open`](Self::open), and only if they are needed: a push of a blob that the registry has
    /// needs none.
    fn prepare(&self) -> BoxFuture<'_, Result<(), PrepareError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Opens the bytes from `offset` on.
    fn open(&self, offset: u64) -> io::Result<BlobReader>;

    /// The file that holds exactly these bytes and never changes, if there is one: exporters link
    /// it instead of copying.
    fn path(&self) -> Option<&Path> {
        None
    }

    /// Told that a repository has the blob, after a push.
    fn is_in(&self, _repository: &Reference) {}
}

/// Why a blob's bytes are not available.
pub type PrepareError = Box<dyn std::error::Error + Send + Sync>;

/// A blob's bytes, being read.
pub enum BlobReader {
    /// In a file: the kernel can copy them without our touching them.
    File(File),
    /// From anywhere else.
    Stream(Box<dyn Read + Send>),
}

impl fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => f.debug_tuple("File").field(file).finish(),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Stream(stream) => stream.read(buffer),
        }
    }
}

/// A blob in a file of its own, such as one of the local store.
#[derive(Debug, Clone)]
pub struct FileBlob(pub PathBuf);

impl BlobSource for FileBlob {
    fn open(&self, offset: u64) -> io::Result<BlobReader> {
        let mut file = File::open(&self.0)?;
        if offset > 0 {
            file.seek(SeekFrom::Start(offset))?;
        }
        Ok(BlobReader::File(file))
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.0)
    }
}

/// A small blob in memory.
impl BlobSource for Bytes {
    fn open(&self, offset: u64) -> io::Result<BlobReader> {
        let start = usize::try_from(offset).map_or(self.len(), |offset| offset.min(self.len()));
        Ok(BlobReader::Stream(Box::new(Cursor::new(
            self.slice(start..),
        ))))
    }
}

/// A layer of an image that is to be exported.
#[derive(Debug, Clone)]
pub struct LayerBlob {
    /// Media type, digest, size.
    pub descriptor: Descriptor,
    /// The bytes.
    pub source: Arc<dyn BlobSource>,
    /// Repositories that are known to hold the blob: a push to the same registry mounts it.
    pub repositories: Vec<Reference>,
}

impl LayerBlob {
    /// A layer whose blob is a file.
    pub fn in_file(descriptor: Descriptor, path: impl Into<PathBuf>) -> Self {
        Self {
            descriptor,
            source: Arc::new(FileBlob(path.into())),
            repositories: Vec::new(),
        }
    }

    /// Makes the bytes of all layers available, several at once. Whatever exports to this machine
    /// needs that first.
    pub async fn prepare_all(layers: &[Self]) -> Result<(), PrepareError> {
        stream::iter(layers)
            .map(|layer| Ok(layer.source.prepare()))
            .try_buffer_unordered(PREPARED_AT_ONCE)
            .try_collect()
            .await
    }
}

/// As many as are fetched from one registry at once.
const PREPARED_AT_ONCE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_offset_can_be_read_from() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("blob");
        std::fs::write(&path, "hello").unwrap();
        let sources: [&dyn BlobSource; 2] = [&FileBlob(path), &Bytes::from_static(b"hello")];
        for source in sources {
            for (offset, rest) in [(0, "hello"), (2, "llo"), (5, ""), (100, "")] {
                let mut text = String::new();
                source
                    .open(offset)
                    .unwrap()
                    .read_to_string(&mut text)
                    .unwrap();
                assert_eq!(text, rest);
            }
        }
    }
}
