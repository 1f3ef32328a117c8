//! An image that came from elsewhere, as records of the local store.

use ashlar_image::pull::{ImageHandle, ImageSource};
use ashlar_model::digest::LayerId;
use ashlar_model::layer::{LayerOrigin, LayerRecord, StoredBlob, Timestamp};
use ashlar_model::media_type::Compression;
use ashlar_model::platform::Platform;
use ashlar_model::reference::Reference;
use ashlar_store::home::images::ImageRecord;
use ashlar_store::home::{Home, StoreError};

/// Notes an image's layers, bottom first. Their blobs need not be here.
pub fn register_layers(home: &Home, image: &ImageHandle) -> Result<Vec<LayerId>, StoreError> {
    let repository = match &image.source {
        ImageSource::Registry(reference) => Some(reference),
        ImageSource::Layout(_) => None,
    };
    let mut layers = Vec::with_capacity(image.layers().len());
    for (descriptor, diff_id) in image.layers() {
        // A handle has no layer of another kind.
        let compression = Compression::of_layer_media_type(&descriptor.media_type)
            .unwrap_or(Compression::Uncompressed);
        let blob = StoredBlob {
            descriptor: descriptor.clone(),
            compression,
            level: None,
        };
        let new = LayerRecord::of_image(diff_id, blob, repository.cloned());
        note_layer(home, &new)?;
        layers.push(new.id);
    }
    Ok(layers)
}

/// Notes a layer that came with an image, beside what is known of it.
pub fn note_layer(home: &Home, new: &LayerRecord) -> Result<(), StoreError> {
    home.claim_layers(&[new.id])?;
    let Some(known) = home.layer(&new.id)? else {
        return home.put_layer(new);
    };
    let copies = match &known.origin {
        LayerOrigin::Shared { copies } => copies.clone(),
        LayerOrigin::Image { .. } | LayerOrigin::Step => Vec::new(),
    };
    let Some(merged) = merged(known, new) else {
        return Ok(());
    };
    // For whoever sends results that stand on it.
    for copy in copies {
        home.note_copy(&new.id, copy)?;
    }
    home.put_layer(&merged)
}

/// A known layer with what is new; `None` if nothing is.
fn merged(mut known: LayerRecord, new: &LayerRecord) -> Option<LayerRecord> {
    let mut changed = false;
    for blob in &new.blobs {
        if !known
            .blobs
            .iter()
            .any(|one| one.descriptor.digest == blob.descriptor.digest)
        {
            known.blobs.push(blob.clone());
            changed = true;
        }
    }
    match (&mut known.origin, &new.origin) {
        (LayerOrigin::Image { repositories }, LayerOrigin::Image { repositories: more }) => {
            for repository in more {
                if !repositories
                    .iter()
                    .any(|one| one.name() == repository.name())
                {
                    repositories.push(repository.clone());
                    changed = true;
                }
            }
        }
        // An image that was pushed by a machine which shares its results. A registry keeps what it
        // has; a cache may lose it, and no step of this build could make it again.
        (origin @ LayerOrigin::Shared { .. }, LayerOrigin::Image { .. }) => {
            origin.clone_from(&new.origin);
            // The first is the one that is fetched.
            let digest = new.blobs.first().map(|blob| blob.descriptor.digest);
            known
                .blobs
                .sort_by_key(|blob| Some(blob.descriptor.digest) != digest);
            changed = true;
        }
        _ => {}
    }
    changed.then_some(known)
}

/// Notes an image under a name.
pub fn register_image(
    home: &Home,
    reference: &Reference,
    image: &ImageHandle,
    platform: &Platform,
    tagged: Timestamp,
) -> Result<ImageRecord, StoreError> {
    let layers = register_layers(home, image)?;
    let record = ImageRecord {
        reference: reference.clone(),
        config: image.config_descriptor().clone(),
        manifest: Some(image.manifest_descriptor.clone()),
        platform: if image.config.os.is_empty() {
            platform.clone()
        } else {
            image.config.platform()
        },
        layers,
        tagged,
    };
    if home
        .image(reference)?
        .is_none_or(|known| known.config != record.config || known.manifest != record.manifest)
    {
        home.put_image(&record)?;
    }
    Ok(record)
}
