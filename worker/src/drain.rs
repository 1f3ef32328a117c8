//! How the worker stops.
//!
//! 1. It takes no more work, and says so: to the farm, and at `/readyz`.
//! 2. Work goes on for the time of grace. What ends sends its results and its outcome as always.
//! 3. The rest is called off, what its steps have made so far is sent, and it is handed back to the
//!    farm, where it costs no attempt. A second signal comes here at once.
//! 4. The farm is told all there is to say, and the connection is closed.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::worker::{Stop, Worker};

/// So long work that was handed back may take to send what it has made, and a little more.
const HANDING_BACK: Duration = Duration::from_secs(15);
/// So long the farm may take to hear what there is to say.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(10);

/// Stops the worker. `again` ends when it is told to once more.
pub async fn drain(worker: &Worker, grace: Option<Duration>, again: impl Future<Output = ()>) {
    worker.begin_drain();
    let over = async {
        match grace {
            Some(grace) => sleep(grace).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = idle(worker) => {}
        () = over => tracing::info!("the time of grace is over: the rest is handed back"),
        () = again => tracing::info!("told again to stop: the rest is handed back"),
    }
    worker.stop_all(Stop::HandedBack);
    if timeout(HANDING_BACK, idle(worker)).await.is_err() {
        tracing::warn!("some work does not end; the farm will miss it");
    }
    if timeout(LAST_WORDS, told(worker)).await.is_err() {
        tracing::warn!("the farm has not heard how all work ended");
    }
}

/// Waits until no work goes on.
async fn idle(worker: &Worker) {
    while !worker.is_idle() {
        // Where two end at once, one of them is looked for.
        drop(timeout(LOOK, worker.job_ended()).await);
    }
}

/// Waits until the farm knows all there is to say.
async fn told(worker: &Worker) {
    while !worker.line.is_told_all() {
        sleep(LOOK).await;
    }
}
