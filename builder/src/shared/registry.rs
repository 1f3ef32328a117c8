//! A portable cache in a registry: an artifact, whose blobs are those of any image.

use std::path::PathBuf;
use std::sync::Arc;

use ashlar_image::blob_source::{BlobReader, BlobSource};
use ashlar_image::registry::{RegistryClient, RegistryError};
use ashlar_model::descriptor::Descriptor;
use ashlar_model::executor::BoxFuture;
use ashlar_model::media_type::OCI_MANIFEST;
use ashlar_model::reference::Reference;
use ashlar_sharing::portable::Container;
use ashlar_store::fault::{Fault, FaultKind};
use ashlar_store::home::Home;
use bytes::{Buf as _, Bytes};

/// A name in a registry.
#[derive(Debug)]
pub(super) struct RegistryContainer {
    client: RegistryClient,
    reference: Reference,
    home: Home,
}

impl RegistryContainer {
    /// Blobs are fetched into the store.
    pub(super) const fn new(client: RegistryClient, reference: Reference, home: Home) -> Self {
        Self {
            client,
            reference,
            home,
        }
    }
}

/// Bytes to push.
#[derive(Debug)]
struct InMemory(Bytes);

impl BlobSource for InMemory {
    fn open(&self, offset: u64) -> std::io::Result<BlobReader> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.0.slice(offset.min(self.0.len())..);
        Ok(BlobReader::Stream(Box::new(rest.reader())))
    }
}

fn fault(error: RegistryError) -> Fault {
    let kind = match &error {
        RegistryError::NotFound { .. } => FaultKind::NotFound,
        RegistryError::Unauthorized { .. } | RegistryError::Denied { .. } => FaultKind::Denied,
        RegistryError::WrongDigest { .. } | RegistryError::Manifest { .. } => FaultKind::Invalid,
        _ => FaultKind::Unavailable,
    };
    Fault::new(kind, "the registry fails").caused_by(error)
}

impl Container for RegistryContainer {
    fn manifest(&self) -> BoxFuture<'_, Result<Option<Bytes>, Fault>> {
        Box::pin(async move {
            match self.client.fetch_manifest(&self.reference).await {
                Ok(fetched) => Ok(Some(fetched.bytes.into())),
                Err(RegistryError::NotFound { .. }) => Ok(None),
                Err(error) => Err(fault(error)),
            }
        })
    }

    fn blob<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<PathBuf, Fault>> {
        Box::pin(async move {
            let fetched = self
                .client
                .fetch_blob(&self.reference, blob, &self.home, None);
            fetched.await.map_err(fault)?;
            Ok(self.home.blobs().path(&blob.digest))
        })
    }

    fn put_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let source: Arc<dyn BlobSource> = Arc::new(InMemory(bytes));
            let pushed = self
                .client
                .push_blob(&self.reference, blob, &source, &[], None);
            pushed.await.map(drop).map_err(fault)
        })
    }

    fn put_manifest(&self, manifest: Bytes) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            let pushed =
                self.client
                    .push_manifest(&self.reference, OCI_MANIFEST, manifest.to_vec());
            pushed.await.map(drop).map_err(fault)
        })
    }
}
