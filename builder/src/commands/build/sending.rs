//! The end of a build that shares its results: waits until they are sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ashlar_engine::event::{BuildEvent, EventSink, VertexId};
use ashlar_sharing::sharing::{Progress, Sharing};

/// Whoever sends has limits of its own.
pub(super) const UNTIL_ALL_IS_SENT: Duration = Duration::from_secs(24 * 60 * 60);
/// What is waited for without a word.
const SILENT: Duration = Duration::from_millis(100);
/// How often progress is shown.
const SHOWN: Duration = Duration::from_millis(200);

/// Waits until all results are sent, no longer than `limit`, and tells how far that is, under the
/// number that is free: none in a build that has failed, which says so as soon as it can.
pub(super) async fn finish(
    sharing: &Sharing,
    limit: Duration,
    vertex: Option<VertexId>,
    events: &Arc<dyn EventSink>,
) {
    let begin = Instant::now();
    if sharing.finish(SILENT.min(limit)).await {
        return;
    }
    if sharing.progress().results == 0 {
        // Leases are given back by themselves when their time is over.
        return;
    }
    if let Some(vertex) = vertex {
        events.emit(BuildEvent::Announced {
            vertex,
            name: "sending results to the cache".into(),
        });
        events.emit(BuildEvent::Started { vertex });
    }
    loop {
        let left = limit.saturating_sub(begin.elapsed());
        let done = sharing.finish(SHOWN.min(left)).await;
        let progress = sharing.progress();
        if let Some(vertex) = vertex {
            show(&progress, vertex, events);
        }
        if done {
            let elapsed = begin.elapsed();
            if let Some(vertex) = vertex {
                events.emit(BuildEvent::Finished { vertex, elapsed });
            }
            return;
        }
        if left.is_zero() {
            if let Some(vertex) = vertex {
                events.emit(BuildEvent::Cancelled { vertex });
            }
            let unsent = progress.results.saturating_sub(progress.done);
            events.emit(BuildEvent::Warning {
                message: format!(
                    "{unsent} of {} results are not sent to the cache after {:?}; \
                     --cache-wait says how long to wait",
                    progress.results, limit
                )
                .into(),
            });
            return;
        }
    }
}

fn show(progress: &Progress, vertex: VertexId, events: &Arc<dyn EventSink>) {
    events.emit(BuildEvent::Progress {
        vertex,
        label: "sending layers".into(),
        done: progress.sent.bytes,
        total: None,
    });
}
