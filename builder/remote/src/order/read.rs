//! The parts of a graph, as a graph again, with keys that are computed here.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use ashlar_engine::event::VertexId;
use ashlar_engine::graph::{
    Base, Graph, ImageIdentity, Node, NodeId, NodeKind, PlannedCopy, PlannedOp, PlannedRun,
    PlannedSource,
};
use ashlar_engine::key::{KeyScope, KeyedGraph, image_key, scratch_key};
use ashlar_engine::schedule::{Audience, Fresh};
use ashlar_model::digest::DiffId;
use ashlar_model::platform::Platform;
use ashlar_model::step::Selection;

use super::base::{BaseLayer, Documents};
use super::wire::{
    LayerPlace, NodePlace, WireCopy, WireGraph, WireKind, WireNode, WirePlatform, WireSource,
};
use super::{OrderError, check};

/// What is to be made, as the engine takes it.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The graph, with keys that were computed here. Node `n` has the vertex `n + 1`.
    pub plan: KeyedGraph,
    /// The filesystem that is wanted.
    pub target: NodeId,
    /// The steps that are meant: those of the segment, or all.
    pub steps: Vec<NodeId>,
    /// What of it runs whatever is known.
    pub fresh: Fresh,
    /// Who must be able to use it.
    pub audience: Audience,
}

impl Planned {
    /// The steps that are meant, as a schedule takes them.
    pub fn own(&self) -> Option<Arc<HashSet<NodeId>>> {
        Some(Arc::new(self.steps.iter().copied().collect()))
    }

    /// The steps whose results are what is wanted: nobody needs those below, where these are found.
    pub fn results(&self) -> Vec<NodeId> {
        let mut results = Vec::new();
        let mut pending = vec![self.target];
        while let Some(id) = pending.pop() {
            match self.plan.graph.node(id).kind {
                NodeKind::Stack { below, above } => pending.extend([below, above]),
                NodeKind::Step { .. } if !results.contains(&id) => results.push(id),
                NodeKind::Step { .. } | NodeKind::Base(_) => {}
            }
        }
        results
    }
}

/// What order and reader agree upon before anything is planned.
pub(super) struct Checked {
    pub(super) graph: WireGraph,
    pub(super) layers: Vec<BaseLayer>,
}

impl Checked {
    /// Checks all that can be checked without the files of contexts.
    pub(super) fn new(graph: WireGraph) -> Result<Self, OrderError> {
        check::graph(&graph)?;
        for remote in &graph.remotes {
            remote.read()?;
        }
        let documents = Documents::of(&graph.documents);
        for node in &graph.nodes {
            if let WireKind::Image { digest, layers, .. } = &node.kind {
                documents.check(digest, &diff_ids(&graph, layers), &node.name)?;
            }
        }
        let layers = graph.layers.iter().map(super::wire::WireLayer::read);
        Ok(Self {
            layers: layers.collect::<Result<_, _>>()?,
            graph,
        })
    }

    /// How people call what is wanted.
    pub(super) fn name(&self) -> &str {
        let target = self.graph.nodes.get(self.graph.target.index());
        target.map_or("", |node| &node.name)
    }

    pub(super) fn platform(&self) -> Platform {
        self.graph.platform.clone().into()
    }

    /// Makes the graph. `contexts` says for each context where its files will be, and which they
    /// are; `here` is how steps are isolated here.
    pub(super) fn plan(
        &self,
        contexts: &[(PathBuf, Arc<Selection>)],
        here: &str,
    ) -> Result<(KeyedGraph, Vec<NodeId>, NodeId), OrderError> {
        let wire = &self.graph;
        if wire.isolation != here {
            return Err(OrderError::Isolation {
                order: wire.isolation.clone(),
                here: here.to_owned(),
            });
        }
        let reader = Reader::new(wire, contexts)?;
        let (graph, ids) = reader.graph()?;
        let scope = KeyScope {
            isolation: wire.isolation.clone(),
            platform: wire.platform.clone().into(),
        };
        let plan = KeyedGraph::new(graph, scope);
        let target = *ids.get(wire.target.index()).ok_or_else(none)?;
        let key = plan.keys.get(target.index());
        if key.is_none_or(|key| *key.definition.as_bytes() != wire.key) {
            return Err(OrderError::Keys {
                name: self.name().to_owned(),
                client: wire.client.clone(),
                here: env!("CARGO_PKG_VERSION"),
            });
        }
        Ok((plan, ids, target))
    }
}

/// The nodes of some places.
pub(super) fn nodes_at(ids: &[NodeId], places: &[NodePlace]) -> Result<Vec<NodeId>, OrderError> {
    let at = |place: &NodePlace| ids.get(place.index()).copied().ok_or_else(none);
    places.iter().map(at).collect()
}

fn diff_ids(graph: &WireGraph, layers: &[LayerPlace]) -> Vec<DiffId> {
    let layers = layers
        .iter()
        .filter_map(|place| graph.layers.get(place.index()));
    layers.map(|layer| layer.diff_id).collect()
}

/// What has been checked before is not there after all: a defect of ours.
fn none() -> OrderError {
    OrderError::Wrong("it names a part that is none".to_owned())
}

struct Reader<'a> {
    wire: &'a WireGraph,
    contexts: &'a [(PathBuf, Arc<Selection>)],
    graph: Graph,
    ids: Vec<NodeId>,
}

impl<'a> Reader<'a> {
    fn new(
        wire: &'a WireGraph,
        contexts: &'a [(PathBuf, Arc<Selection>)],
    ) -> Result<Self, OrderError> {
        if contexts.len() != wire.contexts.len() {
            let what = "there are more or fewer contexts than it names";
            return Err(OrderError::Wrong(what.to_owned()));
        }
        let mut graph = Graph::default();
        let remotes = wire.remotes.iter().map(super::remote::WireRemote::read);
        graph.set_remotes(remotes.collect::<Result<_, _>>()?);
        Ok(Self {
            wire,
            contexts,
            graph,
            ids: Vec::with_capacity(wire.nodes.len()),
        })
    }

    fn graph(mut self) -> Result<(Graph, Vec<NodeId>), OrderError> {
        for (number, node) in (1..).zip(&self.wire.nodes) {
            let kind = self.kind(node)?;
            let id = self.graph.add(Node {
                vertex: VertexId(number),
                name: node.name.as_str().into(),
                range: None,
                kind,
            });
            self.ids.push(id);
        }
        Ok((self.graph, self.ids))
    }

    fn node(&self, place: NodePlace) -> Result<NodeId, OrderError> {
        self.ids.get(place.index()).copied().ok_or_else(none)
    }

    fn kind(&self, node: &WireNode) -> Result<NodeKind, OrderError> {
        Ok(match &node.kind {
            WireKind::Scratch => NodeKind::Base(Base {
                key: scratch_key(),
                layers: Vec::new(),
                image: None,
            }),
            WireKind::Image {
                digest,
                platform,
                layers,
            } => {
                let platform: Platform = WirePlatform::clone(platform).into();
                let layers = layers
                    .iter()
                    .filter_map(|place| self.wire.layers.get(place.index()));
                NodeKind::Base(Base {
                    key: image_key(digest, &platform),
                    layers: layers.map(super::wire::WireLayer::id).collect(),
                    image: Some(ImageIdentity {
                        digest: *digest,
                        platform,
                    }),
                })
            }
            WireKind::Stack { below, above } => NodeKind::Stack {
                below: self.node(*below)?,
                above: self.node(*above)?,
            },
            WireKind::Run {
                parent,
                spec,
                sources,
            } => NodeKind::Step {
                parent: self.node(*parent)?,
                op: PlannedOp::Run(Box::new(PlannedRun {
                    spec: spec.clone(),
                    sources: nodes_at(&self.ids, sources)?,
                })),
            },
            WireKind::Copy { parent, copy } => NodeKind::Step {
                parent: self.node(*parent)?,
                op: PlannedOp::Copy(self.copy(copy)?),
            },
            WireKind::MakeDirectory { parent, spec } => NodeKind::Step {
                parent: self.node(*parent)?,
                op: PlannedOp::MakeDirectory(spec.clone()),
            },
        })
    }

    fn copy(&self, copy: &WireCopy) -> Result<PlannedCopy, OrderError> {
        let WireCopy {
            sources,
            destination,
            owner,
            mode,
            unpack,
        } = copy;
        let sources = sources.iter().map(|source| self.source(source));
        Ok(PlannedCopy {
            sources: sources.collect::<Result<_, _>>()?,
            destination: destination.clone(),
            owner: owner.clone(),
            mode: mode.clone(),
            unpack: *unpack,
        })
    }

    fn source(&self, source: &WireSource) -> Result<PlannedSource, OrderError> {
        Ok(match source {
            WireSource::Context(place) => {
                let context = self.contexts.get(place.index()).ok_or_else(none)?;
                let (root, selection) = context.clone();
                PlannedSource::Directory { root, selection }
            }
            WireSource::Node { node, query } => PlannedSource::Node {
                node: self.node(*node)?,
                query: query.clone(),
            },
            WireSource::Remote {
                remote,
                query,
                unpack,
            } => PlannedSource::Remote {
                remote: self.graph.remote_at(remote.index()).ok_or_else(none)?,
                query: query.clone(),
                unpack: *unpack,
            },
            WireSource::Inline { name, data } => PlannedSource::Inline {
                name: name.clone(),
                data: data.clone(),
            },
        })
    }
}
