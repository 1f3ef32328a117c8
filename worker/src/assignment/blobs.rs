//! Blobs of base images that no registry has: the client has put them into the farm's store.

use std::collections::HashMap;
use std::sync::Arc;

use ashlar_exec::executor::{BlobFetcher, store_failed};
use ashlar_model::cas::CasDigest;
use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::BlobDigest;
use ashlar_model::executor::{BoxFuture, StepError};
use ashlar_model::reference::Reference;
use ashlar_store::BlobStore;
use ashlar_store::blob_store::ByteRange;
use ashlar_store::fault::Fault;
use ashlar_store::home::blobs::PartialBlob;
use ashlar_store::home::{Home, StoreError};
use ashlar_workshop::images::nowhere;
use bytes::Bytes;
use futures::TryStreamExt as _;
use tokio::sync::mpsc;

/// Pieces that wait to be written.
const PIECES: usize = 16;

/// Brings them into the store of a namespace.
#[derive(Debug)]
pub struct FarmBlobs {
    home: Home,
    store: Arc<dyn BlobStore>,
    blobs: HashMap<BlobDigest, CasDigest>,
}

impl FarmBlobs {
    /// Those that an order names.
    pub const fn new(
        home: Home,
        store: Arc<dyn BlobStore>,
        blobs: HashMap<BlobDigest, CasDigest>,
    ) -> Self {
        Self { home, store, blobs }
    }

    async fn bring(&self, blob: &Descriptor) -> Result<(), StepError> {
        if self.home.blobs().has(blob) {
            return Ok(());
        }
        let Some(source) = self.blobs.get(&blob.digest) else {
            return Err(nowhere(blob));
        };
        let (home, digest, size) = (self.home.clone(), blob.digest, blob.size);
        let partial = blocking(move || {
            let mut partial = home.blobs().partial(&digest)?;
            if partial.len() > size {
                partial.restart()?;
            }
            Ok(partial)
        });
        let partial = partial.await?;
        if partial.is_done_already() {
            return Ok(());
        }
        let unreachable = |fault: Fault| StepError::Environment {
            message: format!("the layer {digest} of a base image cannot be had from the farm"),
            hint: Some("build again: what the farm has lost is sent again".to_owned()),
            source: Some(Box::new(fault)),
        };
        let range = ByteRange {
            offset: partial.len(),
            limit: None,
        };
        let mut bytes = self.store.read(source, range).await.map_err(unreachable)?;
        let (pieces, waiting) = mpsc::channel::<Bytes>(PIECES);
        let writing = blocking(move || write(partial, waiting, size));
        let reading = async move {
            while let Some(piece) = bytes.try_next().await.map_err(unreachable)? {
                if pieces.send(piece).await.is_err() {
                    // The writer says why.
                    break;
                }
            }
            Ok(())
        };
        let (read, written) = futures::join!(reading, writing);
        read.and(written)
    }
}

/// Writes what comes, to its end. A blob that is not whole is kept for the next attempt.
fn write(
    mut partial: PartialBlob,
    mut pieces: mpsc::Receiver<Bytes>,
    size: u64,
) -> Result<(), StoreError> {
    while let Some(piece) = pieces.blocking_recv() {
        partial.append(&piece)?;
    }
    if partial.len() < size {
        return Ok(());
    }
    partial.commit(Some(size)).map(drop)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StepError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(store_failed),
        Err(_) => Err(StepError::Cancelled),
    }
}

impl BlobFetcher for FarmBlobs {
    fn fetch<'a>(
        &'a self,
        blob: &'a Descriptor,
        _repositories: &'a [Reference],
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(self.bring(blob))
    }
}

#[cfg(test)]
mod tests {
    use ashlar_model::cas::DigestFunction;
    use ashlar_model::media_type::OCI_LAYER_TAR;
    use ashlar_store::memory::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn a_blob_of_the_farm_is_brought_and_checked() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let store: Arc<dyn BlobStore> = Arc::new(MemoryStore::new(64 << 20));
        let bytes = Bytes::from(vec![7; 3 << 20]);
        let cas = CasDigest::of(DigestFunction::Sha256, &bytes);
        let wrong = CasDigest::of(DigestFunction::Sha256, b"other");
        for written in store
            .write_many(vec![
                (cas, bytes.clone()),
                (wrong, Bytes::from_static(b"other")),
            ])
            .await
        {
            written.unwrap();
        }
        let digest = BlobDigest::of(&bytes);
        let blob = Descriptor::new(OCI_LAYER_TAR, digest, bytes.len() as u64);
        let lie = Descriptor::new(OCI_LAYER_TAR, BlobDigest::of(b"truth"), 5);
        let blobs = [(digest, cas), (lie.digest, wrong)].into();
        let farm = FarmBlobs::new(home.clone(), store, blobs);
        farm.fetch(&blob, &[]).await.unwrap();
        assert!(home.blobs().verify(&digest).unwrap());
        farm.fetch(&blob, &[]).await.unwrap();
        farm.fetch(&lie, &[]).await.unwrap_err();
        assert!(!home.blobs().has(&lie));
        let unknown = Descriptor::new(OCI_LAYER_TAR, BlobDigest::of(b"unknown"), 7);
        farm.fetch(&unknown, &[]).await.unwrap_err();
    }
}
