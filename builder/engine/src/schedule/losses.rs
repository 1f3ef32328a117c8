//! Layers that are known, but whose files turn out to be nowhere: damaged here, or evicted from
//! the cache that had them.
//!
//! Such a loss ends the round in which it is noticed: nothing new starts, what runs comes to its
//! end and is kept. The lost layers are forgotten, and with them every result that names one; the
//! next round finds everything else again, and makes what is missing. Where what is made anew has
//! the content that was lost, the steps above it are found by their content keys.
//!
//! A loss ends the build if nothing of it can be made again: layers of base images, and layers
//! that this very build has made. So each round loses layers that were there before the build,
//! of which there is an end; the number of rounds is bounded all the same.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use ashlar_model::digest::LayerId;

use super::failure::Failure;
use crate::graph::{Graph, NodeKind};

/// How many rounds may lose what they cannot name.
const MOST_UNNAMED: usize = 4;
/// How many rounds a farm's results may be gone.
const MOST_VANISHED: usize = 3;

/// What a build has lost, in all its rounds.
pub(super) struct Losses {
    state: Mutex<State>,
    /// Layers that no step of the graph makes.
    bases: HashSet<LayerId>,
    /// How many rounds there may be.
    limit: usize,
}

#[derive(Default)]
struct State {
    rounds: usize,
    /// Rounds in which nothing was lost that can be named.
    unnamed: usize,
    /// Rounds in which a farm's results were gone in the end.
    vanished: usize,
    lost: HashSet<LayerId>,
    /// What this build has made.
    made: HashSet<LayerId>,
}

impl Losses {
    pub(super) fn new(graph: &Graph) -> Self {
        let layers = graph.nodes().filter_map(|(_, node)| match &node.kind {
            NodeKind::Base(base) => Some(&base.layers),
            NodeKind::Step { .. } | NodeKind::Stack { .. } => None,
        });
        Self {
            state: Mutex::default(),
            bases: layers.flatten().copied().collect(),
            limit: graph.len() + 1,
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note_made(&self, layer: LayerId) {
        self.state().made.insert(layer);
    }

    /// Whether one of these layers was lost in an earlier round. What names it is no result.
    pub(super) fn hit(&self, layers: &[LayerId]) -> bool {
        let state = self.state();
        !state.lost.is_empty() && layers.iter().any(|layer| state.lost.contains(layer))
    }

    /// Takes what a round has lost. Whether another round can make it again.
    pub(super) fn note_round(&self, lost: &HashSet<LayerId>) -> bool {
        let mut state = self.state();
        state.unnamed += usize::from(lost.is_empty());
        let State {
            rounds,
            unnamed,
            made,
            ..
        } = &*state;
        let again = *rounds < self.limit
            && *unnamed <= MOST_UNNAMED
            && !lost
                .iter()
                .any(|layer| made.contains(layer) || self.bases.contains(layer));
        state.rounds += 1;
        state.lost.extend(lost);
        again
    }

    /// Notes that what a farm has made was gone in the end. Whether it is to be tried again.
    pub(super) fn note_vanished(&self) -> bool {
        let mut state = self.state();
        state.vanished += 1;
        state.vanished < MOST_VANISHED
    }

    /// Those of some layers that steps make.
    pub(super) fn of_steps(&self, layers: &HashSet<LayerId>) -> Vec<LayerId> {
        layers.difference(&self.bases).copied().collect()
    }
}

/// The losses of one round.
#[derive(Default)]
pub(super) struct RoundLosses(Mutex<Option<HashSet<LayerId>>>);

impl RoundLosses {
    /// Notes a failure if it is a loss.
    pub(super) fn note(&self, failure: &Failure) {
        if let Some(layers) = failure.lost_layers() {
            let mut lost = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            lost.get_or_insert_default().extend(layers);
        }
    }

    /// Whether anything was lost.
    pub(super) fn any(&self) -> bool {
        let lost = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lost.is_some()
    }

    /// What was lost. May be empty: then what was lost is forgotten already.
    pub(super) fn layers(&self) -> Option<HashSet<LayerId>> {
        let lost = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lost.clone()
    }
}
