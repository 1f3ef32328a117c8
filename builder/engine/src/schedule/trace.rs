//! Steps as spans: what kind of step it is, its key, what came of it. Nothing of what the Dockerfile
//! says: instructions have arguments, and arguments have secrets.

use tracing::Span;
use tracing::field::Empty;

use super::failure::Failure;
use super::fate::Fate;
use super::runner::{Ready, Runner};
use crate::graph::{NodeId, NodeKind, PlannedOp};

impl Runner {
    /// Opens the span of a step, below that of the build, whoever demands it.
    pub(super) fn step_span(&self, id: NodeId) -> Span {
        let node = self.graph.node(id);
        let NodeKind::Step { op, .. } = &node.kind else {
            return Span::none();
        };
        let kind = match op {
            PlannedOp::Run(_) => "RUN",
            PlannedOp::Copy(_) => "COPY",
            PlannedOp::MakeDirectory(_) => "WORKDIR",
        };
        tracing::info_span!(
            parent: &self.span,
            "step",
            otel.name = kind,
            otel.status_code = Empty,
            kind,
            key = %self.keys[id.index()].definition,
            line = node.range.map(|range| range.start.line),
            outcome = Empty,
        )
    }

    /// Notes what came of a step.
    pub(super) fn end_span(&self, id: NodeId, span: &Span, made: &Result<Ready, Failure>) {
        if span.is_disabled() {
            return;
        }
        let outcome = match (made, self.fates.of(id)) {
            (Err(Failure::Cancelled), _) => "cancelled",
            (Err(_), _) => {
                span.record("otel.status_code", "ERROR");
                "failed"
            }
            (Ok(_), Fate::Found) => "hit",
            (Ok(_), Fate::FoundByContent) => "hit by content",
            (Ok(_), Fate::Missed) => "made elsewhere",
            (Ok(_), Fate::Ran) => "run",
        };
        span.record("outcome", outcome);
    }
}
