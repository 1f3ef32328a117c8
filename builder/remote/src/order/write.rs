//! A graph into its parts: what lies below some node.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use ashlar_engine::graph::{
    Base, Graph, NodeId, NodeKind, PlannedCopy, PlannedOp, PlannedRun, PlannedSource, RemoteId,
};
use ashlar_engine::key::{KeyScope, KeyedGraph, NodeKeys};
use ashlar_model::cas::CasDigest;
use ashlar_model::digest::{BlobDigest, DefinitionKey, LayerId};
use ashlar_model::mount::MountSpec;
use ashlar_model::remote::{RemoteFiles, without_credentials};
use ashlar_model::step::Selection;
use ashlar_store::home::Home;

use super::OrderError;
use super::base::documents;
use super::wire::{
    ContextPlace, LayerPlace, NodePlace, RemotePlace, WireCopy, WireGraph, WireKind, WireLayer,
    WireNode, WireSource,
};
use crate::context::ContextRef;

/// How a farm names what only this machine has. All of it was sent there before.
pub trait ContextNames: Send + Sync {
    /// Files of a context.
    fn reference(&self, root: &Path, selection: &Arc<Selection>) -> Option<ContextRef>;

    /// The blob of a base image's layer that no registry is known to have.
    fn blob(&self, digest: &BlobDigest) -> Option<CasDigest>;
}

/// An order as it is sent.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The order.
    pub bytes: Vec<u8>,
    /// The build's nodes in place of the order's: what workers say of node `n` is said of the `n`th
    /// of these.
    pub nodes: Vec<NodeId>,
}

/// Writes what lies below a node.
pub(super) struct Writer<'a> {
    graph: &'a Graph,
    keys: &'a [NodeKeys],
    home: &'a Home,
    names: &'a dyn ContextNames,
    /// Of nodes that are made in the same way, the first stands for all.
    first_of: HashMap<DefinitionKey, NodeId>,
    places: HashMap<NodeId, NodePlace>,
    layers: HashMap<LayerId, LayerPlace>,
    documents: BTreeSet<BlobDigest>,
    contexts: HashMap<ContextRef, ContextPlace>,
    remotes: HashMap<RemoteId, RemotePlace>,
    out: WireGraph,
}

/// Refuses a URL that tells who may fetch it: an order lies where many can read it.
fn refuse_password(what: &str, url: &str, name: &str) -> Result<(), OrderError> {
    if without_credentials(url) == url {
        return Ok(());
    }
    Err(OrderError::Password {
        what: what.to_owned(),
        name: name.to_owned(),
    })
}

/// A place that one more would have.
fn next<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}

impl<'a> Writer<'a> {
    /// Writes the part of a graph that `target` needs, and which nodes it has.
    pub(super) fn write(
        (graph, keys, scope): (&'a Graph, &'a [NodeKeys], &KeyScope),
        target: NodeId,
        home: &'a Home,
        names: &'a dyn ContextNames,
    ) -> Result<(WireGraph, Vec<NodeId>), OrderError> {
        let mut first_of = HashMap::with_capacity(keys.len());
        for (id, _) in graph.nodes() {
            first_of.entry(keys[id.index()].definition).or_insert(id);
        }
        let KeyScope {
            isolation,
            platform,
        } = scope;
        let mut writer = Self {
            graph,
            keys,
            home,
            names,
            first_of,
            places: HashMap::new(),
            layers: HashMap::new(),
            documents: BTreeSet::new(),
            contexts: HashMap::new(),
            remotes: HashMap::new(),
            out: WireGraph {
                client: env!("CARGO_PKG_VERSION").to_owned(),
                isolation: isolation.clone(),
                platform: platform.into(),
                layers: Vec::new(),
                documents: Vec::new(),
                contexts: Vec::new(),
                remotes: Vec::new(),
                nodes: Vec::new(),
                target: NodePlace(0),
                key: *keys[target.index()].definition.as_bytes(),
            },
        };
        let nodes = writer.closure(target);
        for id in &nodes {
            writer.add(*id)?;
        }
        writer.out.target = writer.place(target)?;
        Ok((writer.out, nodes))
    }

    /// The same of a graph with its keys.
    pub(super) fn write_all(
        plan: &'a KeyedGraph,
        target: NodeId,
        home: &'a Home,
        names: &'a dyn ContextNames,
    ) -> Result<(WireGraph, Vec<NodeId>), OrderError> {
        Self::write((&plan.graph, &plan.keys, &plan.scope), target, home, names)
    }

    fn first(&self, id: NodeId) -> NodeId {
        self.first_of[&self.keys[id.index()].definition]
    }

    /// A node and all that it comes from, inputs first.
    fn closure(&self, target: NodeId) -> Vec<NodeId> {
        let mut closure = BTreeSet::new();
        let mut pending = vec![target];
        while let Some(id) = pending.pop() {
            let id = self.first(id);
            if closure.insert(id) {
                pending.extend(self.graph.node(id).inputs());
            }
        }
        closure.into_iter().collect()
    }

    fn place(&self, id: NodeId) -> Result<NodePlace, OrderError> {
        let place = self.places.get(&self.first(id)).copied();
        place.ok_or_else(|| OrderError::Wrong("a node comes before its input".to_owned()))
    }

    fn places(&self, ids: &[NodeId]) -> Result<Vec<NodePlace>, OrderError> {
        ids.iter().map(|id| self.place(*id)).collect()
    }

    fn add(&mut self, id: NodeId) -> Result<(), OrderError> {
        let node = self.graph.node(id);
        let kind = match &node.kind {
            NodeKind::Base(base) => self.base(base, &node.name)?,
            NodeKind::Stack { below, above } => WireKind::Stack {
                below: self.place(*below)?,
                above: self.place(*above)?,
            },
            NodeKind::Step { parent, op } => {
                let parent = self.place(*parent)?;
                match op {
                    PlannedOp::Run(run) => self.run(parent, run, &node.name)?,
                    PlannedOp::Copy(copy) => WireKind::Copy {
                        parent,
                        copy: self.copy(copy, &node.name)?,
                    },
                    PlannedOp::MakeDirectory(spec) => WireKind::MakeDirectory {
                        parent,
                        spec: spec.clone(),
                    },
                }
            }
        };
        self.places.insert(id, NodePlace(next(&self.out.nodes)));
        self.out.nodes.push(WireNode {
            name: node.name.to_string(),
            kind,
        });
        Ok(())
    }

    fn base(&mut self, base: &Base, name: &str) -> Result<WireKind, OrderError> {
        let Some(image) = &base.image else {
            return Ok(WireKind::Scratch);
        };
        if self.documents.insert(image.digest) {
            for document in documents(self.home, &image.digest, name)? {
                if !self.out.documents.contains(&document) {
                    self.out.documents.push(document);
                }
            }
        }
        let layers = base.layers.iter().map(|layer| self.layer(*layer, name));
        Ok(WireKind::Image {
            digest: image.digest,
            platform: (&image.platform).into(),
            layers: layers.collect::<Result<_, _>>()?,
        })
    }

    fn layer(&mut self, id: LayerId, image: &str) -> Result<LayerPlace, OrderError> {
        if let Some(place) = self.layers.get(&id) {
            return Ok(*place);
        }
        let record = self.home.layer(&id)?;
        let record = record.ok_or_else(|| OrderError::BaseOnlyHere {
            image: image.to_owned(),
            why: "a layer of it is not known any more",
        })?;
        let names = self.names;
        let layer = WireLayer::of(&record, image, |blob| names.blob(blob))?;
        let place = LayerPlace(next(&self.out.layers));
        self.out.layers.push(layer);
        self.layers.insert(id, place);
        Ok(place)
    }

    fn run(&self, parent: NodePlace, run: &PlannedRun, name: &str) -> Result<WireKind, OrderError> {
        let PlannedRun { spec, sources } = run;
        for (variable, value) in &spec.unkeyed_env {
            refuse_password(variable, value, name)?;
        }
        let mut spec = spec.clone();
        for source in spec.mounts.iter_mut().filter_map(MountSpec::source_mut) {
            source.layers.clear();
        }
        Ok(WireKind::Run {
            parent,
            spec,
            sources: self.places(sources)?,
        })
    }

    fn copy(&mut self, copy: &PlannedCopy, name: &str) -> Result<WireCopy, OrderError> {
        // Named one by one, so that a new field cannot be forgotten here.
        let PlannedCopy {
            sources,
            destination,
            owner,
            mode,
            unpack,
        } = copy;
        let sources = sources.iter().map(|source| self.source(source, name));
        Ok(WireCopy {
            sources: sources.collect::<Result<_, _>>()?,
            destination: destination.clone(),
            owner: owner.clone(),
            mode: mode.clone(),
            unpack: *unpack,
        })
    }

    fn source(&mut self, source: &PlannedSource, name: &str) -> Result<WireSource, OrderError> {
        Ok(match source {
            PlannedSource::Directory { root, selection } => {
                let reference = self.names.reference(root, selection);
                let reference =
                    reference.ok_or_else(|| OrderError::ContextNotSent(name.to_owned()))?;
                WireSource::Context(self.context(reference))
            }
            PlannedSource::Node { node, query } => WireSource::Node {
                node: self.place(*node)?,
                query: query.clone(),
            },
            PlannedSource::Remote {
                remote,
                query,
                unpack,
            } => WireSource::Remote {
                remote: self.remote(*remote, name)?,
                query: query.clone(),
                unpack: *unpack,
            },
            PlannedSource::Inline { name, data } => WireSource::Inline {
                name: name.clone(),
                data: data.clone(),
            },
        })
    }

    fn context(&mut self, reference: ContextRef) -> ContextPlace {
        if let Some(place) = self.contexts.get(&reference) {
            return *place;
        }
        let place = ContextPlace(next(&self.out.contexts));
        self.out.contexts.push(reference);
        self.contexts.insert(reference, place);
        place
    }

    fn remote(&mut self, id: RemoteId, name: &str) -> Result<RemotePlace, OrderError> {
        if let Some(place) = self.remotes.get(&id) {
            return Ok(*place);
        }
        let files = self.graph.remotes().get(id.index());
        let files =
            files.ok_or_else(|| OrderError::Wrong("a source from elsewhere is none".to_owned()))?;
        let url = match files {
            RemoteFiles::Http(file) => &file.source.url,
            RemoteFiles::Git(commit) => &commit.source.remote,
        };
        refuse_password("the source", url, name)?;
        let place = RemotePlace(next(&self.out.remotes));
        self.out.remotes.push(files.into());
        self.remotes.insert(id, place);
        Ok(place)
    }
}
