//! A graph with the keys of its nodes.

use std::sync::Arc;

use super::{KeyScope, NodeKeys, graph_keys};
use crate::graph::Graph;

/// A graph, the keys of its nodes, and what they were computed with.
#[derive(Debug, Clone)]
pub struct KeyedGraph {
    /// The graph.
    pub graph: Arc<Graph>,
    /// The keys, by node index.
    pub keys: Arc<[NodeKeys]>,
    /// What all keys hold.
    pub scope: Arc<KeyScope>,
}

impl KeyedGraph {
    /// Computes the keys.
    pub fn new(graph: Graph, scope: KeyScope) -> Self {
        Self {
            keys: graph_keys(&graph, &scope).into(),
            graph: Arc::new(graph),
            scope: Arc::new(scope),
        }
    }
}
