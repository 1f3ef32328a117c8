//! Of all processes that come to the same step, one runs it and the others wait for its result.

use std::path::Path;
use std::time::{Duration, Instant};

use ashlar_model::digest::DefinitionKey;
use ashlar_store::home::StoreError;
use ashlar_store::home::lock::FileLock;

use super::failure::Failure;
use super::runner::Runner;
use crate::graph::NodeId;

/// The longest time between two looks at a lock that somebody holds.
const LONGEST_PAUSE: Duration = Duration::from_millis(25);
/// A look costs microseconds.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

impl Runner {
    /// Holds a step against other processes that would run the same one. Whoever waits for the
    /// lock then finds the result. `None` where nothing old is used: everyone wants a run of their own.
    pub(super) async fn lock_definition(
        &self,
        id: NodeId,
        key: &DefinitionKey,
    ) -> Result<Option<FileLock>, Failure> {
        if self.runs_anew(id) {
            return Ok(None);
        }
        let locks = self.surroundings.home.root().join("locks");
        let path = locks.join(format!("step-{key}"));
        if let Some(lock) = FileLock::try_acquire(&path)? {
            return Ok(Some(lock));
        }
        self.report.waiting(id, None);
        tokio::select! {
            lock = acquire(&path) => Ok(Some(lock?)),
            () = self.stopped() => Err(Failure::Cancelled),
        }
    }
}

/// Looks again and again, more rarely the longer it takes. A thread that waits in the kernel would
/// know at once, but could not be called off, and would hold up the end of a build that was.
async fn acquire(path: &Path) -> Result<FileLock, StoreError> {
    let begin = Instant::now();
    loop {
        let pause = (begin.elapsed() / 8).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        tokio::time::sleep(pause).await;
        if let Some(lock) = FileLock::try_acquire(path)? {
            return Ok(lock);
        }
    }
}
