//! Tasks: named in logs, gone with their handle.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::{AbortHandle, JoinError, JoinHandle};
use tracing::Instrument as _;

/// A running task. Dropping it aborts the task.
#[derive(Debug)]
#[must_use = "dropping a task aborts it"]
pub struct Task<T> {
    handle: JoinHandle<T>,
}

/// Starts a task on the current runtime, as part of the current span.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
pub fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> Task<T> {
    Task {
        handle: tokio::spawn(future.in_current_span()),
    }
}

/// Starts a task on a runtime, from a thread that is not of it.
pub fn spawn_on<T: Send + 'static>(
    runtime: &tokio::runtime::Handle,
    future: impl Future<Output = T> + Send + 'static,
) -> Task<T> {
    Task {
        handle: runtime.spawn(future.in_current_span()),
    }
}

impl<T> Task<T> {
    /// Ends the task from elsewhere.
    pub fn abort_handle(&self) -> AbortHandle {
        self.handle.abort_handle()
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.handle).poll(context)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.handle.abort();
    }
}
