//! The trait behind which steps run: in this process's sandbox helper, or on remote workers.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::digest::LayerId;
use crate::layer::LayerRecord;
use crate::media_type::Compression;
use crate::mount::CacheMount;
use crate::select::SourceQuery;
use crate::step::{Selection, StepOp};

/// A future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One step to run.
#[derive(Debug, Clone)]
pub struct StepRequest {
    /// What to do.
    pub op: StepOp,
    /// The filesystem to do it to, bottom layer first.
    pub parent: Vec<LayerId>,
    /// Whether a later step of this build will mount the result. Where none will, an executor
    /// may keep the files in a form that is cheaper to make than a tree.
    pub will_be_mounted: bool,
    /// What the build will ask [`StepExecutor::pack`] for: an executor that has the bytes in hand
    /// may do it at once.
    pub wanted: PackRequest,
}

/// What a build wants to have of a layer, besides its entries and their digests.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PackRequest {
    /// The digest of its canonical tar.
    pub diff_id: bool,
    /// Compressed forms, as blobs in the store.
    pub blobs: Vec<BlobForm>,
}

/// One way to compress a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobForm {
    /// The format.
    pub compression: Compression,
    /// The level in the format's own numbers; 0 where the format has none.
    pub level: i32,
}

/// What a step gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepOutcome {
    /// The new layer; its record is in the store.
    pub layer: LayerId,
}

/// Which of a command's streams a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Receives a running step's output as it comes. Chunks need not end at line ends.
pub trait StepOutput: Send + Sync {
    /// Takes some bytes.
    fn write(&self, stream: OutputStream, bytes: &[u8]);
}

/// Why a step gave no layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The command ran and failed: the user's affair.
    #[error("process {command} did not complete successfully: {status}")]
    Failed {
        /// The command as a shell would read it.
        command: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// The step cannot be done as it was asked for: a missing file, an unknown user...
    #[error("{message}")]
    Input {
        /// What is wrong.
        message: String,
        /// What to do about it, if there is anything to say.
        hint: Option<String>,
    },
    /// This machine cannot run the step: no user namespaces, no space...
    #[error("{message}")]
    Environment {
        /// What is wrong.
        message: String,
        /// What to do about it.
        hint: Option<String>,
        /// The underlying error.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Layers are known, but their files are nowhere any more: neither here nor where they may be
    /// fetched from. The steps that made them have to run again. There may be none: then files were
    /// damaged that can be had in another form, and the same may be tried again.
    #[error("the files of {} are not in the store any more", named(layers))]
    LayersLost {
        /// Which.
        layers: Vec<LayerId>,
    },
    /// The step was called off.
    #[error("cancelled")]
    Cancelled,
}

fn named(layers: &[LayerId]) -> String {
    let names: Vec<String> = layers.iter().map(ToString::to_string).collect();
    if names.is_empty() {
        return "some layers".to_owned();
    }
    let noun = if names.len() == 1 { "layer" } else { "layers" };
    format!("{noun} {}", names.join(", "))
}

impl StepError {
    /// What to do about it, if there is anything to say.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Input { hint, .. } | Self::Environment { hint, .. } => hint.as_deref(),
            Self::LayersLost { .. } => Some("build again: what is missing is then made anew"),
            Self::Failed { .. } | Self::Cancelled => None,
        }
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It returned this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// The kernel ended it for want of memory.
    OutOfMemory,
}

impl ExitStatus {
    /// The code that a shell reports: 128 and the signal's number for a signal.
    pub const fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
            Self::OutOfMemory => 137,
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code: {code}"),
            Self::Signal(signal) => {
                write!(f, "killed by signal {signal} (exit code: {})", 128 + signal)
            }
            Self::OutOfMemory => f.write_str("killed: out of memory (exit code: 137)"),
        }
    }
}

/// Runs steps and reads filesystems. Dropping a returned future cancels its work and waits for
/// no one: nothing of it is left behind that the next run does not clean.
pub trait StepExecutor: Send + Sync + fmt::Debug {
    /// Runs one step on a filesystem and stores the layer it makes.
    fn execute<'a>(
        &'a self,
        request: StepRequest,
        output: Arc<dyn StepOutput>,
    ) -> BoxFuture<'a, Result<StepOutcome, StepError>>;

    /// Reads a layer that a step made: its record gains its content digest and what `wanted` asks
    /// for, its index is stored. `below` is the filesystem that the step ran on, bottom first.
    /// Forms that the record already has are not made again.
    fn pack<'a>(
        &'a self,
        layer: LayerId,
        below: Vec<LayerId>,
        wanted: PackRequest,
    ) -> BoxFuture<'a, Result<LayerRecord, StepError>>;

    /// The files of a filesystem that sources of copies stand for, with their digests: one
    /// selection for each source.
    fn select<'a>(
        &'a self,
        layers: Vec<LayerId>,
        sources: Vec<SourceQuery>,
    ) -> BoxFuture<'a, Result<Vec<Selection>, StepError>>;

    /// Empties cache mounts for a build that is to use nothing old. Those that a running step
    /// uses stay as they are.
    fn forget_caches<'a>(&'a self, caches: Vec<CacheMount>)
    -> BoxFuture<'a, Result<(), StepError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_layers_are_named() {
        let layers = [[1; 16], [2; 16]].map(LayerId::from_bytes).to_vec();
        let one = StepError::LayersLost {
            layers: layers[..1].to_vec(),
        };
        assert_eq!(
            one.to_string(),
            format!(
                "the files of layer {} are not in the store any more",
                layers[0]
            )
        );
        let both = StepError::LayersLost { layers };
        assert!(both.to_string().contains(" layers 0101"), "{both}");
        assert!(both.hint().is_some());
    }
}
