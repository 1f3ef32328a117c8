//! Work behind the build, which somebody waits for at its end.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ashlar_store::task::{Task, spawn_on};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// Work under way. Dropping it calls all off.
#[derive(Debug, Default)]
pub struct Background {
    tasks: Mutex<Vec<Task<()>>>,
}

impl Background {
    /// Starts some work on the runtime.
    pub fn start(&self, runtime: &Handle, work: impl Future<Output = ()> + Send + 'static) {
        let task = spawn_on(runtime, work);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.push(task);
    }

    fn take(&self) -> Vec<Task<()>> {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *tasks)
    }

    /// Waits until all work is done, also what it starts meanwhile; no longer than `limit`. Whether
    /// it is done. What is not goes on as long as this is not dropped.
    pub async fn finish(&self, limit: Duration) -> bool {
        let begin = Instant::now();
        loop {
            let mut tasks = self.take();
            if tasks.is_empty() {
                return true;
            }
            while let Some(task) = tasks.last_mut() {
                let left = limit.saturating_sub(begin.elapsed());
                if timeout(left, task).await.is_err() {
                    let mut kept = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.extend(tasks);
                    return false;
                }
                drop(tasks.pop());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn work_that_starts_work_is_waited_for() {
        let background = Arc::new(Background::default());
        let done = Arc::new(AtomicBool::new(false));
        let runtime = Handle::current();
        let (inner, flag, handle) = (Arc::clone(&background), Arc::clone(&done), runtime.clone());
        background.start(&runtime, async move {
            inner.start(&handle, async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                flag.store(true, Ordering::SeqCst);
            });
        });
        assert!(background.finish(Duration::from_secs(10)).await);
        assert!(done.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn waiting_ends() {
        let background = Background::default();
        background.start(&Handle::current(), std::future::pending());
        assert!(!background.finish(Duration::from_millis(20)).await);
        assert!(!background.finish(Duration::ZERO).await);
    }
}
