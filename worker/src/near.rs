//! Files of contexts that were here before: blobs of the farm's store, kept beside the stores of
//! namespaces. A COPY of which one file has changed fetches that one.
//!
//! Nothing depends on it. Where it cannot be opened, since another worker with the same root has it,
//! all is fetched anew.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ashlar_store::BlobStore;
use ashlar_store::clock;
use ashlar_store::disk::{DiskSettings, DiskStore};
use ashlar_store::fault::in_one_line;
use ashlar_store::tiered::{TieredBlobs, Writes};

use crate::homes;

/// What is kept for a namespace at most.
const LIMIT: u64 = 2 << 30;
/// Of what the namespace's store may take, no more than one part in so many.
const PART: u64 = 8;

/// The store of a namespace; `None` if it cannot be opened.
type Near = Option<Arc<dyn BlobStore>>;

/// Stores for all namespaces.
#[derive(Debug)]
pub struct NearStores {
    root: PathBuf,
    limit: u64,
    open: Mutex<BTreeMap<String, Near>>,
}

impl NearStores {
    /// Stores below `root`, beside such of namespaces that each may take so much.
    pub fn new(root: PathBuf, limit: Option<u64>) -> Self {
        Self {
            root,
            limit: limit.map_or(LIMIT, |limit| LIMIT.min(limit / PART)),
            open: Mutex::default(),
        }
    }

    /// A store with what is near in front of what is `far`. Blocks for moments.
    pub fn before(&self, namespace: &str, far: &Arc<dyn BlobStore>) -> Arc<dyn BlobStore> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let near = open
            .entry(namespace.to_owned())
            .or_insert_with(|| self.try_open(namespace));
        match near {
            Some(near) => Arc::new(TieredBlobs::new(
                Arc::clone(near),
                Arc::clone(far),
                Writes::Far,
            )),
            None => Arc::clone(far),
        }
    }

    fn try_open(&self, namespace: &str) -> Near {
        let path = self.root.join(homes::directory(namespace));
        let settings = DiskSettings::with_limit(self.limit);
        let opened = std::fs::create_dir_all(&path)
            .map_err(|error| error.to_string())
            .and_then(|()| {
                DiskStore::open(&path, settings, clock::system())
                    .map_err(|fault| in_one_line(&fault))
            });
        match opened {
            Ok(store) => Some(Arc::new(store)),
            Err(why) => {
                tracing::warn!(path = %path.display(), why, "files of contexts are not kept");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ashlar_model::cas::{CasDigest, DigestFunction};
    use ashlar_store::blob_store::{ByteRange, collect};
    use ashlar_store::memory::MemoryStore;
    use bytes::Bytes;

    use super::*;

    async fn read(store: &Arc<dyn BlobStore>, blob: &CasDigest) -> Option<Bytes> {
        let stream = store.read(blob, ByteRange::WHOLE).await.ok()?;
        collect(stream, blob.size).await.ok()
    }

    #[tokio::test]
    async fn what_was_read_once_is_near() {
        let directory = tempfile::tempdir().unwrap();
        let near = NearStores::new(directory.path().to_owned(), Some(64 << 20));
        let far: Arc<dyn BlobStore> = Arc::new(MemoryStore::new(1 << 20));
        let bytes = Bytes::from_static(b"files");
        let blob = CasDigest::of(DigestFunction::Blake3, &bytes);
        for written in far.write_many(vec![(blob, bytes.clone())]).await {
            written.unwrap();
        }
        assert_eq!(
            read(&near.before("a", &far), &blob).await,
            Some(bytes.clone())
        );
        let empty: Arc<dyn BlobStore> = Arc::new(MemoryStore::new(1 << 20));
        let again = async {
            while read(&near.before("a", &empty), &blob).await.is_none() {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        let limit = std::time::Duration::from_secs(10);
        tokio::time::timeout(limit, again).await.unwrap();
        assert_eq!(read(&near.before("b", &empty), &blob).await, None);

        let other = NearStores::new(directory.path().to_owned(), None);
        assert_eq!(read(&other.before("a", &far), &blob).await, Some(bytes));
    }
}
