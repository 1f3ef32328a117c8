//! What happens to steps, as the farm hears of it.

use std::sync::Arc;
use std::time::Duration;

use ashlar_engine::event::{BuildEvent, EventSink, VertexId};
use ashlar_model::executor::OutputStream;
use ashlar_proto::convert::duration_to_wire;
use ashlar_proto::wire::farm::{self, event};
use bytes::Bytes;
use event::Kind;

use crate::attach::Line;
use crate::attach::ledger::{Given, LONGEST_OUTPUT};
use crate::text::shortened;

/// The longest text of an event.
const LONGEST_TEXT: usize = 16 << 10;

/// Tells the farm of one assignment. The node of an order's graph with index `n` has the vertex
/// `n + 1`; 0 is none.
#[derive(Debug, Clone)]
pub struct Watch {
    line: Arc<Line>,
    given: Given,
}

impl Watch {
    /// Tells of this assignment.
    pub const fn new(line: Arc<Line>, given: Given) -> Self {
        Self { line, given }
    }

    /// Tells something that the user should know.
    pub fn warn(&self, message: &str) {
        self.tell(None, Kind::Warning(bounded(message)));
    }

    fn tell(&self, node: Option<u32>, kind: Kind) {
        let event = farm::Event {
            node,
            kind: Some(kind),
        };
        self.line.happened(&self.given, event);
    }

    fn tell_of(&self, vertex: VertexId, kind: Kind) {
        self.tell(vertex.0.checked_sub(1), kind);
    }

    fn output(&self, vertex: VertexId, stream: OutputStream, bytes: &[u8]) {
        for piece in bytes.chunks(LONGEST_OUTPUT) {
            let output = event::Output {
                is_stderr: stream == OutputStream::Stderr,
                data: Bytes::copy_from_slice(piece),
            };
            self.tell_of(vertex, Kind::Output(output));
        }
    }
}

fn bounded(text: &str) -> String {
    shortened(text, LONGEST_TEXT).to_owned()
}

fn wire(elapsed: Duration) -> Option<prost_types::Duration> {
    Some(duration_to_wire(elapsed))
}

impl EventSink for Watch {
    fn emit(&self, event: BuildEvent) {
        match event {
            BuildEvent::Announced { vertex, name } => {
                let name = bounded(&name);
                self.tell_of(vertex, Kind::Announced(event::Announced { name }));
            }
            BuildEvent::Started { vertex } => {
                self.tell_of(vertex, Kind::Started(event::Started {}));
            }
            BuildEvent::Waiting { vertex, holder } => {
                let holder = holder.map_or_else(String::new, |holder| bounded(&holder));
                self.tell_of(vertex, Kind::Waiting(event::Waiting { holder }));
            }
            BuildEvent::Output {
                vertex,
                stream,
                bytes,
            } => self.output(vertex, stream, &bytes),
            BuildEvent::Progress {
                vertex,
                label,
                done,
                total,
            } => {
                let label = bounded(&label);
                let progress = event::Progress { label, done, total };
                self.tell_of(vertex, Kind::Progress(progress));
            }
            BuildEvent::Cached { vertex } => self.tell_of(vertex, Kind::Cached(event::Cached {})),
            BuildEvent::Finished { vertex, elapsed } => {
                let elapsed = wire(elapsed);
                self.tell_of(vertex, Kind::Finished(event::Finished { elapsed }));
            }
            BuildEvent::Failed {
                vertex,
                elapsed,
                error,
            } => {
                let (elapsed, error) = (wire(elapsed), bounded(&error));
                self.tell_of(vertex, Kind::Failed(event::Failed { elapsed, error }));
            }
            BuildEvent::Cancelled { vertex } => {
                self.tell_of(vertex, Kind::Cancelled(event::Cancelled {}));
            }
            BuildEvent::Warning { message } => self.warn(&message),
            // Of segments of a whole build that is driven here.
            BuildEvent::Queued { vertex, why } => {
                let why = bounded(&why);
                self.tell_of(vertex, Kind::Queued(event::Queued { why }));
            }
            BuildEvent::Assigned {
                vertex,
                worker,
                attempt,
            } => {
                let worker = bounded(&worker);
                self.tell_of(vertex, Kind::Assigned(event::Assigned { worker, attempt }));
            }
            // The linter has spoken to the client. The rest is for those who watch a build.
            _ => {}
        }
    }
}
