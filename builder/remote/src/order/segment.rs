//! Some steps of a build, for one worker.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use ashlar_engine::schedule::{Audience, Fresh};
use ashlar_engine::segment::Segment;
use ashlar_model::platform::Platform;
use ashlar_model::step::Selection;
use ashlar_store::home::Home;
use serde::{Deserialize, Serialize};

use super::base::BaseLayer;
use super::envelope::{Kind, open, seal};
use super::read::{Checked, Planned, nodes_at};
use super::wire::{NodePlace, WireGraph};
use super::write::{ContextNames, Encoded, Writer};
use super::{LONGEST_ORDER, OrderError, check};
use crate::context::ContextRef;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WireSegment {
    pub(super) graph: WireGraph,
    pub(super) steps: Vec<NodePlace>,
    pub(super) no_cache: bool,
    pub(super) after_loss: bool,
}

/// Writes the order of a segment. What only this machine has was sent to the farm before.
pub fn encode(
    segment: &Segment,
    home: &Home,
    names: &dyn ContextNames,
) -> Result<Encoded, OrderError> {
    let plan = (&*segment.graph, &*segment.keys, &*segment.scope);
    let (graph, nodes) = Writer::write(plan, segment.tip, home, names)?;
    let steps = segment.steps.iter().map(|step| {
        let place = nodes.iter().position(|node| node == step);
        let place = place.and_then(|place| u32::try_from(place).ok());
        let place = place.ok_or_else(|| {
            OrderError::Wrong("a step of the segment does not lie below its tip".to_owned())
        });
        place.map(NodePlace)
    });
    let order = WireSegment {
        steps: steps.collect::<Result<_, _>>()?,
        graph,
        no_cache: segment.no_cache,
        after_loss: segment.after_loss,
    };
    let bytes = seal(Kind::Segment, &order)?;
    if bytes.len() > LONGEST_ORDER {
        return Err(OrderError::TooLong {
            kind: "order of a segment",
            length: bytes.len(),
            most: LONGEST_ORDER,
        });
    }
    Ok(Encoded { bytes, nodes })
}

/// The order of a segment, as a worker has it.
pub struct Order {
    checked: Checked,
    steps: Vec<NodePlace>,
    no_cache: bool,
    after_loss: bool,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Order")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

impl Order {
    /// Reads an order. Nothing that it says needs to be believed.
    pub fn read(bytes: &[u8]) -> Result<Self, OrderError> {
        let WireSegment {
            graph,
            steps,
            no_cache,
            after_loss,
        } = open(Kind::Segment, bytes, LONGEST_ORDER)?;
        check::steps(&graph, &steps)?;
        Ok(Self {
            checked: Checked::new(graph)?,
            steps,
            no_cache,
            after_loss,
        })
    }

    /// How people call it: by its last step.
    pub fn name(&self) -> &str {
        let last = self.steps.last().map_or(0, |place| place.index());
        let node = self.checked.graph.nodes.get(last);
        node.map_or("", |node| &node.name)
    }

    /// The platform that its steps run on.
    pub fn platform(&self) -> Platform {
        self.checked.platform()
    }

    /// The files of contexts that it names, each once.
    pub fn contexts(&self) -> &[ContextRef] {
        &self.checked.graph.contexts
    }

    /// How its steps are isolated.
    pub fn isolation(&self) -> &str {
        &self.checked.graph.isolation
    }

    /// The layers of its base images.
    pub fn layers(&self) -> &[BaseLayer] {
        &self.checked.layers
    }

    /// Plans the work: `contexts` says for each of [its contexts](Self::contexts), in order, where
    /// the files will be, and which they are. `here` is how steps are isolated here.
    pub fn plan(
        &self,
        contexts: &[(PathBuf, Arc<Selection>)],
        here: &str,
    ) -> Result<Planned, OrderError> {
        let (plan, ids, target) = self.checked.plan(contexts, here)?;
        let steps = nodes_at(&ids, &self.steps)?;
        let fresh = match self.no_cache {
            true => Fresh::Segment(Arc::new(steps.iter().copied().collect::<HashSet<_>>())),
            false => Fresh::None,
        };
        let audience = match self.after_loss {
            true => Audience::FarmAfterLoss,
            false => Audience::Farm,
        };
        Ok(Planned {
            plan,
            target,
            steps,
            fresh,
            audience,
        })
    }
}
