//! Remembers for a short time which blobs are there.
//!
//! In front of a store that is far away: blobs that were found, or written, are not asked for again
//! for some seconds. Only presence is remembered; what is missing is asked for each time, for
//! somebody may be writing it. A read that does not find a blob, or finds it wrong, ends that at
//! once.
//!
//! What is remembered may be out of date: a store that evicts must keep what it said was there for
//! longer than the lifetime. With one that tells of removals ([`Existence::with_removals`]), all is
//! forgotten at each, and no answer is ever out of date: that is for questions about thousands of
//! blobs, which builds ask again and again, and each of which takes some steps down an index.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ashlar_model::cas::CasDigest;
use ashlar_model::executor::BoxFuture;
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::time::Instant;

use crate::blob_store::{BlobStore, ByteRange, ByteStream};
use crate::fault::{Fault, FaultKind};

/// So many blobs are remembered: some ten megabytes.
const MOST: usize = 100_000;

/// A store whose presence is remembered.
#[derive(Debug)]
pub struct Existence {
    inner: Arc<dyn BlobStore>,
    known: Arc<Known>,
}

#[derive(Debug)]
struct Known {
    lifetime: Duration,
    removals: Arc<AtomicU64>,
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    /// The number of removals when these were found.
    removals: u64,
    blobs: HashMap<CasDigest, Instant>,
}

impl Known {
    /// What is known, after so many removals as there were by now.
    fn with<T>(&self, body: impl FnOnce(&mut HashMap<CasDigest, Instant>, u64) -> T) -> T {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let removals = self.removals.load(Ordering::Acquire);
        if found.removals != removals {
            found.blobs.clear();
            found.removals = removals;
        }
        body(&mut found.blobs, removals)
    }

    /// Blobs that were found after so many removals.
    fn add(&self, removals: u64, blobs: impl Iterator<Item = CasDigest>) {
        let now = Instant::now();
        self.with(|known, by_now| {
            if by_now != removals {
                return;
            }
            for blob in blobs {
                if known.len() >= MOST {
                    known.retain(|_, found| found.elapsed() < self.lifetime);
                    if known.len() >= MOST {
                        return;
                    }
                }
                known.insert(blob, now);
            }
        });
    }

    /// Those of some blobs that are not known, and how many removals there were.
    fn unknown(&self, blobs: &[CasDigest]) -> (Vec<CasDigest>, u64) {
        let now = Instant::now();
        self.with(|known, removals| {
            let is_known = |blob: &CasDigest| {
                let found = known.get(blob);
                found.is_some_and(|found| now.duration_since(*found) < self.lifetime)
            };
            let unknown = blobs.iter().filter(|blob| !is_known(blob));
            (unknown.copied().collect(), removals)
        })
    }

    fn forget(&self, blobs: &[CasDigest]) {
        self.with(|known, _| {
            for blob in blobs {
                known.remove(blob);
            }
        });
    }

    /// Forgets a blob if a fault says that it is not there.
    fn hear(&self, blob: &CasDigest, fault: &Fault) {
        if matches!(fault.kind, FaultKind::NotFound | FaultKind::Invalid) {
            self.forget(&[*blob]);
        }
    }
}

impl Existence {
    /// Remembers for `lifetime` what `inner` has.
    pub fn new(inner: Arc<dyn BlobStore>, lifetime: Duration) -> Self {
        Self::with_removals(inner, lifetime, Arc::default())
    }

    /// The same; `removals` grows whenever a blob leaves the store.
    pub fn with_removals(
        inner: Arc<dyn BlobStore>,
        lifetime: Duration,
        removals: Arc<AtomicU64>,
    ) -> Self {
        let known = Known {
            lifetime,
            removals,
            found: Mutex::default(),
        };
        Self {
            inner,
            known: Arc::new(known),
        }
    }
}

impl BlobStore for Existence {
    fn missing<'a>(
        &'a self,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        Box::pin(async move {
            let (unknown, removals) = self.known.unknown(blobs);
            if unknown.is_empty() {
                return Ok(Vec::new());
            }
            let missing: HashSet<_> = self.inner.missing(&unknown).await?.into_iter().collect();
            let found = unknown.iter().filter(|blob| !missing.contains(blob));
            self.known.add(removals, found.copied());
            Ok(blobs
                .iter()
                .filter(|blob| missing.contains(blob))
                .copied()
                .collect())
        })
    }

    fn look<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        Box::pin(async move {
            let missing = self.inner.look(blobs).await?;
            self.known.forget(&missing);
            Ok(missing)
        })
    }

    fn read<'a>(
        &'a self,
        blob: &'a CasDigest,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<ByteStream, Fault>> {
        Box::pin(async move {
            let bytes = match self.inner.read(blob, range).await {
                Ok(bytes) => bytes,
                Err(fault) => {
                    self.known.hear(blob, &fault);
                    return Err(fault);
                }
            };
            let (known, blob) = (Arc::clone(&self.known), *blob);
            let heard: ByteStream = Box::pin(bytes.inspect(move |piece| {
                if let Err(fault) = piece {
                    known.hear(&blob, fault);
                }
            }));
            Ok(heard)
        })
    }

    fn write<'a>(
        &'a self,
        blob: &'a CasDigest,
        bytes: ByteStream,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let removals = self.known.with(|_, removals| removals);
            self.inner.write(blob, bytes).await?;
            self.known.add(removals, std::iter::once(*blob));
            Ok(())
        })
    }

    fn read_many<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Vec<Result<Bytes, Fault>>> {
        Box::pin(async move {
            let read = self.inner.read_many(blobs).await;
            for (blob, bytes) in blobs.iter().zip(&read) {
                if let Err(fault) = bytes {
                    self.known.hear(blob, fault);
                }
            }
            read
        })
    }

    fn write_many<'a>(
        &'a self,
        blobs: Vec<(CasDigest, Bytes)>,
    ) -> BoxFuture<'a, Vec<Result<(), Fault>>> {
        Box::pin(async move {
            let digests: Vec<_> = blobs.iter().map(|(blob, _)| *blob).collect();
            let removals = self.known.with(|_, removals| removals);
            let written = self.inner.write_many(blobs).await;
            let stored = digests.iter().zip(&written);
            let stored = stored.filter(|(_, written)| written.is_ok());
            self.known.add(removals, stored.map(|(blob, _)| *blob));
            written
        })
    }
}

#[cfg(test)]
mod tests {
    use ashlar_model::cas::DigestFunction;

    use super::*;
    use crate::blob_store::once;
    use crate::conformance;
    use crate::memory::MemoryStore;

    const LIFETIME: Duration = Duration::from_secs(600);

    fn fresh() -> ((), Arc<Existence>) {
        let memory = Arc::new(MemoryStore::new(1 << 30));
        ((), Arc::new(Existence::new(memory, LIFETIME)))
    }

    conformance::blob_store_tests!(blobs, std::future::ready(fresh()));

    fn blob(text: &'static str) -> (CasDigest, Bytes) {
        let bytes = Bytes::from_static(text.as_bytes());
        (CasDigest::of(DigestFunction::Blake3, &bytes), bytes)
    }

    /// A store that has forgotten the first of two blobs, which it had when it was asked.
    async fn forgetful(lifetime: Duration) -> (Existence, CasDigest) {
        // Room for one entry.
        let memory = Arc::new(MemoryStore::new(200));
        let store = Existence::new(memory.clone(), lifetime);
        let (first, bytes) = blob("first");
        store.write(&first, once(bytes)).await.unwrap();
        let (second, bytes) = blob("second");
        memory.write(&second, once(bytes)).await.unwrap();
        assert_eq!(memory.missing(&[first]).await.unwrap(), [first]);
        (store, first)
    }

    #[tokio::test]
    async fn what_was_found_is_not_asked_for_again_until_its_time_is_over() {
        let (store, first) = forgetful(LIFETIME).await;
        assert_eq!(store.missing(&[first]).await.unwrap(), []);
        let (store, first) = forgetful(Duration::from_millis(1)).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(store.missing(&[first]).await.unwrap(), [first]);
    }

    #[tokio::test]
    async fn a_read_that_finds_nothing_ends_it_at_once() {
        let (store, first) = forgetful(LIFETIME).await;
        let fault = store.read(&first, ByteRange::WHOLE).await.err().unwrap();
        assert_eq!(fault.kind, FaultKind::NotFound);
        assert_eq!(store.missing(&[first]).await.unwrap(), [first]);
        let (store, first) = forgetful(LIFETIME).await;
        drop(store.read_many(&[first]).await);
        assert_eq!(store.missing(&[first]).await.unwrap(), [first]);
    }

    #[tokio::test]
    async fn a_removal_ends_it_for_all() {
        let memory = Arc::new(MemoryStore::new(200));
        let removals = Arc::new(AtomicU64::new(0));
        let store = Existence::with_removals(memory.clone(), LIFETIME, removals.clone());
        let (first, bytes) = blob("first");
        store.write(&first, once(bytes)).await.unwrap();
        let (second, bytes) = blob("second");
        memory.write(&second, once(bytes)).await.unwrap();
        assert_eq!(store.missing(&[first]).await.unwrap(), []);
        removals.fetch_add(1, Ordering::Release);
        assert_eq!(store.missing(&[first]).await.unwrap(), [first]);
        // What was found before a removal is not noted after it.
        let (_, before) = store.known.unknown(&[]);
        removals.fetch_add(1, Ordering::Release);
        store.known.add(before, std::iter::once(first));
        assert_eq!(store.missing(&[first]).await.unwrap(), [first]);
    }
}
