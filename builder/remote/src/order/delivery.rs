//! An image of what a farm has built, in registries: its layers need not pass through the client.

use std::path::PathBuf;
use std::sync::Arc;

use ashlar_engine::driver::{Built, Prepared};
use ashlar_model::config::ImageConfig;
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
struct WireDelivery {
    image: WireImage,
    /// The complete configuration, as JSON: of these layers and no others. Times of layers depend on
    /// the store that has them, so no other store would come to the same.
    config: Vec<u8>,
}

/// The order of a delivery, as a worker has it.
pub struct DeliveryOrder {
    checked: Checked,
    image: WireImage,
    parts: ImageParts,
    config: ImageConfig,
}

impl std::fmt::Debug for DeliveryOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeliveryOrder")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

impl DeliveryOrder {
    /// Writes the order for an image that was built. `None` if it was no build's.
    pub fn encode(
        built: &Built,
        pushes: &[Push],
        home: &Home,
        names: &dyn ContextNames,
    ) -> Option<Result<Encoded, OrderError>> {
        let prepared = built.prepared.as_ref()?;
        let encode = || {
            let (image, nodes) = WireImage::of(prepared, pushes, home, names)?;
            let config = built.config.to_vec();
            let bytes = seal(Kind::Delivery, &WireDelivery { image, config })?;
            Ok(Encoded { bytes, nodes })
        };
        Some(encode())
    }

    /// Reads an order.
    pub fn read(bytes: &[u8]) -> Result<Self, OrderError> {
        let WireDelivery { image, config } = open(Kind::Delivery, bytes, LONGEST_ORDER)?;
        let config = ImageConfig::from_slice(&config);
        let config =
            config.map_err(|_| OrderError::Wrong("its configuration cannot be read".to_owned()))?;
        Ok(Self {
            checked: Checked::new(image.graph.clone())?,
            parts: image.read()?,
            image,
            config,
        })
    }

    /// How people call what is delivered.
    pub fn name(&self) -> &str {
        self.checked.name()
    }

    /// The platform that its steps run on.
    pub fn platform(&self) -> Platform {
        self.checked.platform()
    }

    /// The image's configuration, complete. What is made instead if a result was lost meanwhile may
    /// have other layers: then nothing is delivered.
    pub const fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// Where it goes.
    pub fn pushes(&self) -> &[Push] {
        &self.parts.pushes
    }

    /// The files of contexts that it names, each once.
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

    /// What is to be made, which should all be found: see [`Order::plan`](super::Order::plan).
    pub fn plan(
        &self,
        contexts: &[(PathBuf, Arc<Selection>)],
        here: &str,
    ) -> Result<Prepared, OrderError> {
        let (plan, _, target) = self.checked.plan(contexts, here)?;
        Ok(self.image.prepared(&self.parts, (plan, target)))
    }
}
