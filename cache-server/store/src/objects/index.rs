//! Where blobs lie in an object store, and which objects were used when: the trait of what keeps
//! that.
//!
//! An index is a hint. Where it says that a blob is, the blob may be gone: whoever finds that out
//! tells the index to [forget](BlobIndex::forget) it. What the index does not know is not there,
//! whatever lies in the object store.

use std::fmt;
use std::time::SystemTime;

use ashlar_model::cas::CasDigest;
use ashlar_model::executor::BoxFuture;

use crate::fault::Fault;

/// Where a blob lies: so many bytes as the blob has, from `offset` of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The object's name, below the store's prefix.
    pub object: String,
    /// Bytes before the blob.
    pub offset: u64,
}

/// An object that the index knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedObject {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// When a blob in it was last used, to the minute or coarser.
    pub last_used: SystemTime,
}

/// What the index knows of, added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Blobs.
    pub blobs: u64,
    /// Objects.
    pub objects: u64,
    /// Bytes of the objects.
    pub bytes: u64,
}

/// Keeps where blobs lie.
///
/// Objects are the unit of eviction: first an object is [condemned](Self::condemn), after which no
/// blob is found in it, and after a time of grace, in which reads that began earlier end, it is
/// deleted from the store and [struck](Self::strike).
pub trait BlobIndex: Send + Sync + fmt::Debug {
    /// Where blobs lie, in the order asked for; `None` for those that are not known. Counts as a use
    /// of their objects.
    fn find<'a>(
        &'a self,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<Option<Place>>, Fault>>;

    /// Whether blobs are known, in the order asked for. Counts as a use of their objects.
    fn known<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Result<Vec<bool>, Fault>> {
        Box::pin(async move {
            let places = self.find(blobs).await?;
            Ok(places.iter().map(Option::is_some).collect())
        })
    }

    /// Notes an object of so many bytes, which is wholly in the store, and the blobs in it with their
    /// offsets. A blob that is known elsewhere moves here.
    fn add<'a>(
        &'a self,
        object: &'a str,
        bytes: u64,
        blobs: &'a [(CasDigest, u64)],
    ) -> BoxFuture<'a, Result<(), Fault>>;

    /// Forgets those of the blobs that lie in this object: it does not have them.
    fn forget<'a>(
        &'a self,
        object: &'a str,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<(), Fault>>;

    /// The objects that were used the longest ago, oldest first.
    fn oldest(&self, most: usize) -> BoxFuture<'_, Result<Vec<IndexedObject>, Fault>>;

    /// Those of the blobs that lie in this object.
    fn within<'a>(
        &'a self,
        object: &'a str,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>>;

    /// Forgets those of the blobs that lie in this object, takes it out of the order and the sums,
    /// and notes that it is to be deleted at `at`.
    fn condemn<'a>(
        &'a self,
        object: &'a str,
        blobs: &'a [CasDigest],
        at: SystemTime,
    ) -> BoxFuture<'a, Result<(), Fault>>;

    /// The condemned objects that are to be deleted by now.
    fn condemned(&self, now: SystemTime, most: usize) -> BoxFuture<'_, Result<Vec<String>, Fault>>;

    /// Forgets a condemned object: it is deleted.
    fn strike<'a>(&'a self, object: &'a str) -> BoxFuture<'a, Result<(), Fault>>;

    /// What there is.
    fn totals(&self) -> BoxFuture<'_, Result<Totals, Fault>>;
}
