//! Segments: what of a build goes to a worker of a farm in one piece.
//!
//! A build on a farm runs nothing here. What lookups have left to do is [cut](cut()) into segments:
//! runs of steps that wait for nothing but one another. Each is given to a [`SegmentRunner`] as soon
//! as what it stands on is made, all that are ready at once; the farm decides where and when it
//! runs. A chain of steps is one segment, so that none of its layers moves between machines.
//!
//! A segment says what its steps are, not what they gave: results are in the farm's cache, under the
//! steps' own keys, and nowhere else.

mod cut;

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ashlar_model::digest::DiffId;
use ashlar_model::executor::{BoxFuture, OutputStream, StepError};
use ashlar_model::layer::{LayerOrigin, LayerRecord};

use crate::graph::{Graph, NodeId};
use crate::key::{KeyScope, NodeKeys};
use crate::schedule::Fate;

pub(crate) use cut::View;
pub use cut::{Piece, cut};

/// Steps that one worker runs.
#[derive(Debug, Clone)]
pub struct Segment {
    /// The graph of the build.
    pub graph: Arc<Graph>,
    /// The keys of its nodes.
    pub keys: Arc<[NodeKeys]>,
    /// What the keys were computed with.
    pub scope: Arc<KeyScope>,
    /// The steps, inputs before what needs them. Of steps with the same definition key only the
    /// first of the graph is ever among them.
    pub steps: Vec<NodeId>,
    /// The filesystem that all of it is for: the last step's, or the stack that `COPY --link` puts
    /// it in.
    pub tip: NodeId,
    /// The layers that it stands on or copies from, as far as they are known: each once, with the
    /// bytes that it takes to bring it to a machine that lacks it.
    pub inputs: Vec<(DiffId, u64)>,
    /// Its steps run whatever is known of them.
    pub no_cache: bool,
    /// Something that it stands on was lost since the build began: whoever runs it may have to make
    /// more than its steps.
    pub after_loss: bool,
}

impl Segment {
    /// How people call it: by its last step.
    pub fn name(&self) -> Arc<str> {
        let last = self.steps.last().unwrap_or(&self.tip);
        Arc::clone(&self.graph.node(*last).name)
    }
}

/// Where segments run.
pub trait SegmentRunner: Send + Sync + fmt::Debug {
    /// Runs a segment; ends when the results of all its steps are in the shared cache. Dropping the
    /// future calls the work off, but for what has ended.
    fn run<'a>(
        &'a self,
        segment: &'a Segment,
        watch: Arc<dyn SegmentWatch>,
    ) -> BoxFuture<'a, Result<SegmentMade, SegmentError>>;
}

/// What came of a segment that ended well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SegmentMade {
    /// What came of its steps, as far as the worker has looked at them.
    pub fates: Vec<(NodeId, Fate)>,
    /// The layers of its tip, bottom first, and the bytes that it takes to move each: what is known
    /// to those who stand on it. May be empty.
    pub layers: Vec<(DiffId, u64)>,
}

/// A layer as placement knows it, and the bytes that it takes to bring it to a machine that lacks it.
/// `None` if nobody knows its diff ID yet.
pub fn moved(record: &LayerRecord) -> Option<(DiffId, u64)> {
    let packed = record.blobs.first().map(|blob| blob.descriptor.size);
    let bytes = match record.origin {
        LayerOrigin::Image { .. } => packed,
        LayerOrigin::Step | LayerOrigin::Shared { .. } => record.tar_size.or(packed),
    };
    Some((record.diff_id?, bytes.unwrap_or_default()))
}

/// Receives what happens while a segment runs. Called from many threads; must not block for long.
pub trait SegmentWatch: Send + Sync {
    /// Takes one event.
    fn event(&self, event: SegmentEvent);
}

/// Something happened to a segment. The nodes are those of the build's graph; they may be others
/// than the segment's own steps, for a worker makes again what was lost below them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SegmentEvent {
    /// It waits for a worker.
    Queued {
        /// Why, as people read it.
        why: String,
    },
    /// A worker has it now.
    Assigned {
        /// Which, as people read it.
        worker: String,
        /// How many have had it, this one included.
        attempt: u32,
    },
    /// A step runs.
    Started(NodeId),
    /// A step waits for somebody else who runs the same one.
    Waiting {
        /// Which.
        node: NodeId,
        /// Who, as people read it; `None` if nobody knows.
        holder: Option<String>,
    },
    /// A command wrote something.
    Output {
        /// Which.
        node: NodeId,
        /// To which stream.
        stream: OutputStream,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Part of a countable work is done.
    Progress {
        /// Which.
        node: NodeId,
        /// What is counted.
        label: String,
        /// How much so far.
        done: u64,
        /// How much in all, if known.
        total: Option<u64>,
    },
    /// A step's result was known.
    Cached(NodeId),
    /// A step ended well.
    Finished {
        /// Which.
        node: NodeId,
        /// How long it ran.
        elapsed: Duration,
    },
    /// A step failed. Why in full is said when the segment ends.
    Failed {
        /// Which.
        node: NodeId,
        /// How long it ran.
        elapsed: Duration,
        /// One line.
        error: String,
    },
    /// Something that the user should know.
    Warning(String),
}

/// Why a segment has not ended well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// One of its steps failed: the worker did what it could.
    #[error("{error}")]
    Step {
        /// Which. Not always one of the segment's own.
        node: NodeId,
        /// Why.
        #[source]
        error: StepError,
        /// The last lines that it wrote, oldest first.
        last_output: Vec<String>,
    },
    /// The farm did not do it: it cannot be reached, has no worker for it, has lost too many workers
    /// over it...
    #[error("{message}")]
    Farm {
        /// What is wrong.
        message: String,
        /// What to do about it, if there is anything to say.
        hint: Option<String>,
        /// The underlying error.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// It was called off.
    #[error("cancelled")]
    Cancelled,
}

#[cfg(test)]
mod tests;
