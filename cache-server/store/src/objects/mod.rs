//! Blobs in an object store: S3 and its like.
//!
//! Objects are large, and asking whether one is there is slow. So an [index] says where blobs lie,
//! and the object store is only asked for bytes. Small blobs are gathered in *packs*, large ones
//! are objects of their own. A blob is written when its object is, and the index has it.
//!
//! | module | subject |
//! |---|---|
//! | [`address`] | `s3://bucket/prefix` and the options of a store |
//! | [`index`] | the trait of what knows where blobs lie |
//! | `memory_index` | it in memory, for tests |
//! | [`name`] | the names of objects |
//! | [`pack`] | the format of packs |
//! | [`bucket`] | an object store with what all calls have in common |
//! | `writer` | small blobs into packs, large ones in parts |
//! | `look` | whether objects are there, and not only in the index
//! | `read` | reading, and what becomes of blobs that are not where they should be |
//! | [`upkeep`] | eviction, and tidying up |
//! | [`reindex`] | the index from what lies in the store |
//!
//! Bytes are checked against their digest on the way in and on the way out. A blob that the index
//! has and the store has not, or has wrong, is forgotten by the index and [`FaultKind::NotFound`]:
//! whoever wants it makes it again. A store that is slow or away is [`FaultKind::Unavailable`].

pub mod address;
pub mod bucket;
mod fault;
pub mod index;
mod look;
#[cfg(any(test, feature = "conformance"))]
pub mod memory_index;
pub mod name;
pub mod pack;
mod read;
pub mod reindex;
#[cfg(test)]
mod tests;
pub mod upkeep;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ashlar_model::cas::CasDigest;
use ashlar_model::executor::BoxFuture;
use bytes::Bytes;

use crate::blob_store::{BlobStore, ByteRange, ByteStream, collect, is_empty_blob};
use crate::checked::check;
use crate::fault::Fault;
#[cfg(doc)]
use crate::fault::FaultKind;
use bucket::Bucket;
use index::{BlobIndex, Place};
use writer::Writer;

/// Blobs up to this length go into packs.
pub const SMALL: u64 = 1 << 20;

/// What an [`ObjectBlobs`] may hold in memory unless it is told otherwise.
pub const MEMORY: u64 = 256 << 20;

/// More objects than there are: an index that counts with signed numbers takes it.
const ALL: usize = u32::MAX as usize;

/// Blobs in an object store.
#[derive(Debug)]
pub struct ObjectBlobs {
    shared: Arc<Shared>,
    writer: Writer,
}

#[derive(Debug)]
struct Shared {
    bucket: Bucket,
    index: Arc<dyn BlobIndex>,
    /// Grows whenever a blob is found not to be there any more, or is evicted.
    removals: Arc<AtomicU64>,
    seen: look::Seen,
}

impl ObjectBlobs {
    /// Blobs of `bucket` that `index` knows. Writes hold up to `memory` bytes. Has to be called
    /// within a runtime.
    pub fn new(bucket: Bucket, index: Arc<dyn BlobIndex>, memory: u64) -> Self {
        let shared = Arc::new(Shared {
            bucket,
            index,
            removals: Arc::default(),
            seen: look::Seen::default(),
        });
        Self {
            writer: Writer::start(shared.clone(), memory),
            shared,
        }
    }

    /// The object store.
    pub fn bucket(&self) -> &Bucket {
        &self.shared.bucket
    }

    /// The index.
    pub fn index(&self) -> &Arc<dyn BlobIndex> {
        &self.shared.index
    }

    /// Grows whenever this server finds that a blob is not there any more, or evicts one.
    pub fn removals(&self) -> Arc<AtomicU64> {
        self.shared.removals.clone()
    }
}

impl Shared {
    /// Where blobs lie. Nothing lies anywhere for the empty blob.
    async fn find(&self, blobs: &[CasDigest]) -> Result<Vec<Option<Place>>, Fault> {
        if blobs.is_empty() {
            return Ok(Vec::new());
        }
        let places = self.index.find(blobs).await?;
        if places.len() == blobs.len() {
            return Ok(places);
        }
        Err(too_few())
    }

    /// Which blobs are in the index.
    async fn known(&self, blobs: &[CasDigest]) -> Result<Vec<bool>, Fault> {
        if blobs.is_empty() {
            return Ok(Vec::new());
        }
        let known = self.index.known(blobs).await?;
        if known.len() == blobs.len() {
            return Ok(known);
        }
        Err(too_few())
    }

    /// Lets the index forget blobs that are not in an object.
    async fn forget(&self, object: &str, blobs: &[CasDigest]) -> Result<(), Fault> {
        tracing::warn!(
            object,
            blobs = blobs.len(),
            "blobs are not where they should be"
        );
        self.bucket
            .counters()
            .packs
            .read_repairs
            .add(blobs.len() as u64);
        self.index.forget(object, blobs).await?;
        self.removals.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

fn too_few() -> Fault {
    let what = "the index of blobs gave too few answers";
    Fault::new(crate::fault::FaultKind::Internal, what)
}

impl BlobStore for ObjectBlobs {
    fn missing<'a>(
        &'a self,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        Box::pin(async move {
            let known = self.shared.known(blobs).await?;
            let missing = blobs
                .iter()
                .zip(known)
                .filter(|(blob, is_known)| !is_known && !is_empty_blob(blob));
            Ok(missing.map(|(blob, _)| *blob).collect())
        })
    }

    fn look<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        Box::pin(look::look(&self.shared, blobs))
    }

    fn read<'a>(
        &'a self,
        blob: &'a CasDigest,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<ByteStream, Fault>> {
        Box::pin(read::read(&self.shared, blob, range))
    }

    fn write<'a>(
        &'a self,
        blob: &'a CasDigest,
        bytes: ByteStream,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            if blob.size == 0 {
                return check(blob, &collect(bytes, 0).await?);
            }
            if self.shared.known(std::slice::from_ref(blob)).await? == [true] {
                return Ok(());
            }
            if blob.size > SMALL {
                return self.writer.write_alone(blob, bytes).await;
            }
            let bytes = collect(bytes, blob.size).await?;
            check(blob, &bytes)?;
            let mut written = self.writer.write_packed(vec![(*blob, bytes)]).await;
            written.pop().unwrap_or(Ok(()))
        })
    }

    fn read_many<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Vec<Result<Bytes, Fault>>> {
        Box::pin(read::read_many(&self.shared, blobs))
    }

    fn write_many<'a>(
        &'a self,
        blobs: Vec<(CasDigest, Bytes)>,
    ) -> BoxFuture<'a, Vec<Result<(), Fault>>> {
        Box::pin(self.writer.write_many(blobs))
    }
}
