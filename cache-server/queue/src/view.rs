//! What can be seen of the queue.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{BuildKey, End, OperationId, Submission};

/// An operation, as it is now.
#[derive(Debug, Clone)]
pub struct OperationView {
    /// Which.
    pub operation: OperationId,
    /// What was asked for.
    pub submission: Arc<Submission>,
    /// Who wants it.
    pub builds: Vec<BuildKey>,
    /// When it was submitted.
    pub submitted: Duration,
    /// When it was first given to a worker.
    pub started: Option<Duration>,
    /// When it ended.
    pub ended: Option<Duration>,
    /// Where it is.
    pub stage: Stage,
}

/// Where an operation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// It waits.
    Queued,
    /// A worker runs it.
    Running {
        /// The worker's name for people.
        worker: Arc<str>,
        /// Counted from 1.
        attempt: u32,
    },
    /// It has ended.
    Ended(End),
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this namespace only.
    pub namespace: Option<Arc<str>>,
    /// Of this user only.
    pub user: Option<Arc<str>>,
    /// Whole builds only.
    pub whole: bool,
}

/// Where a listing goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// When the last one listed was submitted.
    pub submitted: Duration,
    /// Which it was.
    pub operation: OperationId,
}

/// Workers that have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindView {
    /// What they have.
    pub properties: BTreeMap<String, String>,
    /// How many are there.
    pub workers: u32,
    /// How much they run at once.
    pub slots: u32,
    /// How much more they take now.
    pub free_slots: u32,
}

/// A worker, as it is now.
#[derive(Debug, Clone)]
pub struct WorkerView {
    /// Its id.
    pub worker: Arc<str>,
    /// Its name for people.
    pub name: Arc<str>,
    /// How much it runs at once.
    pub slots: u32,
    /// What it runs, light operations included.
    pub running: Vec<OperationId>,
    /// It can be spoken to.
    pub connected: bool,
    /// It takes nothing more, and will go.
    pub draining: bool,
    /// It has not said anything for longer than it should.
    pub silent: bool,
    /// Why it takes less, for people.
    pub why: Arc<str>,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// What waits.
    pub queued: usize,
    /// What runs, light operations included.
    pub running: usize,
    /// What has ended and is remembered.
    pub remembered: usize,
    /// Workers that are there.
    pub workers: usize,
    /// What they run at once.
    pub slots: u64,
    /// What they take more of now.
    pub free_slots: u64,
    /// Grants since the start.
    pub grants: u64,
    /// Leases that ended without a word, since the start.
    pub lost: u64,
    /// Outcomes that came too late, since the start.
    pub late: u64,
    /// Submissions that joined another, since the start.
    pub merged: u64,
    /// Submissions that were refused, since the start.
    pub refused: u64,
    /// Actions that are set aside now.
    pub poisoned: usize,
}

/// Why an operation waits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Waiting {
    /// No worker has what it needs.
    NoWorker {
        /// What it needs, for people: `linux/arm64`, `linux/amd64 with gpu=a100`.
        wanted: String,
        /// Workers have it, but they take no work of this namespace.
        other_namespaces: bool,
    },
    /// All that have it are draining or silent.
    NoneTakes {
        /// What it needs, for people.
        wanted: String,
        /// What one of them says, for people.
        why: Arc<str>,
    },
    /// It failed, and rests before it is tried again.
    Rests {
        /// What went wrong last.
        message: Arc<str>,
        /// For how long.
        left: Duration,
    },
    /// A worker that has its layers may come free.
    Held,
    /// Others are first.
    Others {
        /// About how many.
        before: usize,
    },
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoWorker {
                wanted,
                other_namespaces: false,
            } => {
                write!(f, "no worker for {wanted} is there")
            }
            Self::NoWorker {
                wanted,
                other_namespaces: true,
            } => {
                write!(f, "no worker for {wanted} takes work of this namespace")
            }
            Self::NoneTakes { wanted, why } if why.is_empty() => {
                write!(f, "no worker for {wanted} takes work now")
            }
            Self::NoneTakes { wanted, why } => {
                write!(f, "no worker for {wanted} takes work now: {why}")
            }
            Self::Rests { message, left } => {
                write!(
                    f,
                    "it is tried again in {} s: {message}",
                    left.as_secs() + 1
                )
            }
            Self::Held => f.write_str("a worker that has its layers may come free"),
            Self::Others { before: 0 } => f.write_str("it is the next, all workers are busy"),
            Self::Others { before: 1 } => f.write_str("1 other waits before it"),
            Self::Others { before } => write!(f, "{before} others wait before it"),
        }
    }
}
