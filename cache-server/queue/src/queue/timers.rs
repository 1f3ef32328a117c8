//! What is to be looked at again, and when.
//!
//! Timers are not taken back: what comes due looks whether it still means anything.

use std::collections::BTreeMap;
use std::time::Duration;

use super::worker::WorkerIndex;
use crate::{BuildKey, OperationId};

/// Something to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Timer {
    /// A lease may have ended.
    Lease {
        worker: WorkerIndex,
        operation: OperationId,
        fencing: u64,
    },
    /// An operation has rested.
    Rest { operation: OperationId },
    /// An operation has waited for its layers.
    Hold { operation: OperationId },
    /// A build's client has been away.
    Grace { build: BuildKey },
    /// A worker may have fallen silent.
    Silence { worker: WorkerIndex, watch: u64 },
    /// A worker was kept for what may follow.
    Linger { worker: WorkerIndex },
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Timers {
    // Those of one moment in the order in which they were set: the same steps always do the same.
    due: BTreeMap<(Duration, u64), Timer>,
    next: u64,
}

impl Timers {
    pub(super) fn set(&mut self, at: Duration, timer: Timer) {
        self.due.insert((at, self.next), timer);
        self.next += 1;
    }

    /// The next one that is due.
    pub(super) fn pop(&mut self, time: Duration) -> Option<Timer> {
        let entry = self.due.first_entry()?;
        (entry.key().0 <= time).then(|| entry.remove())
    }

    /// When the next one is.
    pub(super) fn first(&self) -> Option<Duration> {
        self.due.keys().next().map(|&(at, _)| at)
    }
}
