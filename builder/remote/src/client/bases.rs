//! Layers of base images that no registry is known to have: of an OCI layout on this machine, of an
//! image that was built or loaded here. Their blobs are sent to the farm's CAS.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ashlar_engine::graph::{Graph, NodeId, NodeKind};
use ashlar_exec::layer::compress::default_level;
use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_model::digest::{BlobDigest, LayerId};
use ashlar_model::executor::{BlobForm, PackRequest, StepExecutor};
use ashlar_model::layer::{LayerOrigin, LayerRecord};
use ashlar_model::media_type::Compression;
use ashlar_store::blob_store::ByteStream;
use ashlar_store::fault::{Fault, FaultKind};
use ashlar_store::home::Home;
use bytes::Bytes;
use futures::stream;
use tokio::io::AsyncReadExt as _;
use tokio::sync::Mutex as AsyncMutex;

use super::{FarmClient, FarmError};
use crate::patience::patiently;

/// A file is sent in pieces of so many bytes.
const PIECE: usize = 1 << 20;

/// What has been sent of a build's base images.
pub(super) struct Bases {
    client: FarmClient,
    home: Home,
    /// Compresses layers that were never compressed.
    executor: Arc<dyn StepExecutor>,
    /// Layers that were looked at. Held while blobs are sent: who comes later waits.
    seen: AsyncMutex<HashSet<LayerId>>,
    sent: Mutex<HashMap<BlobDigest, CasDigest>>,
}

impl std::fmt::Debug for Bases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bases").finish_non_exhaustive()
    }
}

impl Bases {
    pub(super) fn new(client: FarmClient, home: Home, executor: Arc<dyn StepExecutor>) -> Self {
        Self {
            client,
            home,
            executor,
            seen: AsyncMutex::default(),
            sent: Mutex::default(),
        }
    }

    /// Sends what the farm lacks of the bases of a filesystem. A layer that cannot be had is left to
    /// whoever needs it.
    pub(super) async fn send_all(&self, graph: &Graph, tip: NodeId) -> Result<(), FarmError> {
        let mut seen = self.seen.lock().await;
        for layer in layers_of(graph, tip) {
            if seen.insert(layer)
                && let Err(error) = self.send_layer(&layer).await
            {
                // It is looked at again by who tries again.
                seen.remove(&layer);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes over what somebody else has sent.
    pub(super) fn know(&self, digest: BlobDigest, named: CasDigest) {
        self.sent().insert(digest, named);
    }

    /// Where the farm has a blob that was sent.
    pub(super) fn blob(&self, digest: &BlobDigest) -> Option<CasDigest> {
        self.sent().get(digest).copied()
    }

    async fn send_layer(&self, layer: &LayerId) -> Result<(), FarmError> {
        let record = self.record(layer)?;
        let Some(record) = record.filter(|record| !has_repository(record)) else {
            return Ok(());
        };
        let record = match record.blobs.first() {
            Some(blob) if self.home.blobs().has(&blob.descriptor) => record,
            // It comes from elsewhere in a form that is not here.
            Some(_) if matches!(record.origin, LayerOrigin::Image { .. }) => return Ok(()),
            _ => self.packed(layer).await?,
        };
        let Some(blob) = record.blobs.first() else {
            return Ok(());
        };
        let digest = blob.descriptor.digest;
        let path = self.home.blobs().path(&digest);
        let named = self.named(&digest, blob.descriptor.size, &path).await?;
        self.send_file(named, path).await?;
        self.sent().insert(digest, named);
        Ok(())
    }

    /// A layer that a step made, compressed.
    async fn packed(&self, layer: &LayerId) -> Result<LayerRecord, FarmError> {
        let form = BlobForm {
            compression: Compression::Gzip,
            level: default_level(Compression::Gzip),
        };
        let wanted = PackRequest {
            diff_id: true,
            blobs: vec![form],
        };
        let packed = self.executor.pack(*layer, Vec::new(), wanted).await;
        packed.map_err(|error| FarmError::Base(Box::new(error)))
    }

    /// How the farm names a blob: as it is named here, if the farm knows that function.
    async fn named(
        &self,
        digest: &BlobDigest,
        size: u64,
        path: &PathBuf,
    ) -> Result<CasDigest, FarmError> {
        let functions = &self.client.endpoint().capabilities().functions;
        if functions.contains(&DigestFunction::Sha256) {
            return Ok(CasDigest {
                function: DigestFunction::Sha256,
                hash: *digest.as_bytes(),
                size,
            });
        }
        let function = self.client.function();
        let mut hasher = function.hasher();
        let mut file = tokio::fs::File::open(path).await.map_err(unreadable)?;
        let mut buffer = vec![0; PIECE];
        loop {
            match file.read(&mut buffer).await.map_err(unreadable)? {
                0 => break,
                read => hasher.update(&buffer[..read]),
            }
        }
        Ok(CasDigest {
            function,
            hash: hasher.finish(),
            size,
        })
    }

    async fn send_file(&self, blob: CasDigest, path: PathBuf) -> Result<(), FarmError> {
        let store = self.client.store();
        let asked = [blob];
        let missing = patiently(|| store.missing(&asked)).await;
        if missing.map_err(FarmError::of_fault)?.is_empty() {
            return Ok(());
        }
        let write = || async {
            let file = tokio::fs::File::open(&path).await.map_err(of_io)?;
            store.write(&blob, pieces(file)).await
        };
        patiently(write).await.map_err(FarmError::of_fault)
    }

    fn record(&self, layer: &LayerId) -> Result<Option<LayerRecord>, FarmError> {
        let failed = |error| FarmError::Base(Box::new(error));
        self.home.layer(layer).map_err(failed)
    }

    fn sent(&self) -> MutexGuard<'_, HashMap<BlobDigest, CasDigest>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The layers of all bases that a filesystem comes from.
fn layers_of(graph: &Graph, tip: NodeId) -> Vec<LayerId> {
    let mut seen = vec![false; graph.len()];
    let mut pending = vec![tip];
    let mut layers = Vec::new();
    while let Some(id) = pending.pop() {
        if std::mem::replace(&mut seen[id.index()], true) {
            continue;
        }
        let node = graph.node(id);
        pending.extend(node.inputs());
        if let NodeKind::Base(base) = &node.kind {
            layers.extend(&base.layers);
        }
    }
    layers
}

const fn has_repository(record: &LayerRecord) -> bool {
    matches!(&record.origin, LayerOrigin::Image { repositories } if !repositories.is_empty())
}

fn pieces(file: tokio::fs::File) -> ByteStream {
    Box::pin(stream::try_unfold(file, |mut file| async move {
        let mut piece = vec![0; PIECE];
        let read = file.read(&mut piece).await.map_err(of_io)?;
        piece.truncate(read);
        Ok((read > 0).then(|| (Bytes::from(piece), file)))
    }))
}

fn of_io(error: std::io::Error) -> Fault {
    Fault::new(FaultKind::Internal, "cannot read a blob of the local store").caused_by(error)
}

fn unreadable(error: std::io::Error) -> FarmError {
    FarmError::of_fault(of_io(error))
}
