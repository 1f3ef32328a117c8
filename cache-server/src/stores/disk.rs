//! A store on disk.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ashlar_model::cas::ActionKey;
use ashlar_model::executor::BoxFuture;
use ashlar_store::counters::Counters;
use ashlar_store::disk::DiskStore;
use ashlar_store::existence::Existence;
use ashlar_store::lease::counted::CountedLeases;
use ashlar_store::lease::local::LocalLeases;
use ashlar_store::lease::rules::first_number;
use ashlar_store::traced::traced;
use ashlar_store::{BlobStore, Fault, FaultKind};
use bytes::Bytes;
use tokio::time::Instant;

use super::{Engines, Item, Page, Upkeep, Usage};

/// Blobs that were found are not looked for again for so long, unless something is removed. Their use
/// is noted as seldom.
const FOUND_FOR: Duration = Duration::from_secs(10);

impl Engines {
    /// A store on disk.
    pub fn on_disk(store: &Arc<DiskStore>) -> Self {
        let counters = Arc::<Counters>::default();
        let leases = LocalLeases::new(first_number(store.epoch()), traced("disk", store));
        let blobs: Arc<dyn BlobStore> = traced("disk", store);
        let blobs = Existence::with_removals(blobs, FOUND_FOR, store.removals());
        Self {
            blobs: Arc::new(blobs),
            results: traced("disk", store),
            leases: Arc::new(CountedLeases::new(leases, counters.clone())),
            possession: store.clone(),
            upkeep: Arc::new(DiskUpkeep {
                store: store.clone(),
                probed: Mutex::new(None),
            }),
            removals: store.removals(),
            counters,
        }
    }
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

/// Results of one page of a walk have about so many bytes at most.
const PAGE_BYTES: usize = 8 << 20;

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

    fn walk<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, Fault>> {
        Box::pin(async move {
            let walked = self.store.walk(after, limit).await?;
            let mut page = Page {
                items: Vec::with_capacity(walked.results.len()),
                next: walked.next,
            };
            let mut bytes = 0;
            let mut results = walked.results.into_iter().peekable();
            while let Some((key, last_used)) = results.next() {
                // One that went meanwhile is left out.
                let Some(result) = self.store.peek(&key).await? else {
                    continue;
                };
                bytes += result.len();
                if bytes >= PAGE_BYTES && results.peek().is_some() {
                    page.next = Some(DiskStore::behind(&key));
                    results.by_ref().for_each(drop);
                }
                page.items.push(Item {
                    key,
                    last_used,
                    result,
                });
            }
            Ok(page)
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
