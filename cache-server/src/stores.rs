//! What the services serve from.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ashlar_model::cas::ActionKey;
use ashlar_model::executor::BoxFuture;
use ashlar_store::completeness::{Completeness, LIFETIME};
use ashlar_store::disk::DiskStore;
use ashlar_store::lease::local::LocalLeases;
use ashlar_store::lease::rules::first_number;
use ashlar_store::{BlobStore, Fault, FaultKind, LeaseStore, Possession};
use bytes::Bytes;
use tokio::time::Instant;

/// The stores of a server.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Blobs.
    pub blobs: Arc<dyn BlobStore>,
    /// Results, of which none with a missing blob is given out.
    pub results: Arc<Completeness>,
    /// Leases, and storing what was made under them.
    pub leases: Arc<dyn LeaseStore>,
    /// Who has which blobs; `None` where all who come in trust each other.
    pub possession: Option<Arc<dyn Possession>>,
    /// What only the server itself asks of its store.
    pub upkeep: Arc<dyn Upkeep>,
}

impl Stores {
    /// A store on disk.
    pub fn on_disk(store: &Arc<DiskStore>) -> Self {
        let results = Completeness::new(store.clone(), store.clone(), LIFETIME);
        Self {
            blobs: store.clone(),
            results: Arc::new(results.with_removals(store.removals())),
            leases: Arc::new(LocalLeases::new(first_number(store.epoch()), store.clone())),
            possession: None,
            upkeep: Arc::new(DiskUpkeep {
                store: store.clone(),
                probed: Mutex::new(None),
            }),
        }
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

/// The upkeep of a store on disk.
#[derive(Debug)]
struct DiskUpkeep {
    store: Arc<DiskStore>,
    /// When the store was last found to take writes.
    probed: Mutex<Option<Instant>>,
}

/// A store that took a write so lately is not made to write again for it.
const PROBED_FOR: Duration = Duration::from_secs(10);

/// The name under which the store is made to write.
const PROBE: &str = "readiness";

impl Upkeep for DiskUpkeep {
    fn usage(&self) -> BoxFuture<'_, Result<Usage, Fault>> {
        Box::pin(async move {
            let usage = self.store.usage();
            Ok(Usage {
                blobs: usage.blobs,
                blob_bytes: usage.blob_bytes,
                results: usage.results,
                limit_bytes: usage.limit_bytes,
                evicted_blobs: usage.evicted,
            })
        })
    }

    fn list<'a>(
        &'a self,
        instance: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, Fault>> {
        Box::pin(async move {
            // The order changes while a client pages; an offset is as good as any token then.
            let start: usize = match after {
                Some(token) => token
                    .parse()
                    .map_err(|_| Fault::invalid("the page token is none of this server's"))?,
                None => 0,
            };
            let all = self.store.results(instance).await?;
            let end = start.saturating_add(limit).min(all.len());
            let page = all.get(start..end).unwrap_or_default();
            let mut items = Vec::with_capacity(page.len());
            for (key, last_used) in page {
                // One that went meanwhile is left out.
                if let Some(result) = self.store.peek(key).await? {
                    items.push(Item {
                        key: key.clone(),
                        last_used: *last_used,
                        result,
                    });
                }
            }
            Ok(Page {
                items,
                next: (end < all.len()).then(|| end.to_string()),
            })
        })
    }

    fn pin<'a>(
        &'a self,
        key: &'a ActionKey,
        until: SystemTime,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            if self.store.pin(key, until).await? {
                Ok(())
            } else {
                Err(Fault::not_found("the result to pin"))
            }
        })
    }

    fn unpin<'a>(&'a self, key: &'a ActionKey) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move { self.store.unpin(key).await.map(drop) })
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            let last = *self.probed.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|last| last.elapsed() < PROBED_FOR) {
                return Ok(());
            }
            let now = self.store.named(PROBE).await?;
            let generation = now.map_or(0, |named| named.generation);
            let value = Bytes::from_static(b"ok");
            match self.store.set_named(PROBE, value, generation).await {
                // Somebody else's probe came first, or there is no room: the store answers.
                Ok(_) => {}
                Err(fault) if fault.kind == FaultKind::Exhausted => {}
                Err(fault) => return Err(fault),
            }
            *self.probed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            Ok(())
        })
    }
}
