//! Why a layer cannot be packed.

use std::io;

use crate::layer::tar_write::TarWriteError;

/// Why [`pack`](super::pack) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// The tar could not be made.
    #[error("cannot make the layer's tar")]
    Tar(#[from] TarWriteError),
    /// An output could not be written.
    #[error("cannot write {output}")]
    Write {
        /// Which: `the layer's tar`, `the gzip blob of the layer`.
        output: String,
        /// Why.
        source: io::Error,
    },
}
