//! Who has shown that it has the bytes of a blob.
//!
//! Where teams that do not trust each other share one store of blobs, knowing a digest must not be
//! enough to read the blob, nor to learn that it is there. So each namespace *holds* the blobs whose
//! bytes it has sent, whole and verified, even if the store had them already. A caller sees the
//! blobs that its namespace holds, and those of the namespaces that it may read through to.
//!
//! A namespace is the instance name of requests: `org/repo/pr/17`.

use std::fmt;

use ashlar_model::cas::CasDigest;
use ashlar_model::executor::BoxFuture;

use crate::fault::Fault;

/// A namespace, and the bytes that it holds.
pub type Holding = (String, u64);

/// Notes which namespace holds which blobs.
pub trait Possession: Send + Sync + fmt::Debug {
    /// Whether at least one of `namespaces` holds each blob, in the order asked for. The empty blob
    /// is everybody's.
    fn held<'a>(
        &'a self,
        namespaces: &'a [String],
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<bool>, Fault>>;

    /// Notes that a namespace has shown the bytes of these blobs, which are in the store. Noting
    /// again is no error, and counts no bytes twice.
    fn note<'a>(
        &'a self,
        namespace: &'a str,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<(), Fault>>;

    /// Bytes of the blobs that a namespace holds. May be behind for some time after an eviction.
    fn bytes<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Result<u64, Fault>>;

    /// The namespaces that hold anything, with their bytes: for metrics. At most `most`, the largest
    /// first.
    fn largest(&self, most: usize) -> BoxFuture<'_, Result<Vec<Holding>, Fault>>;

    /// Whether a blob that is held is certainly in the store as well, so that nobody needs to ask
    /// both: what is gone is held by nobody, and asking who holds a blob counts as its use.
    fn implies_presence(&self) -> bool;
}
