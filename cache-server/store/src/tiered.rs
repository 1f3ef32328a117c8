//! A near store in front of a far one.
//!
//! The far store is the one that counts: what it has is there, and a write has succeeded when it
//! has succeeded there. The near one makes reads fast. It is filled by what is read whole, and by
//! writes if so set; what goes wrong with it, goes unnoticed but for the time it takes.
//!
//! Results that are in the near store are taken from there: they are as old as they are.

use std::sync::Arc;

use ashlar_model::cas::{ActionKey, CasDigest};
use ashlar_model::executor::BoxFuture;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tokio::sync::mpsc;

use crate::action_cache::{ActionCache, PutMode};
use crate::blob_store::{BlobStore, ByteRange, ByteStream, bounds};
use crate::counters::Counters;
use crate::fault::{Fault, in_one_line};
use crate::task::{Task, spawn};

/// Where writes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Writes {
    /// To both stores.
    #[default]
    Both,
    /// To the far store alone.
    Far,
}

/// Blobs of two stores.
#[derive(Debug)]
pub struct TieredBlobs {
    near: Arc<dyn BlobStore>,
    far: Arc<dyn BlobStore>,
    writes: Writes,
    counters: Option<Arc<Counters>>,
}

impl TieredBlobs {
    /// `near` in front of `far`.
    pub const fn new(near: Arc<dyn BlobStore>, far: Arc<dyn BlobStore>, writes: Writes) -> Self {
        Self {
            near,
            far,
            writes,
            counters: None,
        }
    }

    /// Counts what is read near and far away.
    #[must_use]
    pub fn counted(mut self, counters: Arc<Counters>) -> Self {
        self.counters = Some(counters);
        self
    }

    /// Notes that so many bytes of a blob are read, near or not.
    fn count(&self, is_near: bool, bytes: u64) {
        let Some(counters) = &self.counters else {
            return;
        };
        let near = &counters.near;
        let (blobs, sum) = if is_near {
            (&near.hits, &near.hit_bytes)
        } else {
            (&near.misses, &near.miss_bytes)
        };
        blobs.one();
        sum.add(bytes);
    }

    /// The same bytes, which go into the near store as well as they pass.
    fn copied(&self, blob: &CasDigest, bytes: ByteStream) -> ByteStream {
        let (near, digest) = (Arc::clone(&self.near), *blob);
        let (pieces, mut queue) = mpsc::channel(4);
        let copying = spawn(async move {
            let pieces = stream::poll_fn(move |context| queue.poll_recv(context));
            if let Err(fault) = near.write(&digest, Box::pin(pieces)).await {
                tracing::debug!(error = in_one_line(&fault), "the near store took no copy");
            }
        });
        let copy = Copy {
            bytes,
            left: blob.size,
            pieces: Some(pieces),
            copying: Some(copying),
        };
        Box::pin(stream::unfold(copy, |mut copy| async move {
            let piece = copy.next().await?;
            Some((piece, copy))
        }))
    }

    /// Puts blobs into the near store, if it takes them.
    async fn keep_near(&self, blobs: Vec<(CasDigest, Bytes)>) {
        for fault in self
            .near
            .write_many(blobs)
            .await
            .into_iter()
            .filter_map(Result::err)
        {
            tracing::debug!(error = in_one_line(&fault), "the near store took no copy");
        }
    }
}

/// A stream that is copied.
struct Copy {
    bytes: ByteStream,
    /// How many bytes are still to come.
    left: u64,
    /// `None` once the copy has all, or does not want more.
    pieces: Option<mpsc::Sender<Result<Bytes, Fault>>>,
    /// Dropped with the stream, it is called off.
    copying: Option<Task<()>>,
}

impl Copy {
    async fn next(&mut self) -> Option<Result<Bytes, Fault>> {
        let piece = match self.bytes.next().await {
            Some(Ok(piece)) => piece,
            Some(Err(fault)) => {
                if let Some(pieces) = self.pieces.take() {
                    // The copy must not take what came so far for all there is.
                    let broken = Fault::new(fault.kind, "the far store's stream broke");
                    let _not_heard = pieces.send(Err(broken)).await;
                }
                return Some(Err(fault));
            }
            None => {
                self.finish().await;
                return None;
            }
        };
        if let Some(pieces) = &self.pieces
            && pieces.send(Ok(piece.clone())).await.is_err()
        {
            self.pieces = None;
        }
        self.left = self.left.saturating_sub(piece.len() as u64);
        if self.left == 0 {
            // Whoever has all bytes need not ask for the end.
            self.finish().await;
        }
        Some(Ok(piece))
    }

    /// Lets the copy come to its end.
    async fn finish(&mut self) {
        self.pieces = None;
        if let Some(copying) = self.copying.take() {
            // A copy that panicked is as good as one that failed.
            let _ended = copying.await;
        }
    }
}

impl BlobStore for TieredBlobs {
    fn missing<'a>(
        &'a self,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        self.far.missing(blobs)
    }

    fn look<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        self.far.look(blobs)
    }

    fn read<'a>(
        &'a self,
        blob: &'a CasDigest,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<ByteStream, Fault>> {
        Box::pin(async move {
            let (start, end) = bounds(blob, range)?;
            // Whatever is wrong with the near store: the far one counts.
            if let Ok(bytes) = self.near.read(blob, range).await {
                self.count(true, end - start);
                return Ok(bytes);
            }
            let bytes = self.far.read(blob, range).await?;
            self.count(false, end - start);
            let is_whole = range.offset == 0 && range.limit.is_none_or(|limit| limit >= blob.size);
            Ok(if is_whole && blob.size > 0 {
                self.copied(blob, bytes)
            } else {
                bytes
            })
        })
    }

    fn write<'a>(
        &'a self,
        blob: &'a CasDigest,
        bytes: ByteStream,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let bytes = match self.writes {
                Writes::Both if blob.size > 0 => self.copied(blob, bytes),
                _ => bytes,
            };
            self.far.write(blob, bytes).await
        })
    }

    fn read_many<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Vec<Result<Bytes, Fault>>> {
        Box::pin(async move {
            let mut answers = self.near.read_many(blobs).await;
            let absent: Vec<_> = answers
                .iter()
                .zip(blobs)
                .filter(|(answer, _)| answer.is_err())
                .map(|(_, blob)| *blob)
                .collect();
            for bytes in answers.iter().flatten() {
                self.count(true, bytes.len() as u64);
            }
            if absent.is_empty() {
                return answers;
            }
            let mut far = self.far.read_many(&absent).await.into_iter();
            let mut copies = Vec::new();
            for (answer, blob) in answers.iter_mut().zip(blobs) {
                if answer.is_err()
                    && let Some(bytes) = far.next()
                {
                    if let Ok(bytes) = &bytes {
                        self.count(false, bytes.len() as u64);
                        copies.push((*blob, bytes.clone()));
                    }
                    *answer = bytes;
                }
            }
            self.keep_near(copies).await;
            answers
        })
    }

    fn write_many<'a>(
        &'a self,
        blobs: Vec<(CasDigest, Bytes)>,
    ) -> BoxFuture<'a, Vec<Result<(), Fault>>> {
        Box::pin(async move {
            let copies = match self.writes {
                Writes::Both => blobs.clone(),
                Writes::Far => Vec::new(),
            };
            let written = self.far.write_many(blobs).await;
            let kept = copies.into_iter().zip(&written);
            let kept = kept.filter(|(_, written)| written.is_ok());
            self.keep_near(kept.map(|(copy, _)| copy).collect()).await;
            written
        })
    }
}

/// Results of two stores.
#[derive(Debug)]
pub struct TieredResults {
    near: Arc<dyn ActionCache>,
    far: Arc<dyn ActionCache>,
}

impl TieredResults {
    /// `near` in front of `far`.
    pub const fn new(near: Arc<dyn ActionCache>, far: Arc<dyn ActionCache>) -> Self {
        Self { near, far }
    }

    async fn keep_near(&self, key: &ActionKey, result: Bytes) {
        if let Err(fault) = self.near.put(key, result, PutMode::Replace).await {
            tracing::debug!(error = in_one_line(&fault), "the near store took no copy");
        }
    }
}

impl ActionCache for TieredResults {
    fn get<'a>(
        &'a self,
        keys: &'a [ActionKey],
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, Fault>> {
        Box::pin(async move {
            let nothing = || vec![None; keys.len()];
            let mut results = self.near.get(keys).await.unwrap_or_else(|_| nothing());
            let absent: Vec<_> = keys
                .iter()
                .zip(&results)
                .filter(|(_, result)| result.is_none())
                .map(|(key, _)| key.clone())
                .collect();
            if absent.is_empty() {
                return Ok(results);
            }
            let mut far = self.far.get(&absent).await?.into_iter();
            for (result, key) in results.iter_mut().zip(keys) {
                if result.is_none() {
                    *result = far.next().flatten();
                    if let Some(result) = result {
                        self.keep_near(key, result.clone()).await;
                    }
                }
            }
            Ok(results)
        })
    }

    fn put<'a>(
        &'a self,
        key: &'a ActionKey,
        result: Bytes,
        mode: PutMode,
    ) -> BoxFuture<'a, Result<Bytes, Fault>> {
        Box::pin(async move {
            let there = self.far.put(key, result, mode).await?;
            self.keep_near(key, there.clone()).await;
            Ok(there)
        })
    }

    fn remove<'a>(&'a self, key: &'a ActionKey) -> BoxFuture<'a, Result<bool, Fault>> {
        Box::pin(async move {
            self.near.remove(key).await?;
            self.far.remove(key).await
        })
    }

    fn swap<'a>(
        &'a self,
        key: &'a ActionKey,
        old: Option<&'a Bytes>,
        new: Bytes,
    ) -> BoxFuture<'a, Result<bool, Fault>> {
        Box::pin(async move {
            let swapped = self.far.swap(key, old, new.clone()).await?;
            if swapped {
                self.keep_near(key, new).await;
            } else {
                // What is near may be what was there before.
                self.near.remove(key).await?;
            }
            Ok(swapped)
        })
    }
}

#[cfg(test)]
mod tests {
    use ashlar_model::cas::DigestFunction;

    use super::*;
    use crate::blob_store::{collect, once};
    use crate::conformance;
    use crate::fault::FaultKind;
    use crate::memory::MemoryStore;

    fn memory() -> Arc<MemoryStore> {
        Arc::new(MemoryStore::new(1 << 30))
    }

    fn blobs(near: Arc<MemoryStore>, writes: Writes) -> ((), Arc<TieredBlobs>) {
        ((), Arc::new(TieredBlobs::new(near, memory(), writes)))
    }

    fn results() -> ((), Arc<TieredResults>) {
        ((), Arc::new(TieredResults::new(memory(), memory())))
    }

    /// Too small for nearly everything.
    fn small() -> Arc<MemoryStore> {
        Arc::new(MemoryStore::new(3000))
    }

    conformance::blob_store_tests!(both, std::future::ready(blobs(memory(), Writes::Both)));
    conformance::blob_store_tests!(far, std::future::ready(blobs(memory(), Writes::Far)));
    conformance::blob_store_tests!(full, std::future::ready(blobs(small(), Writes::Both)));
    conformance::action_cache_tests!(two, std::future::ready(results()));
    conformance::exact_action_cache_tests!(exact, std::future::ready(results()));

    fn blob(seed: u8, length: usize) -> (CasDigest, Bytes) {
        let bytes = Bytes::from(vec![seed; length]);
        (CasDigest::of(DigestFunction::Blake3, &bytes), bytes)
    }

    #[tokio::test]
    async fn what_is_read_whole_is_near_afterwards() {
        let (near, far) = (memory(), memory());
        let store = TieredBlobs::new(near.clone(), far.clone(), Writes::Far);
        let (one, one_bytes) = blob(1, 100_000);
        let (two, two_bytes) = blob(2, 100);
        store.write(&one, once(one_bytes.clone())).await.unwrap();
        store.write(&two, once(two_bytes)).await.unwrap();
        assert_eq!(near.missing(&[one, two]).await.unwrap(), [one, two]);
        let part = ByteRange {
            offset: 5,
            limit: None,
        };
        let read = store.read(&one, part).await.unwrap();
        collect(read, one.size).await.unwrap();
        assert_eq!(near.missing(&[one]).await.unwrap(), [one]);
        let read = store.read(&one, ByteRange::WHOLE).await.unwrap();
        assert_eq!(collect(read, one.size).await.unwrap(), one_bytes);
        assert!(store.read_many(&[two, one]).await.iter().all(Result::is_ok));
        assert_eq!(near.missing(&[one, two]).await.unwrap(), []);
    }

    #[tokio::test]
    async fn writes_are_near_as_well_but_the_far_store_counts() {
        let near = memory();
        let store = TieredBlobs::new(near.clone(), small(), Writes::Both);
        let (one, bytes) = blob(1, 1000);
        store.write(&one, once(bytes)).await.unwrap();
        assert_eq!(near.missing(&[one]).await.unwrap(), []);
        let (large, bytes) = blob(2, 5000);
        let fault = store.write(&large, once(bytes)).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Exhausted);
        assert_eq!(store.missing(&[large]).await.unwrap(), [large]);
    }

    #[tokio::test]
    async fn a_broken_stream_is_no_whole_copy() {
        let near = memory();
        let store = TieredBlobs::new(near.clone(), memory(), Writes::Both);
        let (one, bytes) = blob(1, 1000);
        let broken = vec![
            Ok(bytes.slice(..500)),
            Err(Fault::new(FaultKind::Unavailable, "gone")),
        ];
        let written = store.write(&one, Box::pin(stream::iter(broken))).await;
        written.unwrap_err();
        assert_eq!(near.missing(&[one]).await.unwrap(), [one]);
    }
}
