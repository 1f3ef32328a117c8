//! What a journal keeps.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Assignment, BuildKey, End, Failure, OperationId, Submission};

/// All that has to be kept of an operation, as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which.
    pub operation: OperationId,
    /// What was asked for.
    pub submission: Arc<Submission>,
    /// When, by the caller's clock.
    pub submitted: Duration,
    /// Who wants it.
    pub builds: Vec<BuildKey>,
    /// What went wrong so far.
    pub failures: Vec<Failure>,
    /// How often it was given to a worker.
    pub grants: u32,
    /// The largest number it was ever given under; 0 before the first grant.
    pub fencing: u64,
    /// When it was first given to a worker.
    pub started: Option<Duration>,
    /// Where it is.
    pub state: RecordState,
}

/// Where an operation is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecordState {
    /// It waits.
    Queued,
    /// A worker has it.
    Running {
        /// The worker's id.
        worker: Arc<str>,
        /// Its name for people.
        name: Arc<str>,
        /// Under what number.
        assignment: Assignment,
    },
    /// It has ended.
    Ended {
        /// When.
        at: Duration,
        /// How.
        end: End,
    },
}
