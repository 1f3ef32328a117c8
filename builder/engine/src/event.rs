//! What a build tells those who watch it.

use std::sync::Arc;
use std::time::Duration;

use ashlar_model::executor::OutputStream;

use crate::lint::Finding;

/// Names a vertex of one build: what progress displays number `#1`, `#2`...
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VertexId(pub u32);

/// Something happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum BuildEvent {
    /// A vertex exists. Sent once for each before anything else about it; the order of
    /// announcements is that of the Dockerfile.
    Announced {
        /// Which.
        vertex: VertexId,
        /// How people call it: `[build 2/5] RUN make`.
        name: Arc<str>,
    },
    /// Work on it has begun.
    Started {
        /// Which.
        vertex: VertexId,
    },
    /// It waits for somebody else who runs the same step. Sent again when that is another one.
    Waiting {
        /// Which.
        vertex: VertexId,
        /// Who, if it is another machine, as people read it; `None` for a process of this one.
        holder: Option<Arc<str>>,
    },
    /// It waits for a worker of a farm. Sent again when the cause is another one.
    Queued {
        /// Which.
        vertex: VertexId,
        /// Why, as people read it: `no worker for linux/arm64 is there`.
        why: Arc<str>,
    },
    /// A worker of a farm has it, and what follows it as far as that is said of nothing else.
    Assigned {
        /// Which.
        vertex: VertexId,
        /// The worker, as people read it.
        worker: Arc<str>,
        /// How many have had it, this one included.
        attempt: u32,
    },
    /// The command wrote something. Chunks need not end at line ends.
    Output {
        /// Which.
        vertex: VertexId,
        /// To which stream.
        stream: OutputStream,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Part of a countable work is done.
    Progress {
        /// Which.
        vertex: VertexId,
        /// What is counted: `sha256:… extracting`, `resolving`...
        label: Arc<str>,
        /// Bytes done so far.
        done: u64,
        /// Bytes in all; `None` if not known.
        total: Option<u64>,
    },
    /// Its result was known; nothing was run.
    Cached {
        /// Which.
        vertex: VertexId,
    },
    /// It ended well.
    Finished {
        /// Which.
        vertex: VertexId,
        /// How long it took, waiting for inputs not counted.
        elapsed: Duration,
    },
    /// It failed.
    Failed {
        /// Which.
        vertex: VertexId,
        /// How long it took.
        elapsed: Duration,
        /// One line.
        error: Arc<str>,
    },
    /// It was called off since something else failed or the user interrupted.
    Cancelled {
        /// Which.
        vertex: VertexId,
    },
    /// The linter has found something.
    Finding(Arc<Finding>),
    /// Something that the user should know, with no vertex of its own.
    Warning {
        /// One line.
        message: Arc<str>,
    },
}

/// Receives a build's events. Called from many threads; must not block for long.
pub trait EventSink: Send + Sync {
    /// Takes one event.
    fn emit(&self, event: BuildEvent);
}
