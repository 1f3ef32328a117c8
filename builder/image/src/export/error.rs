//! Why an image cannot be exported to this machine.

use std::io;
use std::path::{Path, PathBuf};

use ashlar_model::digest::BlobDigest;

/// An image cannot be exported to this machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A file or directory of the result cannot be made.
    #[error("cannot {action} {}", path.display())]
    Write {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The destination is a directory where a file should be.
    #[error("cannot write the image to {}: it is a directory", .0.display())]
    IsDirectory(PathBuf),
    /// Standard output is closed or full.
    #[error("cannot write the image to standard output")]
    Stdout(#[source] io::Error),
    /// A layer's blob cannot be read.
    #[error("cannot read the layer {digest}")]
    ReadBlob {
        /// Which layer.
        digest: BlobDigest,
        /// Why not.
        source: io::Error,
    },
    /// A layer's blob is not what its descriptor says.
    #[error("the layer {digest} has {actual} bytes instead of {expected}")]
    BlobSize {
        /// Which layer.
        digest: BlobDigest,
        /// By its descriptor.
        expected: u64,
        /// What there was.
        actual: u64,
    },
    /// The files of the image cannot be read.
    #[error("cannot read the files of the image")]
    Filesystem(#[source] io::Error),
    /// The files of the image cannot be unpacked.
    #[error("cannot export {entry}: {reason}")]
    Entry {
        /// Path inside the image.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ExportError {
    pub(super) fn write(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Write {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// Whether whoever reads standard output has stopped reading, which is no failure of ours.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Stdout(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
