//! An image of what a farm has built, in registries: its layers need not pass through the client.

use std::path::PathBuf;
use std::sync::Arc;

use ashlar_engine::driver::{Built, Prepared};
use ashlar_model::digest::BlobDigest;
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
    /// Digest of the complete configuration: of these layers and no others.
    id: BlobDigest,
}

/// The order of a delivery, as a worker has it.
pub struct DeliveryOrder {
    checked: Checked,
    image: WireImage,
    parts: ImageParts,
    id: BlobDigest,
}

impl std::fmt::Debug for DeliveryOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeliveryOrder").field("id", &self.id).finish_non_exhaustive()
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
            let id = BlobDigest::of(&built.config.to_vec());
            let bytes = seal(Kind::Delivery, &WireDelivery { image, id })?;
            Ok(Encoded { bytes, nodes })
        };
        Some(encode())
    }

    /// Reads an order.
    pub fn read(bytes: &[u8]) -> Result<Self, OrderError> {
        let WireDelivery { image, id } = open(Kind::Delivery, bytes, LONGEST_ORDER)?;
        Ok(Self {
            checked: Checked::new(image.graph.clone())?,
            parts: image.read()?,
            image,
            id,
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

    /// The digest of the image's configuration. What is made instead if a result was lost
    /// meanwhile may be another image: then nothing is delivered.
    pub const fn id(&self) -> BlobDigest {
        self.id
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
