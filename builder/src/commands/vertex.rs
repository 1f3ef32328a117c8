//! Progress of a command that is no build: one vertex, from its beginning to its end.

use std::sync::Arc;
use std::time::Instant;

use ashlar_engine::event::{BuildEvent, EventSink as _, VertexId};

use crate::diagnostics::{CliError, ErrorKind};
use crate::ui::Progress;
use crate::workshop::WarningSink;

const ONLY: VertexId = VertexId(1);

/// The one vertex of a command. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Vertex {
    progress: Arc<Progress>,
    begin: Instant,
}

impl Vertex {
    /// Shows that work has begun.
    pub(super) fn begin(progress: &Arc<Progress>, name: String) -> Self {
        progress.emit(BuildEvent::Announced {
            vertex: ONLY,
            name: name.into(),
        });
        progress.emit(BuildEvent::Started { vertex: ONLY });
        Self {
            progress: Arc::clone(progress),
            begin: Instant::now(),
        }
    }

    /// Shows how far some part of it is.
    pub(super) fn work(&self, label: &str, done: u64, total: Option<u64>) {
        self.work_on(&label.into(), done, total);
    }

    /// The same for a label that is used often.
    pub(super) fn work_on(&self, label: &Arc<str>, done: u64, total: Option<u64>) {
        self.progress.emit(BuildEvent::Progress {
            vertex: ONLY,
            label: Arc::clone(label),
            done,
            total,
        });
    }

    /// Shows how it ended.
    pub(super) fn end<T>(&self, outcome: &Result<T, CliError>) {
        let elapsed = self.begin.elapsed();
        self.progress.emit(match outcome {
            Ok(_) => BuildEvent::Finished {
                vertex: ONLY,
                elapsed,
            },
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                BuildEvent::Cancelled { vertex: ONLY }
            }
            Err(error) => BuildEvent::Failed {
                vertex: ONLY,
                elapsed,
                error: error.message().into(),
            },
        });
    }
}

/// Shows warnings among the progress.
pub(super) fn warnings(progress: &Arc<Progress>) -> WarningSink {
    let progress = Arc::clone(progress);
    Arc::new(move |message| {
        progress.emit(BuildEvent::Warning {
            message: message.into(),
        });
    })
}
