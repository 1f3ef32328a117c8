//! An image in a registry.

use std::sync::Arc;

use ashlar_model::descriptor::Descriptor;
use ashlar_model::reference::Reference;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::ExportImage;
use crate::blob_source::BlobSource;
use crate::registry::{Progress, PushedBlob, RegistryClient, RegistryError};

/// Told how many bytes of which layer (counted from 0) have been sent.
pub type PushProgress = Arc<dyn Fn(usize, u64) + Send + Sync>;

/// Blobs pushed at once. The client limits connections further.
const BLOBS_AT_ONCE: usize = 4;

/// What a push did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedImage {
    /// The name it was pushed under.
    pub reference: Reference,
    /// Points to the manifest.
    pub manifest: Descriptor,
    /// How each layer got there, bottom first.
    pub layers: Vec<PushedBlob>,
}

/// Pushes an image under all its names, one after the other: later repositories of the same
/// registry mount what the earlier ones hold. The manifest comes last, so that a push that breaks
/// off leaves no image that cannot be pulled.
pub async fn push(
    client: &RegistryClient,
    image: &ExportImage,
    progress: Option<&PushProgress>,
) -> Result<Vec<PushedImage>, RegistryError> {
    let mut pushed: Vec<PushedImage> = Vec::with_capacity(image.names.len());
    for reference in &image.names {
        let same_repository = pushed
            .iter()
            .find(|done| done.reference.name() == reference.name());
        let layers = match same_repository {
            Some(done) => vec![PushedBlob::Present; done.layers.len()],
            None => {
                let earlier: Vec<Reference> =
                    pushed.iter().map(|done| done.reference.clone()).collect();
                push_blobs(client, image, reference, &earlier, progress).await?
            }
        };
        let manifest = client
            .push_manifest(
                reference,
                &image.manifest.media_type,
                image.manifest_bytes.to_vec(),
            )
            .await?;
        pushed.push(PushedImage {
            reference: reference.clone(),
            manifest,
            layers,
        });
    }
    Ok(pushed)
}

async fn push_blobs(
    client: &RegistryClient,
    image: &ExportImage,
    reference: &Reference,
    earlier: &[Reference],
    progress: Option<&PushProgress>,
) -> Result<Vec<PushedBlob>, RegistryError> {
    let layers: Vec<PushedBlob> = stream::iter(0..image.layers.len())
        .map(|index| push_layer(client, image, index, (reference, earlier), progress))
        .buffered(BLOBS_AT_ONCE)
        .try_collect()
        .await?;
    let config: Arc<dyn BlobSource> = Arc::new(image.config_bytes.clone());
    client
        .push_blob(reference, &image.config, &config, earlier, None)
        .await?;
    Ok(layers)
}

async fn push_layer(
    client: &RegistryClient,
    image: &ExportImage,
    index: usize,
    (reference, earlier): (&Reference, &[Reference]),
    progress: Option<&PushProgress>,
) -> Result<PushedBlob, RegistryError> {
    let digest_at = |index: usize| Some(image.layers.get(index)?.descriptor.digest);
    let Some(layer) = image.layers.get(index) else {
        return Ok(PushedBlob::Present);
    };
    // The same layer twice in an image is the same blob: sent once.
    let digest = Some(layer.descriptor.digest);
    if (0..index).any(|before| digest_at(before) == digest) {
        return Ok(PushedBlob::Present);
    }
    let known = [earlier, &layer.repositories].concat();
    let progress = progress.map(|progress| {
        let progress = Arc::clone(progress);
        Arc::new(move |bytes| progress(index, bytes)) as Progress
    });
    let (blob, source) = (&layer.descriptor, &layer.source);
    let pushed = client.push_blob(reference, blob, source, &known, progress.as_ref());
    pushed.await.inspect(|_| layer.source.is_in(reference))
}
