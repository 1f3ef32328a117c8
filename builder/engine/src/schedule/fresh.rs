//! Which results a build takes, and who must be able to use its own.

use std::collections::HashSet;
use std::sync::Arc;

use crate::graph::NodeId;

/// Which steps run whatever is known of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Fresh {
    /// None.
    #[default]
    None,
    /// All: nothing old is used.
    All,
    /// Those of a segment of such a build, on a worker. What they stand on was made for them by other
    /// machines: it is taken from shared caches, and never what this store has had of it before.
    Segment(Arc<HashSet<NodeId>>),
}

impl Fresh {
    /// Whether a step runs whatever is known of it.
    pub fn runs(&self, id: NodeId) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Segment(steps) => steps.contains(&id),
        }
    }

    /// Whether what the local store has counts for steps that need not run.
    pub(super) const fn is_of_segment(&self) -> bool {
        matches!(self, Self::Segment(_))
    }
}

/// Who must be able to use what a build makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Audience {
    /// This machine. Others are sent what can be sent.
    #[default]
    Here,
    /// All machines of a farm, of which this is a worker: shared caches must have the result in the
    /// end. So what is in this store counts only if its files are here as well, and it is offered
    /// even if it was sent before: the cache may have lost it since.
    Farm,
    /// The same, and a layer was lost meanwhile of which the cache said that it was there.
    FarmAfterLoss,
}

impl Audience {
    /// Whether this is a worker of a farm.
    pub const fn is_farm(self) -> bool {
        matches!(self, Self::Farm | Self::FarmAfterLoss)
    }
}
