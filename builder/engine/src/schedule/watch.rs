//! What a farm says of a segment, told to those who watch the build.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ashlar_model::executor::StepOutput as _;
use tokio::sync::watch;

use super::fate::{Fate, Fates};
use super::output::VertexOutput;
use super::report::Reporter;
use super::runner::{Runner, locked};
use crate::graph::NodeId;
use crate::segment::{SegmentEvent, SegmentWatch};

/// Watches one segment.
pub(super) struct FarmWatch {
    report: Arc<Reporter>,
    fates: Arc<Fates>,
    /// The segment's own steps.
    steps: Vec<NodeId>,
    /// Whether something has failed elsewhere in the build.
    stop: watch::Receiver<bool>,
    /// Whether a step has ended since.
    has_paused: watch::Sender<bool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Steps that run, and since when.
    running: HashMap<NodeId, Instant>,
    ended: HashSet<NodeId>,
    outputs: HashMap<NodeId, Arc<VertexOutput>>,
    /// Steps that failed: how long they took, and why.
    failed: HashMap<NodeId, (Duration, String)>,
    /// Nothing that comes now is of this segment any more.
    is_over: bool,
}

impl FarmWatch {
    pub(super) fn new(runner: &Runner, steps: &[NodeId]) -> Self {
        Self {
            report: Arc::clone(&runner.report),
            fates: Arc::clone(&runner.fates),
            steps: steps.to_vec(),
            stop: runner.stop.subscribe(),
            has_paused: watch::Sender::new(false),
            state: Mutex::default(),
        }
    }

    /// Waits until something has failed elsewhere, then until no step runs: what runs ends in peace,
    /// and what has not begun does not begin.
    pub(super) async fn called_off(&self) {
        // Both senders outlive this.
        drop(self.stop.clone().wait_for(|stop| *stop).await);
        let mut paused = self.has_paused.subscribe();
        if !locked(&self.state).running.is_empty() {
            drop(paused.wait_for(|paused| *paused).await);
        }
    }

    /// Takes no more events.
    pub(super) fn end(&self) {
        locked(&self.state).is_over = true;
    }

    /// How long a step has run, if it began.
    pub(super) fn elapsed(&self, id: NodeId) -> Duration {
        let state = locked(&self.state);
        let failed = state.failed.get(&id).map(|(elapsed, _)| *elapsed);
        let running = state.running.get(&id).map(Instant::elapsed);
        failed.or(running).unwrap_or_default()
    }

    /// The last lines that a step wrote.
    pub(super) fn last_lines(&self, id: NodeId) -> Vec<String> {
        let state = locked(&self.state);
        let output = state.outputs.get(&id);
        output.map(|output| output.last_lines()).unwrap_or_default()
    }

    /// What failed but for one step, of which more is known.
    pub(super) fn also_failed(&self, but: NodeId) -> Vec<(NodeId, Duration, String)> {
        let state = locked(&self.state);
        let others = state.failed.iter().filter(|(id, _)| **id != but);
        others
            .map(|(id, (elapsed, error))| (*id, *elapsed, error.clone()))
            .collect()
    }

    /// The step of which is said what is said of the whole: the first that has not ended.
    fn speaker(&self, state: &State) -> Option<NodeId> {
        let mut steps = self.steps.iter();
        steps.find(|step| !state.ended.contains(step)).copied()
    }

    fn note_end(&self, state: &mut State, id: NodeId) {
        state.running.remove(&id);
        state.ended.insert(id);
        self.note_pause(state);
    }

    /// What ran on a worker that has lost the segment runs no more.
    fn note_hand_over(&self, state: &mut State) {
        state.running.clear();
        self.note_pause(state);
    }

    fn note_pause(&self, state: &State) {
        if *self.stop.borrow() && state.running.is_empty() {
            self.has_paused.send_replace(true);
        }
    }
}

impl SegmentWatch for FarmWatch {
    fn event(&self, event: SegmentEvent) {
        // Held to the end, so that events are told in the order in which they come.
        let state = &mut *locked(&self.state);
        if state.is_over {
            return;
        }
        let report = &self.report;
        match event {
            SegmentEvent::Queued { why } => {
                self.note_hand_over(state);
                if let Some(id) = self.speaker(state) {
                    report.queued(id, &why);
                }
            }
            SegmentEvent::Assigned { worker, attempt } => {
                self.note_hand_over(state);
                if let Some(id) = self.speaker(state) {
                    report.assigned(id, &worker, attempt);
                }
            }
            SegmentEvent::Started(id) => {
                state.running.insert(id, Instant::now());
                state.ended.remove(&id);
                self.fates.note(id, Fate::Missed);
                report.started(id);
            }
            SegmentEvent::Waiting { node, holder } => report.waiting(node, holder.as_deref()),
            SegmentEvent::Output {
                node,
                stream,
                bytes,
            } => {
                let outputs = state.outputs.entry(node);
                let output = outputs.or_insert_with(|| report.output(node));
                output.write(stream, &bytes);
            }
            SegmentEvent::Progress {
                node,
                label,
                done,
                total,
            } => report.progress(node, &label, (done, total)),
            SegmentEvent::Cached(id) => {
                // Of what lies below, all was said when it was found.
                if self.steps.contains(&id) {
                    // Unless it is said otherwise in the end.
                    self.fates.note(id, Fate::FoundByContent);
                    report.cached(id);
                    self.note_end(state, id);
                }
            }
            SegmentEvent::Finished { node, elapsed } => {
                self.fates.note(node, Fate::Ran);
                report.finished(node, elapsed);
                self.note_end(state, node);
            }
            // Told when it is known why, and that it is not tried again.
            SegmentEvent::Failed {
                node,
                elapsed,
                error,
            } => {
                state.failed.insert(node, (elapsed, error));
                self.note_end(state, node);
            }
            SegmentEvent::Warning(message) => report.warning(&message),
        }
    }
}
