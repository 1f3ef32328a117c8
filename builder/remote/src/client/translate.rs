//! Events of the wire, as a build's graph names them.

use std::time::Duration;

use ashlar_engine::event::{BuildEvent, VertexId};
use ashlar_engine::graph::NodeId;
use ashlar_engine::segment::SegmentEvent;
use ashlar_model::executor::OutputStream;
use ashlar_proto::convert::duration_from_wire;
use ashlar_proto::wire::farm::{Event, event};

use super::operation::shown;

/// What an event of a segment means; `None` for one that says nothing here. `nodes` are the nodes
/// of the build's graph, by their numbers in the order.
pub(super) fn segment_event(event: Event, nodes: &[NodeId]) -> Option<SegmentEvent> {
    let node = event
        .node
        .and_then(|number| nodes.get(usize::try_from(number).ok()?).copied());
    Some(match event.kind? {
        event::Kind::Started(_) => SegmentEvent::Started(node?),
        event::Kind::Waiting(waiting) => SegmentEvent::Waiting {
            node: node?,
            holder: Some(shown(&waiting.holder)).filter(|holder| !holder.is_empty()),
        },
        event::Kind::Output(output) => SegmentEvent::Output {
            node: node?,
            stream: stream(output.is_stderr),
            bytes: output.data.to_vec(),
        },
        event::Kind::Progress(progress) => SegmentEvent::Progress {
            node: node?,
            label: shown(&progress.label),
            done: progress.done,
            total: progress.total,
        },
        event::Kind::Cached(_) => SegmentEvent::Cached(node?),
        event::Kind::Finished(finished) => SegmentEvent::Finished {
            node: node?,
            elapsed: elapsed(finished.elapsed),
        },
        event::Kind::Failed(failed) => SegmentEvent::Failed {
            node: node?,
            elapsed: elapsed(failed.elapsed),
            error: shown(&failed.error),
        },
        event::Kind::Warning(warning) => SegmentEvent::Warning(shown(&warning)),
        event::Kind::Assigned(assigned) => SegmentEvent::Assigned {
            worker: shown(&assigned.worker),
            attempt: assigned.attempt,
        },
        event::Kind::Queued(queued) => SegmentEvent::Queued {
            why: shown(&queued.why),
        },
        // Its end says so.
        event::Kind::Cancelled(_) | event::Kind::Announced(_) => return None,
    })
}

fn elapsed(duration: Option<prost_types::Duration>) -> Duration {
    duration
        .and_then(|duration| duration_from_wire(&duration))
        .unwrap_or_default()
}

/// What an event of a whole build means; `None` for one that says nothing here. Its nodes are the
/// vertices of the build, but for one: vertices are counted from 1.
pub fn build_event(event: Event) -> Option<BuildEvent> {
    let vertex = event.node.map(|number| VertexId(number.saturating_add(1)));
    Some(match event.kind? {
        event::Kind::Announced(announced) => BuildEvent::Announced {
            vertex: vertex?,
            name: shown(&announced.name).into(),
        },
        event::Kind::Started(_) => BuildEvent::Started { vertex: vertex? },
        event::Kind::Waiting(waiting) => BuildEvent::Waiting {
            vertex: vertex?,
            holder: Some(shown(&waiting.holder))
                .filter(|holder| !holder.is_empty())
                .map(Into::into),
        },
        event::Kind::Output(output) => BuildEvent::Output {
            vertex: vertex?,
            stream: stream(output.is_stderr),
            bytes: output.data.to_vec(),
        },
        event::Kind::Progress(progress) => BuildEvent::Progress {
            vertex: vertex?,
            label: shown(&progress.label).into(),
            done: progress.done,
            total: progress.total,
        },
        event::Kind::Cached(_) => BuildEvent::Cached { vertex: vertex? },
        event::Kind::Finished(finished) => BuildEvent::Finished {
            vertex: vertex?,
            elapsed: elapsed(finished.elapsed),
        },
        event::Kind::Failed(failed) => BuildEvent::Failed {
            vertex: vertex?,
            elapsed: elapsed(failed.elapsed),
            error: shown(&failed.error).into(),
        },
        event::Kind::Cancelled(_) => BuildEvent::Cancelled { vertex: vertex? },
        event::Kind::Warning(warning) => BuildEvent::Warning {
            message: shown(&warning).into(),
        },
        event::Kind::Queued(queued) => match vertex {
            Some(vertex) => BuildEvent::Queued {
                vertex,
                why: shown(&queued.why).into(),
            },
            None => BuildEvent::Warning {
                message: format!("the build waits: {}", shown(&queued.why)).into(),
            },
        },
        event::Kind::Assigned(assigned) => BuildEvent::Assigned {
            vertex: vertex?,
            worker: shown(&assigned.worker).into(),
            attempt: assigned.attempt,
        },
    })
}

/// What an event of work for one output means: all of it is said of the output's vertex.
pub fn output_event(event: Event, vertex: VertexId) -> Option<BuildEvent> {
    Some(match event.kind? {
        event::Kind::Progress(progress) => BuildEvent::Progress {
            vertex,
            label: shown(&progress.label).into(),
            done: progress.done,
            total: progress.total,
        },
        event::Kind::Warning(warning) => BuildEvent::Warning {
            message: shown(&warning).into(),
        },
        event::Kind::Queued(queued) => BuildEvent::Queued {
            vertex,
            why: shown(&queued.why).into(),
        },
        event::Kind::Assigned(assigned) => BuildEvent::Assigned {
            vertex,
            worker: shown(&assigned.worker).into(),
            attempt: assigned.attempt,
        },
        _ => return None,
    })
}

const fn stream(is_stderr: bool) -> OutputStream {
    if is_stderr {
        OutputStream::Stderr
    } else {
        OutputStream::Stdout
    }
}
