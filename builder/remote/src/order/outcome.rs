//! What came of a segment, from the worker to the client.

use ashlar_engine::graph::NodeId;
use ashlar_engine::schedule::{Failure, Fate, Made, StepFailure};
use ashlar_engine::segment::{SegmentError, SegmentMade, moved};
use ashlar_model::digest::DiffId;
use ashlar_model::error_chain::error_chain;
use ashlar_model::executor::StepError;
use serde::{Deserialize, Serialize};

use super::envelope::{Kind, open, seal};
use super::told::{WireError, cut};
use super::wire::NodePlace;
use super::{OrderError, Planned};

/// The most bytes of an outcome: what a queue takes.
pub const LONGEST_OUTCOME: usize = 2 << 20;

/// The most lines that are told of what a step wrote.
const MOST_LINES: usize = 20;

/// What came of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentOutcome {
    /// What came of each step.
    fates: Vec<(NodePlace, WireFate)>,
    /// The layers of the tip, bottom first, and what each takes to move.
    layers: Vec<(DiffId, u64)>,
    failure: Option<WireFailure>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum WireFate {
    Found,
    FoundByContent,
    Missed,
    Ran,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum WireFailure {
    /// A step failed.
    Step {
        /// Which; the tip if it is none of them.
        node: NodePlace,
        error: WireError,
        last_output: Vec<String>,
    },
    /// The worker could not.
    Worker(String),
    Cancelled,
}

fn place(id: NodeId) -> NodePlace {
    NodePlace(u32::try_from(id.index()).unwrap_or(u32::MAX))
}

impl SegmentOutcome {
    /// What a worker tells of what it has made.
    pub fn of(made: &Made, planned: &Planned) -> Self {
        let fate = |step: &NodeId| {
            // Where nothing is said, all was found.
            let fates = made.fates.as_ref();
            let fate = fates.and_then(|fates| fates.get(step.index()).copied());
            let fate = match fate.unwrap_or_default() {
                Fate::Found => WireFate::Found,
                Fate::FoundByContent => WireFate::FoundByContent,
                Fate::Missed => WireFate::Missed,
                Fate::Ran => WireFate::Ran,
            };
            (place(*step), fate)
        };
        let layers = made.layers.iter().flatten().filter_map(moved);
        let failure = made.layers.as_ref().err().map(|failure| match failure {
            Failure::Step(step) => of_step(step, planned.target),
            Failure::Cancelled => WireFailure::Cancelled,
            other => WireFailure::Worker(cut(&error_chain(other))),
        });
        Self {
            fates: planned.steps.iter().map(fate).collect(),
            layers: layers.collect(),
            failure,
        }
    }

    /// Whether it ended well.
    pub const fn is_success(&self) -> bool {
        self.failure.is_none()
    }

    /// For people: why it did not end well.
    pub fn message(&self) -> Option<String> {
        Some(match self.failure.as_ref()? {
            WireFailure::Step { error, .. } => StepError::from(error.clone()).to_string(),
            WireFailure::Worker(why) => why.clone(),
            WireFailure::Cancelled => StepError::Cancelled.to_string(),
        })
    }

    /// As it is sent.
    pub fn encode(&self) -> Result<Vec<u8>, OrderError> {
        seal(Kind::Outcome, self)
    }

    /// As it came.
    pub fn decode(bytes: &[u8]) -> Result<Self, OrderError> {
        open(Kind::Outcome, bytes, LONGEST_OUTCOME)
    }

    /// As the engine takes it. `nodes` are those that the order was written of.
    pub fn into_result(self, nodes: &[NodeId]) -> Result<SegmentMade, SegmentError> {
        let at = |place: NodePlace| nodes.get(place.index()).copied();
        match self.failure {
            None => {}
            Some(WireFailure::Cancelled) => return Err(SegmentError::Cancelled),
            Some(WireFailure::Worker(why)) => {
                return Err(SegmentError::Farm {
                    message: format!("a worker could not do its work: {why}"),
                    hint: None,
                    source: None,
                });
            }
            Some(WireFailure::Step {
                node,
                error,
                last_output,
            }) => {
                // The last node is the tip.
                let Some(node) = at(node).or(nodes.last().copied()) else {
                    return Err(SegmentError::Cancelled);
                };
                return Err(SegmentError::Step {
                    node,
                    error: error.into(),
                    last_output,
                });
            }
        }
        let fates = self.fates.into_iter().filter_map(|(place, fate)| {
            let fate = match fate {
                WireFate::Found => Fate::Found,
                WireFate::FoundByContent => Fate::FoundByContent,
                WireFate::Missed => Fate::Missed,
                WireFate::Ran => Fate::Ran,
            };
            Some((at(place)?, fate))
        });
        Ok(SegmentMade {
            fates: fates.collect(),
            layers: self.layers,
        })
    }
}

fn of_step(step: &StepFailure, target: NodeId) -> WireFailure {
    let skipped = step.last_output.len().saturating_sub(MOST_LINES);
    let lines = step.last_output.iter().skip(skipped);
    WireFailure::Step {
        node: place(step.node.unwrap_or(target)),
        error: (&step.error).into(),
        last_output: lines.map(|line| cut(line)).collect(),
    }
}
