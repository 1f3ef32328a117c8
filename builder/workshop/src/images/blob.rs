//! Blobs of layers in the local store, as exporters and pushes read them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_exec::executor::LocalExecutor;
use ashlar_image::blob_source::{BlobReader, BlobSource, FileBlob, LayerBlob, PrepareError};
use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::BlobDigest;
use ashlar_model::executor::{BlobForm, BoxFuture, PackRequest, StepExecutor as _};
use ashlar_model::layer::{LayerOrigin, LayerRecord};
use ashlar_model::reference::Reference;
use ashlar_store::home::{Home, StoreError};

use super::Fetch;

/// A layer's blob. Before it is read it is hashed. One that is not here, or was damaged, is fetched
/// if it is of a base image, and made again if another machine made its layer.
#[derive(Debug)]
struct StoreBlob {
    home: Home,
    fetch: Fetch,
    executor: LocalExecutor,
    descriptor: Descriptor,
    layer: LayerRecord,
    path: PathBuf,
}

/// A blob that cannot be read, and that nobody else has.
#[derive(Debug, thiserror::Error)]
#[error("blob {0} was damaged or lost in the store: try again, and it is made anew")]
struct Lost(BlobDigest);

/// A layer's blob for exporters and pushes.
pub fn layer_blob(
    home: &Home,
    fetch: &Fetch,
    executor: &LocalExecutor,
    record: &LayerRecord,
    descriptor: Descriptor,
) -> LayerBlob {
    let mut repositories = match &record.origin {
        LayerOrigin::Image { repositories } => repositories.clone(),
        LayerOrigin::Step | LayerOrigin::Shared { .. } => Vec::new(),
    };
    repositories.extend(home.pushed_to(&descriptor.digest));
    let source = StoreBlob {
        home: home.clone(),
        fetch: fetch.clone(),
        executor: executor.clone(),
        descriptor: descriptor.clone(),
        layer: record.clone(),
        path: home.blobs().path(&descriptor.digest),
    };
    LayerBlob {
        descriptor,
        source: Arc::new(source),
        repositories,
    }
}

/// Hashes a blob beside the runtime. Whether it is there and whole; a damaged one is dropped.
pub async fn is_whole(home: &Home, blob: &Descriptor) -> Result<bool, StoreError> {
    if !home.blobs().has(blob) {
        return Ok(false);
    }
    let (store, digest) = (home.clone(), blob.digest);
    let verified = tokio::task::spawn_blocking(move || store.blobs().verify(&digest));
    // A task that is called off while the command ends has nobody who waits for it.
    verified.await.unwrap_or(Ok(false))
}

impl StoreBlob {
    /// Compresses the layer once more. The same program gives the same bytes; another version may
    /// not, and then the record of the layer has the new blob for the next attempt.
    async fn make_again(&self) -> Result<(), PrepareError> {
        let digest = self.descriptor.digest;
        let mut known = self.layer.blobs.iter();
        let form = known
            .find(|blob| blob.descriptor.digest == digest)
            .and_then(|blob| {
                Some(BlobForm {
                    compression: blob.compression,
                    level: blob.level?,
                })
            })
            .ok_or(Lost(digest))?;
        let wanted = PackRequest {
            diff_id: true,
            blobs: vec![form],
        };
        let packed = self.executor.pack(self.layer.id, Vec::new(), wanted);
        let packed = packed.await?;
        match packed.blob(form) {
            Some(made) if made.descriptor.digest == digest => Ok(()),
            _ => Err(Lost(digest).into()),
        }
    }
}

impl BlobSource for StoreBlob {
    fn prepare(&self) -> BoxFuture<'_, Result<(), PrepareError>> {
        Box::pin(async move {
            if is_whole(&self.home, &self.descriptor).await? {
                return Ok(());
            }
            match &self.layer.origin {
                LayerOrigin::Image { repositories } => {
                    Ok(self.fetch.blob(&self.descriptor, repositories).await?)
                }
                LayerOrigin::Shared { .. } => self.make_again().await,
                LayerOrigin::Step => Err(Lost(self.descriptor.digest).into()),
            }
        })
    }

    fn open(&self, offset: u64) -> io::Result<BlobReader> {
        FileBlob(self.path.clone()).open(offset)
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn is_in(&self, repository: &Reference) {
        // Only bytes are saved by it, and only perhaps.
        drop(self.home.note_pushed(&self.descriptor.digest, repository));
    }
}
