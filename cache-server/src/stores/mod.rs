//! What the services serve from.
//!
//! | module | subject |
//! |---|---|
//! | [`view`] | what a request sees of it: the only way of services to blobs and results |
//! | [`oversight`] | what those see who look after all results |
//! | [`kind`] | what is kept under the digests of actions |
//! | [`disk`] | a store on disk |
//! | [`farm`] | Redis, an object store, and what is near |
//! | [`backing`] | which of the two the settings ask for |

pub mod backing;
pub mod disk;
pub mod farm;
pub mod kind;
pub mod oversight;
pub mod view;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use ashlar_model::cas::ActionKey;
use ashlar_model::executor::BoxFuture;
use ashlar_store::completeness::{Completeness, LIFETIME};
use ashlar_store::counters::Counters;
use ashlar_store::{ActionCache, BlobStore, Fault, FaultKind, LeaseStore, Possession};
use bytes::Bytes;

use crate::audit::Audit;
use crate::fair::Fair;
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
    /// What the stores count of themselves.
    pub counters: Arc<Counters>,
}

/// The stores of a server. What a request sees of them is a [`view::View`].
#[derive(Debug, Clone)]
pub struct Stores {
    engines: Engines,
    /// The results of those who see all blobs.
    results: Arc<Completeness>,
    /// How namespaces are set up; `None` where all who come in trust each other.
    namespaces: Option<Arc<ArcSwap<Namespaces>>>,
    fair: Arc<Fair>,
    audit: Audit,
}

/// What a holder of blobs holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderUsage {
    /// Its namespace.
    pub namespace: String,
    /// Bytes of its blobs.
    pub bytes: u64,
    /// What it may hold; 0 for no limit.
    pub limit_bytes: u64,
}

impl Stores {
    /// For clients that trust each other: whoever names a blob gets it.
    pub fn shared(engines: Engines) -> Self {
        let results = Completeness::new(engines.results.clone(), engines.blobs.clone(), LIFETIME);
        Self {
            results: Arc::new(results.with_removals(engines.removals.clone())),
            engines,
            namespaces: None,
            fair: Arc::default(),
            audit: Audit::none(),
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

    /// The same, with a place where it is noted who did what.
    #[must_use]
    pub fn with_audit(mut self, audit: Audit) -> Self {
        self.audit = audit;
        self
    }

    /// Those who hold the most, the largest first; none where all who come in trust each other.
    pub async fn largest_holders(&self, most: usize) -> Result<Vec<HolderUsage>, Fault> {
        let Some(namespaces) = &self.namespaces else {
            return Ok(Vec::new());
        };
        let largest = self.engines.possession.largest(most).await?;
        let namespaces = namespaces.load();
        let usage = largest.into_iter().map(|(namespace, bytes)| HolderUsage {
            limit_bytes: namespaces.place(&namespace).limits.held.unwrap_or(0),
            namespace,
            bytes,
        });
        Ok(usage.collect())
    }

    /// What only the server itself asks.
    pub fn upkeep(&self) -> &dyn Upkeep {
        &*self.engines.upkeep
    }

    /// Those who were not let store blobs for want of room, and how many blobs.
    pub fn refused_blobs(&self) -> Vec<(Arc<str>, u64)> {
        self.fair.refused_blobs()
    }

    /// What the stores count of themselves.
    pub fn counters(&self) -> Arc<Counters> {
        self.engines.counters.clone()
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

    /// How each of the stores is that this one is made of.
    fn states(&self) -> BoxFuture<'_, Vec<StoreState>> {
        Box::pin(async move { vec![StoreState::of("store", true, self.ready()).await] })
    }
}

/// So long a store may take to say that it is there.
const ANSWER: Duration = Duration::from_secs(5);

/// How a store is.
#[derive(Debug)]
pub struct StoreState {
    /// Its name, for people and metrics.
    pub name: &'static str,
    /// Whether nothing can be served without it.
    pub needed: bool,
    /// Why it cannot be used; `None` if it can.
    pub fault: Option<Fault>,
    /// What else is to be said of it.
    pub note: Option<String>,
}

impl StoreState {
    /// How a store is that is asked now.
    pub async fn of(
        name: &'static str,
        needed: bool,
        ready: impl Future<Output = Result<(), Fault>>,
    ) -> Self {
        let fault = match tokio::time::timeout(ANSWER, ready).await {
            Ok(ready) => ready.err(),
            Err(_) => Some(Fault::new(
                FaultKind::Unavailable,
                format!("{name} does not answer"),
            )),
        };
        Self {
            name,
            needed,
            fault,
            note: None,
        }
    }
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
