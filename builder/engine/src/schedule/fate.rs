//! What came of looking each step up, for who asks afterwards why a step ran.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::graph::{Graph, NodeId};

/// What came of looking a step up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// Its result was known, or that of a later step, so that nobody asked for it.
    #[default]
    Found,
    /// Nothing was known of a step made in the same way, but its inputs contained what those of an
    /// earlier one did.
    FoundByContent,
    /// Nothing was known, and it did not end well here: it failed, was called off, or somebody
    /// else ran it.
    Missed,
    /// Nothing was known, and it ran.
    Ran,
}

/// The fates of a build's steps, by node index; none as long as every step that was asked for was
/// found at once in the local store.
#[derive(Debug)]
pub(super) struct Fates {
    nodes: Mutex<Option<Vec<Fate>>>,
    count: usize,
}

impl Fates {
    pub(super) fn new(graph: &Graph) -> Self {
        Self {
            nodes: Mutex::default(),
            count: graph.len(),
        }
    }

    fn nodes(&self) -> MutexGuard<'_, Option<Vec<Fate>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the local store does not have all that is wanted.
    pub(super) fn begin(&self) {
        self.nodes()
            .get_or_insert_with(|| vec![Fate::Found; self.count]);
    }

    /// Notes what came of a step. Of what ran before its layer was lost, that it ran.
    pub(super) fn note(&self, id: NodeId, fate: Fate) {
        let mut nodes = self.nodes();
        let nodes = nodes.get_or_insert_with(|| vec![Fate::Found; self.count]);
        if let Some(noted) = nodes.get_mut(id.index()).filter(|fate| **fate != Fate::Ran) {
            *noted = fate;
        }
    }

    /// What came of a step so far.
    pub(super) fn of(&self, id: NodeId) -> Fate {
        let nodes = self.nodes();
        let fate = nodes.as_ref().and_then(|nodes| nodes.get(id.index()));
        fate.copied().unwrap_or_default()
    }

    pub(super) fn take(&self) -> Option<Vec<Fate>> {
        self.nodes().take()
    }
}
