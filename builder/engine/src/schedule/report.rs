//! What those who watch are told of each vertex.
//!
//! Each vertex ends once: cached, finished, failed or cancelled. There is one exception. Where a
//! result is found, all below it counts as cached and is reported so at once; if another branch
//! then needs a part of it whose own result is lost, that part runs after all, and ends again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::output::VertexOutput;
use crate::event::{BuildEvent, EventSink, VertexId};
use crate::graph::{Graph, NodeId};

/// Sends the events of steps. Other nodes are no work: nothing is said of them.
pub(super) struct Reporter {
    events: Arc<dyn EventSink>,
    /// By node index: the vertex, and whether its last event was sent.
    vertices: Box<[Option<(VertexId, AtomicBool)>]>,
}

impl Reporter {
    pub(super) fn new(graph: &Graph, events: Arc<dyn EventSink>) -> Self {
        let vertices = graph.nodes().map(|(_, node)| {
            let vertex = || (node.vertex, AtomicBool::new(false));
            node.is_step().then(vertex)
        });
        Self {
            vertices: vertices.collect(),
            events,
        }
    }

    /// `holder` is the other machine that runs the step; `None` if a process of this one does.
    pub(super) fn waiting(&self, id: NodeId, holder: Option<&str>) {
        let holder = holder.map(Into::into);
        self.begin(id, |vertex| BuildEvent::Waiting { vertex, holder });
    }

    pub(super) fn started(&self, id: NodeId) {
        self.begin(id, |vertex| BuildEvent::Started { vertex });
    }

    /// Says why a step waits for a worker.
    pub(super) fn queued(&self, id: NodeId, why: &str) {
        if let Some((vertex, _)) = &self.vertices[id.index()] {
            let vertex = *vertex;
            let why = why.into();
            self.events.emit(BuildEvent::Queued { vertex, why });
        }
    }

    /// Says which worker has a step now.
    pub(super) fn assigned(&self, id: NodeId, worker: &str, attempt: u32) {
        if let Some((vertex, _)) = &self.vertices[id.index()] {
            let vertex = *vertex;
            self.events.emit(BuildEvent::Assigned {
                vertex,
                worker: worker.into(),
                attempt,
            });
        }
    }

    pub(super) fn progress(&self, id: NodeId, label: &str, (done, total): (u64, Option<u64>)) {
        if let Some((vertex, _)) = &self.vertices[id.index()] {
            let vertex = *vertex;
            self.events.emit(BuildEvent::Progress {
                vertex,
                label: label.into(),
                done,
                total,
            });
        }
    }

    pub(super) fn warning(&self, message: &str) {
        let message = message.into();
        self.events.emit(BuildEvent::Warning { message });
    }

    pub(super) fn cached(&self, id: NodeId) {
        self.end(id, |vertex| BuildEvent::Cached { vertex });
    }

    pub(super) fn finished(&self, id: NodeId, elapsed: Duration) {
        self.end(id, |vertex| BuildEvent::Finished { vertex, elapsed });
    }

    pub(super) fn failed(&self, id: NodeId, elapsed: Duration, error: &dyn std::error::Error) {
        self.failed_because(id, elapsed, &on_one_line(error));
    }

    pub(super) fn failed_because(&self, id: NodeId, elapsed: Duration, error: &str) {
        self.end(id, |vertex| BuildEvent::Failed {
            vertex,
            elapsed,
            error: error.into(),
        });
    }

    pub(super) fn cancelled(&self, id: NodeId) {
        self.end(id, |vertex| BuildEvent::Cancelled { vertex });
    }

    /// Takes what the step writes.
    pub(super) fn output(&self, id: NodeId) -> Arc<VertexOutput> {
        let vertex = self.vertices[id.index()].as_ref();
        let vertex = vertex.map_or(VertexId(0), |(vertex, _)| *vertex);
        Arc::new(VertexOutput::new(vertex, Arc::clone(&self.events)))
    }

    fn begin(&self, id: NodeId, event: impl FnOnce(VertexId) -> BuildEvent) {
        if let Some((vertex, ended)) = &self.vertices[id.index()] {
            ended.store(false, Ordering::Relaxed);
            self.events.emit(event(*vertex));
        }
    }

    fn end(&self, id: NodeId, event: impl FnOnce(VertexId) -> BuildEvent) {
        if let Some((vertex, ended)) = &self.vertices[id.index()]
            && !ended.swap(true, Ordering::Relaxed)
        {
            self.events.emit(event(*vertex));
        }
    }
}

/// An error with its causes.
fn on_one_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        next = cause.source();
    }
    line
}
