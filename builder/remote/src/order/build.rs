//! A whole build, which no client need wait for.

use std::path::PathBuf;
use std::sync::Arc;

use ashlar_engine::driver::Prepared;
use ashlar_engine::schedule::Fresh;
use ashlar_model::platform::Platform;
use ashlar_model::step::Selection;
use ashlar_store::home::Home;
use serde::{Deserialize, Serialize};

use super::base::BaseLayer;
use super::envelope::{Kind, open, seal};
use super::image::{ImageParts, Push, WireImage};
use super::read::Checked;
use super::write::{ContextNames, Encoded};
use super::{LONGEST_ORDER, OrderError};
use crate::context::ContextRef;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct WireBuild {
    image: WireImage,
    no_cache: bool,
}

/// The order of a whole build, as a worker has it. The worker that has it is the build's client: it
/// gives segments to the farm, then a delivery.
pub struct BuildOrder {
    checked: Checked,
    image: WireImage,
    parts: ImageParts,
    no_cache: bool,
}

impl std::fmt::Debug for BuildOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuildOrder")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

impl BuildOrder {
    /// Writes the order for a build that was planned.
    pub fn encode(
        prepared: &Prepared,
        no_cache: bool,
        pushes: &[Push],
        (home, names): (&Home, &dyn ContextNames),
    ) -> Result<Encoded, OrderError> {
        let (image, nodes) = WireImage::of(prepared, pushes, home, names)?;
        let bytes = seal(Kind::Build, &WireBuild { image, no_cache })?;
        Ok(Encoded { bytes, nodes })
    }

    /// Reads an order.
    pub fn read(bytes: &[u8]) -> Result<Self, OrderError> {
        let WireBuild { image, no_cache } = open(Kind::Build, bytes, LONGEST_ORDER)?;
        Ok(Self {
            checked: Checked::new(image.graph.clone())?,
            parts: image.read()?,
            image,
            no_cache,
        })
    }

    /// How people call what is built.
    pub fn name(&self) -> &str {
        self.checked.name()
    }

    /// The platform that its steps run on.
    pub fn platform(&self) -> Platform {
        self.checked.platform()
    }

    /// How its steps are isolated.
    pub fn isolation(&self) -> &str {
        &self.checked.graph.isolation
    }

    /// Which steps run whatever is known of them.
    pub const fn fresh(&self) -> Fresh {
        if self.no_cache {
            Fresh::All
        } else {
            Fresh::None
        }
    }

    /// Where the image goes.
    pub fn pushes(&self) -> &[Push] {
        &self.parts.pushes
    }

    /// The files of contexts that it names, each once: they are in the farm's CAS already.
    pub fn contexts(&self) -> &[ContextRef] {
        &self.checked.graph.contexts
    }

    /// Manifests and configurations of its base images: who gives orders on needs them.
    pub fn documents(&self) -> &[Vec<u8>] {
        &self.checked.graph.documents
    }

    /// The layers of its base images.
    pub fn layers(&self) -> &[BaseLayer] {
        &self.checked.layers
    }

    /// What is to be made: see [`Order::plan`](super::Order::plan).
    pub fn plan(
        &self,
        contexts: &[(PathBuf, Arc<Selection>)],
        here: &str,
    ) -> Result<Prepared, OrderError> {
        let (plan, _, target) = self.checked.plan(contexts, here)?;
        Ok(self.image.prepared(&self.parts, (plan, target)))
    }
}
