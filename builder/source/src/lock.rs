//! Waiting for a lock without holding up a thread.

use std::path::Path;
use std::time::{Duration, Instant};

use ashlar_store::home::StoreError;
use ashlar_store::home::lock::FileLock;

/// The longest time between two looks at a lock that somebody holds.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// A look costs microseconds.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// Takes a lock, waiting for whoever holds it. Looks again and again, more rarely the longer it
/// takes: a thread that waits in the kernel could not be called off.
pub(crate) async fn acquire(path: &Path) -> Result<FileLock, StoreError> {
    let begin = Instant::now();
    loop {
        if let Some(lock) = FileLock::try_acquire(path)? {
            return Ok(lock);
        }
        let pause = (begin.elapsed() / 8).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        tokio::time::sleep(pause).await;
    }
}
