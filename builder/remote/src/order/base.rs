//! Base images: which layers they have, and how a reader knows that.
//!
//! The key of a base is computed from the digest of its manifest, or of its configuration if it has
//! no manifest yet. An order has both documents. Whoever reads it checks that they have their digests,
//! and that the configuration names the layers that the order gives the base: then nothing can be
//! made under the name of an image that was not made of it.

use std::collections::HashMap;

use ashlar_image::manifest::Manifest;
use ashlar_model::cas::CasDigest;
use ashlar_model::config::ImageConfig;
use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::{BlobDigest, DiffId, LayerId};
use ashlar_model::layer::{LayerOrigin, LayerRecord, StoredBlob};
use ashlar_model::media_type::Compression;
use ashlar_store::home::Home;

use super::OrderError;
use super::wire::{WireBlob, WireLayer};

/// A layer of a base image, for a reader's store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseLayer {
    /// Its record, which says what it is and which repositories have it.
    pub record: LayerRecord,
    /// Its blob in the farm's CAS, where no repository is known to have it.
    pub cas: Option<CasDigest>,
}

impl WireLayer {
    /// What is known of a layer here.
    pub(super) fn of(
        record: &LayerRecord,
        image: &str,
        cas: impl Fn(&BlobDigest) -> Option<CasDigest>,
    ) -> Result<Self, OrderError> {
        let only_here = |why| OrderError::BaseOnlyHere {
            image: image.to_owned(),
            why,
        };
        let diff_id = record
            .diff_id
            .ok_or_else(|| only_here("a layer of it was never read"))?;
        let blob = record.blobs.first().cloned();
        let StoredBlob {
            descriptor,
            compression,
            level: _,
        } = blob.ok_or_else(|| only_here("a layer of it was never compressed"))?;
        let repositories = match &record.origin {
            LayerOrigin::Image { repositories } => repositories.clone(),
            LayerOrigin::Step | LayerOrigin::Shared { .. } => Vec::new(),
        };
        let cas = match repositories.is_empty() {
            true => Some(cas(&descriptor.digest)),
            false => None,
        };
        if cas == Some(None) {
            return Err(only_here("no registry is known to have its layers"));
        }
        Ok(Self {
            diff_id,
            blob: WireBlob {
                media_type: descriptor.media_type,
                digest: descriptor.digest,
                size: descriptor.size,
                compression,
            },
            repositories,
            cas: cas.flatten(),
        })
    }

    /// The layer as it comes with an image.
    pub(super) fn read(&self) -> Result<BaseLayer, OrderError> {
        let WireBlob {
            media_type,
            digest,
            size,
            compression,
        } = &self.blob;
        if Compression::of_layer_media_type(media_type).is_some_and(|known| known != *compression) {
            return Err(OrderError::Wrong(format!(
                "a layer of type {media_type:?} is said to be compressed in another way"
            )));
        }
        let blob = StoredBlob {
            descriptor: Descriptor::new(media_type.clone(), *digest, *size),
            compression: *compression,
            level: None,
        };
        let mut record = LayerRecord::of_image(self.diff_id, blob, None);
        record.origin = LayerOrigin::Image {
            repositories: self.repositories.clone(),
        };
        Ok(BaseLayer {
            record,
            cas: self.cas,
        })
    }

    /// What the layer is called in every store that got it with an image.
    pub(super) fn id(&self) -> LayerId {
        LayerId::of_diff_id(&self.diff_id)
    }
}

/// The documents that say what an image is: its manifest, if it has one, and its configuration.
pub(super) fn documents(
    home: &Home,
    digest: &BlobDigest,
    image: &str,
) -> Result<Vec<Vec<u8>>, OrderError> {
    let only_here = || OrderError::BaseOnlyHere {
        image: image.to_owned(),
        why: "its manifest or configuration is not in the local store any more",
    };
    let first = home.blobs().read(digest).map_err(|_| only_here())?;
    let Some(config) = config_of(&first) else {
        return Ok(vec![first]);
    };
    let config = home.blobs().read(&config).map_err(|_| only_here())?;
    Ok(vec![first, config])
}

/// The configuration that a manifest names, if it is one.
fn config_of(document: &[u8]) -> Option<BlobDigest> {
    match Manifest::read(document, "") {
        Ok(Manifest::Image(manifest)) => Some(manifest.config.digest),
        _ => None,
    }
}

/// Documents by their digests.
#[derive(Debug, Default)]
pub(super) struct Documents<'a>(HashMap<BlobDigest, &'a [u8]>);

impl<'a> Documents<'a> {
    /// Computes the digests.
    pub(super) fn of(documents: &'a [Vec<u8>]) -> Self {
        let with_digest = |bytes: &'a Vec<u8>| (BlobDigest::of(bytes), bytes.as_slice());
        Self(documents.iter().map(with_digest).collect())
    }

    /// Checks that an image has these layers.
    pub(super) fn check(
        &self,
        digest: &BlobDigest,
        layers: &[DiffId],
        name: &str,
    ) -> Result<(), OrderError> {
        let wrong = |what: &str| OrderError::Wrong(format!("{name}: {what}"));
        let first = self.0.get(digest);
        let first = first.ok_or_else(|| wrong("the document that its digest names is missing"))?;
        let config = match config_of(first) {
            Some(config) => self
                .0
                .get(&config)
                .ok_or_else(|| wrong("the configuration that its manifest names is missing"))?,
            None => first,
        };
        let config = ImageConfig::from_slice(config);
        let config = config.map_err(|_| wrong("its configuration cannot be read"))?;
        if config.rootfs.diff_ids != layers {
            return Err(wrong("it has other layers"));
        }
        Ok(())
    }
}
