//! Everything an output needs of a layer, in one pass over its bytes.
//!
//! ```text
//!                     ┌─▶ SHA-256 ─────────────▶ diff ID
//!  index ─▶ tar ──────┼─▶ file
//!  contents           └─▶ compressor ─▶ SHA-256, file     (one for each form)
//! ```
//!
//! Each arrow is a thread of its own once the tar is longer than one chunk, joined by bounded
//! channels, so that nothing of a layer but a few chunks is ever in memory; a smaller tar is
//! worked off in the caller's thread.

mod error;
mod fan_out;
mod stage;

use std::fmt;
use std::io::Write;
use std::num::NonZero;
use std::thread;

use ashlar_model::digest::{BlobDigest, DiffId};
use ashlar_model::executor::BlobForm;
use ashlar_model::layer::LayerIndex;

pub use self::error::PackError;
use self::fan_out::fan_out;
use self::stage::{Stage, StageResult};
use super::contents::FileContents;
use super::tar_write::{TarOptions, write_tar};

/// Something to be made of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackTarget {
    /// Its plain tar.
    Tar,
    /// A blob.
    Blob(BlobForm),
}

/// Something to be made of a layer, and where to. The writer is flushed, but whatever makes a
/// file durable or gives it its name is the caller's affair.
pub struct PackOutput<'a> {
    target: PackTarget,
    writer: Box<dyn Write + Send + 'a>,
}

impl<'a> PackOutput<'a> {
    /// Makes `target` and writes it to `writer`.
    pub fn new(target: PackTarget, writer: impl Write + Send + 'a) -> Self {
        Self {
            target,
            writer: Box::new(writer),
        }
    }
}

impl fmt::Debug for PackOutput<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackOutput")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// How a layer is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackOptions {
    /// How the tar is made.
    pub tar: TarOptions,
    /// How many threads each compressor may use. Does not change what it makes.
    pub threads: usize,
}

impl Default for PackOptions {
    /// Content is checked against its digests; a thread for each core.
    fn default() -> Self {
        Self {
            tar: TarOptions {
                verify: true,
                ..TarOptions::default()
            },
            threads: thread::available_parallelism().map_or(1, NonZero::get),
        }
    }
}

/// What packing a layer gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Digest of its tar.
    pub diff_id: DiffId,
    /// Length of its tar in bytes.
    pub tar_size: u64,
    /// Its blobs, in the order in which they were asked for.
    pub blobs: Vec<PackedBlob>,
}

/// A blob that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedBlob {
    /// How it is compressed.
    pub form: BlobForm,
    /// Its digest.
    pub digest: BlobDigest,
    /// Its length in bytes.
    pub size: u64,
}

/// Makes the tar of a layer and from it all that `outputs` ask for, besides its diff ID.
///
/// `index` must be in canonical order; `contents` is asked for its regular files. On an error,
/// outputs may have been written in part.
pub fn pack(
    index: &LayerIndex,
    contents: &dyn FileContents,
    outputs: Vec<PackOutput<'_>>,
    options: PackOptions,
) -> Result<Packed, PackError> {
    let mut stages = vec![Stage::diff_id()];
    for output in outputs {
        stages.push(Stage::output(output, options.threads)?);
    }
    let (tar_size, results) = fan_out(stages, |out| write_tar(index, contents, options.tar, out))?;
    let mut packed = Packed {
        diff_id: DiffId::from_bytes([0; 32]),
        tar_size,
        blobs: Vec::new(),
    };
    for result in results {
        match result {
            StageResult::DiffId(diff_id) => packed.diff_id = diff_id,
            StageResult::Tar => {}
            StageResult::Blob(blob) => packed.blobs.push(blob),
        }
    }
    Ok(packed)
}

#[cfg(test)]
mod tests;
