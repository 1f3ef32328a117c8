//! What the services serve from.
//!
//! | module | subject |
//! |---|---|
//! | [`view`] | what a request sees of it: the only way of services to blobs and results |
//! | [`disk`] | a store on disk |

pub mod disk;
pub mod view;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use ashlar_model::cas::ActionKey;
use ashlar_model::executor::BoxFuture;
use ashlar_store::completeness::{Completeness, LIFETIME};
use ashlar_store::{ActionCache, BlobStore, Fault, LeaseStore, Possession};
use bytes::Bytes;

use crate::namespaces::Namespaces;

/// What stores are made of.
#[derive(Debug, Clone)]
pub struct Engines {
    /// Blobs.
    pub blobs: Arc<dyn BlobStore>,
    /// Results.
    pub results: Arc<dyn ActionCache>,
    /// Leases, and storing what was made under them.
    pub leases: Arc<dyn LeaseStore>,
    /// Who has which blobs. Not asked where all who come in trust each other.
    pub possession: Arc<dyn Possession>,
    /// What only the server itself asks of its store.
    pub upkeep: Arc<dyn Upkeep>,
    /// Grows whenever a blob leaves the store, as far as this server learns of it.
    pub removals: Arc<AtomicU64>,
}

/// The stores of a server. What a request sees of them is a [`view::View`].
#[derive(Debug, Clone)]
pub struct Stores {
    engines: Engines,
    /// The results of those who see all blobs.
    results: Arc<Completeness>,
    /// How namespaces are set up; `None` where all who come in trust each other.
    namespaces: Option<Arc<ArcSwap<Namespaces>>>,
}

impl Stores {
    /// For clients that trust each other: whoever names a blob gets it.
    pub fn shared(engines: Engines) -> Self {
        let results = Completeness::new(engines.results.clone(), engines.blobs.clone(), LIFETIME);
        Self {
            results: Arc::new(results.with_removals(engines.removals.clone())),
            engines,
            namespaces: None,
        }
    }

    /// For clients that do not: each namespace sees the blobs whose bytes it has shown, and those of
    /// the namespaces that it reads through to.
    pub fn apart(engines: Engines, namespaces: Arc<ArcSwap<Namespaces>>) -> Self {
        Self {
            namespaces: Some(namespaces),
            ..Self::shared(engines)
        }
    }

    /// What only the server itself asks.
    pub fn upkeep(&self) -> &dyn Upkeep {
        &*self.engines.upkeep
    }

    /// How many leases are held, as far as that is known without asking others.
    pub fn leases_held(&self) -> Option<u64> {
        self.engines.leases.count()
    }
}

/// What only the server itself asks of its store.
pub trait Upkeep: Send + Sync + fmt::Debug {
    /// What the store holds.
    fn usage(&self) -> BoxFuture<'_, Result<Usage, Fault>>;

    /// Results of an instance, those used last first, behind the one that `after` names.
    fn list<'a>(
        &'a self,
        instance: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, Fault>>;

    /// Results of all instances in an order of the store's own, behind the place that `after`
    /// names; those that the server keeps for itself included. What is there from beginning to end
    /// is among them; what comes or goes meanwhile may be. A page may have fewer than `limit`, or
    /// none, and still not be the last. Does not count as use.
    fn walk<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, Fault>>;

    /// Keeps a result and all that it names until then.
    fn pin<'a>(&'a self, key: &'a ActionKey, until: SystemTime)
    -> BoxFuture<'a, Result<(), Fault>>;

    /// Ends that.
    fn unpin<'a>(&'a self, key: &'a ActionKey) -> BoxFuture<'a, Result<(), Fault>>;

    /// Fails unless the store can be read and written now.
    fn ready(&self) -> BoxFuture<'_, Result<(), Fault>>;
}

/// What a store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Blobs.
    pub blobs: u64,
    /// Their bytes, as they lie in the store.
    pub blob_bytes: u64,
    /// Results.
    pub results: u64,
    /// What it may hold; 0 for no limit.
    pub limit_bytes: u64,
    /// Blobs evicted since the start.
    pub evicted_blobs: u64,
}

/// Some results.
#[derive(Debug, Default)]
pub struct Page {
    /// The results.
    pub items: Vec<Item>,
    /// Where the next page starts; `None` after the last.
    pub next: Option<String>,
}

/// One result of a list.
#[derive(Debug)]
pub struct Item {
    /// Its name.
    pub key: ActionKey,
    /// When it was last used.
    pub last_used: SystemTime,
    /// The result, encoded.
    pub result: Bytes,
}
