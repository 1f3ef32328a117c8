//! The build graph: filesystems, and the steps that make them from one another.
//!
//! A node *is* a filesystem: a base that comes from elsewhere, its parent's filesystem with one
//! step's layer on top, or the layers of one filesystem on those of another. Nodes are added parents first, so that their order is topological.

use std::path::PathBuf;
use std::sync::Arc;

use ashlar_model::digest::{BlobDigest, DefinitionKey, LayerId};
use ashlar_model::platform::Platform;
use ashlar_model::remote::RemoteFiles;
use ashlar_model::select::SourceQuery;
use ashlar_model::step::{MakeDirectorySpec, RunSpec, Selection};

use crate::dockerfile::source::SourceRange;
use crate::event::VertexId;

/// Names a node of one graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(usize);

impl NodeId {
    /// The node's place in [`Graph::nodes`].
    pub const fn index(self) -> usize {
        self.0
    }
}

/// Names a source of files from elsewhere of one graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemoteId(usize);

impl RemoteId {
    /// The source's place in [`Graph::remotes`].
    pub const fn index(self) -> usize {
        self.0
    }

    pub(crate) const fn of(index: usize) -> Self {
        Self(index)
    }
}

/// One filesystem of the build.
#[derive(Debug, Clone)]
pub struct Node {
    /// How progress displays number it; 0 until the plan is complete.
    pub vertex: VertexId,
    /// How people call it: `[build 2/5] RUN make`.
    pub name: Arc<str>,
    /// Where the Dockerfile says so.
    pub range: Option<SourceRange>,
    /// How it comes about.
    pub kind: NodeKind,
}

/// How a filesystem comes about.
#[derive(Debug, Clone)]
pub enum NodeKind {
    /// It comes from an image, or is empty.
    Base(Base),
    /// A step makes it.
    Step {
        /// The filesystem before the step.
        parent: NodeId,
        /// What the step does.
        op: PlannedOp,
    },
    /// The layers of one filesystem lie on those of another. Nothing is done for it: this is how
    /// `COPY --link` adds a layer that knows nothing of what it lies on.
    Stack {
        /// The filesystem below.
        below: NodeId,
        /// The filesystem whose layers are laid over it.
        above: NodeId,
    },
}

/// A filesystem that comes from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// What it is, by digest and never by tag.
    pub key: DefinitionKey,
    /// Its layers, bottom first.
    pub layers: Vec<LayerId>,
    /// The image that it comes from, which the key was computed from; `None` if it is empty.
    pub image: Option<ImageIdentity>,
}

/// What an image is, whatever its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageIdentity {
    /// Digest of its manifest, or of its configuration if it has none yet.
    pub digest: BlobDigest,
    /// The platform that it was chosen for.
    pub platform: Platform,
}

/// What a step does, its inputs named as nodes.
#[derive(Debug, Clone)]
pub enum PlannedOp {
    /// RUN.
    Run(Box<PlannedRun>),
    /// COPY and ADD.
    Copy(PlannedCopy),
    /// WORKDIR.
    MakeDirectory(MakeDirectorySpec),
}

/// A command whose mounts' sources are not all made yet.
#[derive(Debug, Clone)]
pub struct PlannedRun {
    /// The command. Its mounts lack their sources' layers.
    pub spec: RunSpec,
    /// The filesystems of the mounts that have a source, in the order of the mounts.
    pub sources: Vec<NodeId>,
}

/// A copy whose sources are not all made yet.
#[derive(Debug, Clone)]
pub struct PlannedCopy {
    /// What to copy, in order.
    pub sources: Vec<PlannedSource>,
    /// Destination, absolute inside the container.
    pub destination: String,
    /// `--chown`, expanded.
    pub owner: Option<String>,
    /// `--chmod`, expanded.
    pub mode: Option<String>,
    /// ADD: local archives are unpacked.
    pub unpack: bool,
}

/// One source of a copy.
#[derive(Debug, Clone)]
pub enum PlannedSource {
    /// Files of a context directory: selected and hashed before any step runs.
    Directory {
        /// The directory.
        root: PathBuf,
        /// What of it.
        selection: Arc<Selection>,
    },
    /// Files of another filesystem of the build.
    Node {
        /// Which.
        node: NodeId,
        /// What of it.
        query: SourceQuery,
    },
    /// Files from elsewhere: known by what they are, and fetched only if the step runs.
    Remote {
        /// Which.
        remote: RemoteId,
        /// What of them.
        query: SourceQuery,
        /// Whether archives among them are unpacked.
        unpack: bool,
    },
    /// A file given in the Dockerfile.
    Inline {
        /// File name.
        name: String,
        /// Content.
        data: Vec<u8>,
    },
}

/// The nodes of a build.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    remotes: Vec<RemoteFiles>,
}

impl Graph {
    /// Adds a node; its inputs must have been added before.
    pub fn add(&mut self, node: Node) -> NodeId {
        debug_assert!(node.inputs().iter().all(|input| input.0 < self.nodes.len()));
        self.nodes.push(node);
        NodeId(self.nodes.len() - 1)
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// What the sources from elsewhere are, by their ids.
    pub fn remotes(&self) -> &[RemoteFiles] {
        &self.remotes
    }

    /// The source from elsewhere at a place among all of them.
    pub fn remote_at(&self, index: usize) -> Option<RemoteId> {
        (index < self.remotes.len()).then_some(RemoteId(index))
    }

    /// Says what the sources from elsewhere are. Until then no node has a key.
    pub fn set_remotes(&mut self, remotes: Vec<RemoteFiles>) {
        self.remotes = remotes;
    }

    /// One source of a node's copy, to fill in what was selected for it.
    pub(crate) fn copy_source_mut(
        &mut self,
        id: NodeId,
        source: usize,
    ) -> Option<&mut PlannedSource> {
        match &mut self.nodes.get_mut(id.0)?.kind {
            NodeKind::Step {
                op: PlannedOp::Copy(copy),
                ..
            } => copy.sources.get_mut(source),
            _ => None,
        }
    }

    /// A node's command, to change what it sees.
    #[cfg(test)]
    pub(crate) fn run_mut(&mut self, id: NodeId) -> Option<&mut PlannedRun> {
        match &mut self.nodes.get_mut(id.0)?.kind {
            NodeKind::Step {
                op: PlannedOp::Run(run),
                ..
            } => Some(run),
            _ => None,
        }
    }

    /// Numbers the steps as displays show them, after `last`. Other nodes are no work and have no
    /// number. Returns the last number given.
    pub(crate) fn number_steps(&mut self, mut last: u32) -> u32 {
        for node in &mut self.nodes {
            if node.is_step() {
                last += 1;
                node.vertex = VertexId(last);
            }
        }
        last
    }

    /// All nodes, inputs before what needs them.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> {
        self.nodes
            .iter()
            .enumerate()
            .map(|(index, node)| (NodeId(index), node))
    }

    /// How many nodes there are.
    pub const fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Which layers of a filesystem are those of images, bottom first; `None` for each that a step
    /// makes. Every result of the node has so many layers, and these.
    pub fn shape(&self, id: NodeId) -> Vec<Option<LayerId>> {
        // From the top down.
        let mut shape = Vec::new();
        for id in self.lineage(id) {
            match &self.node(id).kind {
                NodeKind::Base(base) => shape.extend(base.layers.iter().rev().copied().map(Some)),
                NodeKind::Step { .. } => shape.push(None),
                NodeKind::Stack { .. } => {}
            }
        }
        shape.reverse();
        shape
    }

    /// A filesystem and all that gave it its layers: itself first, each before what lies below it.
    pub fn lineage(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        let mut pending = vec![id];
        std::iter::from_fn(move || {
            let next = pending.pop()?;
            match self.node(next).kind {
                NodeKind::Base(_) => {}
                NodeKind::Step { parent, .. } => pending.push(parent),
                NodeKind::Stack { below, above } => pending.extend([below, above]),
            }
            Some(next)
        })
    }
}

impl Node {
    /// Whether there is anything to do for it.
    pub const fn is_step(&self) -> bool {
        matches!(self.kind, NodeKind::Step { .. })
    }

    /// The other filesystems that the step reads, in the order of its sources.
    pub fn source_nodes(&self) -> Vec<NodeId> {
        match &self.kind {
            NodeKind::Step {
                op: PlannedOp::Copy(copy),
                ..
            } => copy
                .sources
                .iter()
                .filter_map(|source| match source {
                    PlannedSource::Node { node, .. } => Some(*node),
                    PlannedSource::Directory { .. }
                    | PlannedSource::Remote { .. }
                    | PlannedSource::Inline { .. } => None,
                })
                .collect(),
            NodeKind::Step {
                op: PlannedOp::Run(run),
                ..
            } => run.sources.clone(),
            _ => Vec::new(),
        }
    }

    /// The sources from elsewhere that the step reads, in the order of its sources.
    pub fn source_remotes(&self) -> Vec<RemoteId> {
        match &self.kind {
            NodeKind::Step {
                op: PlannedOp::Copy(copy),
                ..
            } => copy
                .sources
                .iter()
                .filter_map(|source| match source {
                    PlannedSource::Remote { remote, .. } => Some(*remote),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// All filesystems that must be there before this one can be: a step's parent first.
    pub fn inputs(&self) -> Vec<NodeId> {
        match self.kind {
            NodeKind::Base(_) => Vec::new(),
            NodeKind::Stack { below, above } => vec![below, above],
            NodeKind::Step { parent, .. } => {
                let mut inputs = vec![parent];
                inputs.extend(self.source_nodes());
                inputs
            }
        }
    }
}
