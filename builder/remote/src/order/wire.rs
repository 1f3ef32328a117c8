//! The parts of a graph as they are written. Names of one another are places in their lists, each
//! kind a type of its own.
//!
//! A change of any of this is a new version of the format: a test holds the bytes.

use ashlar_model::cas::CasDigest;
use ashlar_model::digest::{BlobDigest, DiffId};
use ashlar_model::media_type::Compression;
use ashlar_model::platform::Platform;
use ashlar_model::reference::Reference;
use ashlar_model::select::SourceQuery;
use ashlar_model::step::{MakeDirectorySpec, RunSpec};
use serde::{Deserialize, Serialize};

use super::remote::WireRemote;
use crate::context::ContextRef;

macro_rules! place {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub(super) struct $name(pub(super) u32);

        impl $name {
            pub(super) const fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

place! {
    /// A node, by its place among the nodes.
    NodePlace
}
place! {
    /// A layer of a base image.
    LayerPlace
}
place! {
    /// Files of a context.
    ContextPlace
}
place! {
    /// Files from elsewhere.
    RemotePlace
}

/// A graph, and what its keys are computed with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WireGraph {
    /// The version of the program that wrote it, for messages.
    pub(super) client: String,
    pub(super) isolation: String,
    pub(super) platform: WirePlatform,
    pub(super) layers: Vec<WireLayer>,
    /// Manifests and configurations of base images.
    pub(super) documents: Vec<Vec<u8>>,
    pub(super) contexts: Vec<ContextRef>,
    pub(super) remotes: Vec<WireRemote>,
    /// Inputs before what needs them.
    pub(super) nodes: Vec<WireNode>,
    /// The node that it is for.
    pub(super) target: NodePlace,
    /// The definition key that the client computes for it.
    pub(super) key: [u8; 32],
}

/// The model's own form leaves out what is empty, which this format cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WirePlatform {
    pub(super) os: String,
    pub(super) arch: String,
    pub(super) variant: Option<String>,
}

impl From<&Platform> for WirePlatform {
    fn from(platform: &Platform) -> Self {
        let Platform { os, arch, variant } = platform.clone();
        Self { os, arch, variant }
    }
}

impl From<WirePlatform> for Platform {
    fn from(platform: WirePlatform) -> Self {
        let WirePlatform { os, arch, variant } = platform;
        Self { os, arch, variant }
    }
}

/// A layer of a base image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WireLayer {
    pub(super) diff_id: DiffId,
    pub(super) blob: WireBlob,
    /// Repositories that have the blob.
    pub(super) repositories: Vec<Reference>,
    /// The blob in the farm's CAS, if no repository has it.
    pub(super) cas: Option<CasDigest>,
}

/// A compressed form of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WireBlob {
    pub(super) media_type: String,
    pub(super) digest: BlobDigest,
    pub(super) size: u64,
    pub(super) compression: Compression,
}

/// A filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WireNode {
    pub(super) name: String,
    pub(super) kind: WireKind,
}

/// How a filesystem comes about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum WireKind {
    Scratch,
    Image {
        digest: BlobDigest,
        platform: WirePlatform,
        layers: Vec<LayerPlace>,
    },
    Stack {
        below: NodePlace,
        above: NodePlace,
    },
    Run {
        parent: NodePlace,
        spec: RunSpec,
        sources: Vec<NodePlace>,
    },
    Copy {
        parent: NodePlace,
        copy: WireCopy,
    },
    MakeDirectory {
        parent: NodePlace,
        spec: MakeDirectorySpec,
    },
}

/// COPY and ADD.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WireCopy {
    pub(super) sources: Vec<WireSource>,
    pub(super) destination: String,
    pub(super) owner: Option<String>,
    pub(super) mode: Option<String>,
    pub(super) unpack: bool,
}

/// One source of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum WireSource {
    Context(ContextPlace),
    Node {
        node: NodePlace,
        query: SourceQuery,
    },
    Remote {
        remote: RemotePlace,
        query: SourceQuery,
        unpack: bool,
    },
    Inline {
        name: String,
        data: Vec<u8>,
    },
}

impl WireNode {
    /// All nodes that must be there before this one.
    pub(super) fn inputs(&self) -> Vec<NodePlace> {
        match &self.kind {
            WireKind::Scratch | WireKind::Image { .. } => Vec::new(),
            WireKind::Stack { below, above } => vec![*below, *above],
            WireKind::Run {
                parent, sources, ..
            } => std::iter::once(*parent)
                .chain(sources.iter().copied())
                .collect(),
            WireKind::MakeDirectory { parent, .. } => vec![*parent],
            WireKind::Copy { parent, copy } => {
                let sources = copy.sources.iter().filter_map(|source| match source {
                    WireSource::Node { node, .. } => Some(*node),
                    _ => None,
                });
                std::iter::once(*parent).chain(sources).collect()
            }
        }
    }

    /// Whether there is anything to do for it.
    pub(super) const fn is_step(&self) -> bool {
        matches!(
            self.kind,
            WireKind::Run { .. } | WireKind::Copy { .. } | WireKind::MakeDirectory { .. }
        )
    }
}
