//! A cache as this crate uses it: the two stores of REAPI and, where the server has it, what
//! `ashlar.cache.v1` adds.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_model::executor::BoxFuture;
use ashlar_store::fault::Fault;
use ashlar_store::{ActionCache, BlobStore};
use bytes::Bytes;
use futures::stream::BoxStream;

/// A cache that has answered.
#[derive(Debug, Clone)]
pub struct Service {
    /// The hash function that was agreed upon.
    pub function: DigestFunction,
    /// The blobs.
    pub blobs: Arc<dyn BlobStore>,
    /// The results.
    pub actions: Arc<dyn ActionCache>,
    /// What REAPI lacks, where the server has it.
    pub extension: Option<Arc<dyn Extension>>,
    /// What has to be done at the end, so that others find what was written.
    pub closing: Option<Arc<dyn Closing>>,
    /// Whether the server is told that it had lost something, so that it looks for what it says is
    /// there: see [`ashlar_store::doubted`].
    pub doubt: Arc<AtomicBool>,
}

/// The end of writing to a cache that keeps what is written to itself until then.
pub trait Closing: Send + Sync + fmt::Debug {
    /// Shows others what was written.
    fn close(&self) -> BoxFuture<'_, Result<(), Fault>>;
}

/// Connects to a cache.
pub trait Connect: Send + Sync + fmt::Debug {
    /// Connects, and agrees upon a hash function.
    fn connect(&self) -> BoxFuture<'_, Result<Service, Fault>>;
}

/// A lease that was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Proof of holding it.
    pub token: String,
    /// Grows with each grant of the key.
    pub fencing_number: u64,
    /// How long it is held without renewal.
    pub ttl: Duration,
}

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// As people read it.
    pub holder: String,
    /// Since when.
    pub held_for: Duration,
    /// When it ends without renewal.
    pub runs_out_in: Duration,
}

/// Who holds a lease, at each change.
pub type Changes = BoxStream<'static, Result<Option<Held>, Fault>>;

/// What came of asking for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquired {
    /// It is ours.
    Granted(Lease),
    /// Somebody else has it.
    Held(Held),
}

/// Under which lease something was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The lease's key.
    pub key: String,
    /// Its fencing number.
    pub number: u64,
}

/// What a cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Results.
    pub results: u64,
    /// The most bytes that it may hold; 0 for no limit.
    pub limit_bytes: u64,
    /// Bytes that are not evicted.
    pub pinned_bytes: u64,
    /// Blobs that were evicted.
    pub evicted_blobs: u64,
    /// Results that were found.
    pub hits: u64,
    /// Results that were not.
    pub misses: u64,
}

/// A result in a list.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The action.
    pub action: CasDigest,
    /// When it was last used, in seconds since 1970.
    pub last_used: Option<i64>,
    /// The encoded result.
    pub result: Bytes,
}

/// A part of a list.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The results.
    pub items: Vec<Listed>,
    /// Leads to the next page; empty on the last.
    pub next: String,
}

/// The latest contents of a cache mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSnapshot {
    /// The trees that list its chunks.
    pub trees: Vec<CasDigest>,
    /// Grows with each that is saved.
    pub generation: u64,
}

/// `ashlar.cache.v1`: what REAPI lacks for builds of images. Any part may be
/// [unsupported](ashlar_store::fault::FaultKind::Unsupported).
pub trait Extension: Send + Sync + fmt::Debug {
    /// The results of many actions, in the order asked for. Output files with one of the paths
    /// `inline` come with their contents where there is room.
    fn probe<'a>(
        &'a self,
        actions: &'a [CasDigest],
        inline: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, Fault>>;

    /// Stores a result unless there is one. Gives what is there then.
    fn commit<'a>(
        &'a self,
        action: &'a CasDigest,
        result: Bytes,
        fence: Option<&'a Fence>,
    ) -> BoxFuture<'a, Result<Bytes, Fault>>;

    /// Asks for a lease.
    fn acquire<'a>(
        &'a self,
        key: &'a str,
        holder: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Acquired, Fault>>;

    /// Holds a lease for longer. [Not found](ashlar_store::fault::FaultKind::NotFound) if it is
    /// lost.
    fn renew<'a>(&'a self, key: &'a str, token: &'a str) -> BoxFuture<'a, Result<Duration, Fault>>;

    /// Gives a lease back.
    fn release<'a>(&'a self, key: &'a str, token: &'a str) -> BoxFuture<'a, Result<(), Fault>>;

    /// Who holds a lease, at once and at each change; `None` and the end when nobody does.
    fn watch<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Changes, Fault>>;

    /// What the cache holds.
    fn usage(&self) -> BoxFuture<'_, Result<Usage, Fault>>;

    /// A page of the list of results, those used last first.
    fn list<'a>(&'a self, page: &'a str) -> BoxFuture<'a, Result<Page, Fault>>;

    /// The latest contents of a cache mount; `None` if there are none.
    fn latest_mount<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<MountSnapshot>, Fault>>;

    /// Saves contents of a cache mount, which began as generation `replaces`.
    fn save_mount<'a>(
        &'a self,
        name: &'a str,
        trees: &'a [CasDigest],
        replaces: u64,
    ) -> BoxFuture<'a, Result<MountSnapshot, Fault>>;
}
