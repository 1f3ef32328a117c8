//! How many bytes a holder may hold: blobs beyond that are not taken.
//!
//! What a holder holds is asked of the store once a second; what is written meanwhile is added. So
//! several servers together may let in a second's worth too much.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ashlar_model::cas::CasDigest;
use ashlar_model::executor::BoxFuture;
use ashlar_store::blob_store::{ByteRange, ByteStream};
use ashlar_store::{BlobStore, Fault, FaultKind, Possession};
use bytes::Bytes;

use super::Holder;

/// So long it is taken for true how much somebody holds.
const FRESH: Duration = Duration::from_secs(1);

/// What somebody holds.
#[derive(Debug, Default)]
pub struct Estimate(Mutex<Option<(u64, Instant)>>);

impl Estimate {
    fn get(&self) -> Option<u64> {
        let known = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .filter(|(_, asked)| asked.elapsed() < FRESH)
            .map(|(bytes, _)| bytes)
    }

    fn set(&self, bytes: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some((bytes, Instant::now()));
    }

    fn add(&self, more: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((bytes, _)) = &mut *known {
            *bytes = bytes.saturating_add(more);
        }
    }
}

/// A store that takes no more from a holder than it may hold.
#[derive(Debug)]
pub struct Quota {
    /// The store, as the holder sees it.
    pub blobs: Arc<dyn BlobStore>,
    /// Who holds what.
    pub possession: Arc<dyn Possession>,
    /// The holder.
    pub holder: Arc<Holder>,
    /// What it may hold.
    pub limit: u64,
}

impl Quota {
    async fn held(&self) -> Result<u64, Fault> {
        if let Some(bytes) = self.holder.held.get() {
            return Ok(bytes);
        }
        let bytes = self.possession.bytes(&self.holder.name).await?;
        self.holder.held.set(bytes);
        Ok(bytes)
    }

    /// Those of some blobs that it may not store, each with the reason.
    async fn refused(&self, blobs: &[CasDigest]) -> Result<Vec<Option<Fault>>, Fault> {
        let held = self.held().await?;
        let total = blobs
            .iter()
            .fold(held, |total, blob| total.saturating_add(blob.size));
        if total <= self.limit {
            self.holder.held.add(total - held);
            return Ok(blobs.iter().map(|_| None).collect());
        }
        // What it holds already takes no more room.
        let names = [self.holder.name.to_string()];
        let known = self.possession.held(&names, blobs).await?;
        let mut now = held;
        let verdicts = blobs.iter().zip(known).map(|(blob, is_known)| {
            if is_known {
                return None;
            }
            match now.checked_add(blob.size) {
                Some(then) if then <= self.limit => {
                    now = then;
                    None
                }
                _ => Some(self.full(blob, now)),
            }
        });
        let verdicts = verdicts.collect();
        self.holder.held.add(now - held);
        Ok(verdicts)
    }

    fn full(&self, blob: &CasDigest, held: u64) -> Fault {
        self.holder.refused_blobs.one();
        Fault::new(
            FaultKind::OverQuota,
            format!(
                "`{}` may hold {} bytes here and holds {held}: {} more do not fit",
                self.holder.name, self.limit, blob.size
            ),
        )
    }
}

impl BlobStore for Quota {
    fn missing<'a>(
        &'a self,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        self.blobs.missing(blobs)
    }

    fn look<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        self.blobs.look(blobs)
    }

    fn read<'a>(
        &'a self,
        blob: &'a CasDigest,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<ByteStream, Fault>> {
        self.blobs.read(blob, range)
    }

    fn write<'a>(
        &'a self,
        blob: &'a CasDigest,
        bytes: ByteStream,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let refused = self.refused(std::slice::from_ref(blob)).await?;
            match refused.into_iter().next().flatten() {
                Some(fault) => Err(fault),
                None => self.blobs.write(blob, bytes).await,
            }
        })
    }

    fn read_many<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Vec<Result<Bytes, Fault>>> {
        self.blobs.read_many(blobs)
    }

    fn write_many<'a>(
        &'a self,
        blobs: Vec<(CasDigest, Bytes)>,
    ) -> BoxFuture<'a, Vec<Result<(), Fault>>> {
        Box::pin(async move {
            let digests: Vec<CasDigest> = blobs.iter().map(|(blob, _)| *blob).collect();
            let verdicts = match self.refused(&digests).await {
                Ok(verdicts) => verdicts,
                Err(fault) => {
                    let again = || Fault::new(fault.kind, ashlar_store::fault::in_one_line(&fault));
                    return digests.iter().map(|_| Err(again())).collect();
                }
            };
            let taken = blobs.into_iter().zip(&verdicts);
            let taken = taken.filter(|(_, verdict)| verdict.is_none());
            let taken = taken.map(|(blob, _)| blob).collect();
            let mut written = self.blobs.write_many(taken).await.into_iter();
            let answers = verdicts.into_iter().map(|verdict| match verdict {
                Some(fault) => Err(fault),
                None => written.next().unwrap_or_else(|| {
                    Err(Fault::new(FaultKind::Internal, "a store gave no answer"))
                }),
            });
            answers.collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use ashlar_model::cas::DigestFunction;
    use ashlar_store::blob_store::once;
    use ashlar_store::conformance;
    use ashlar_store::memory::MemoryStore;
    use ashlar_store::possessed::Possessed;

    use super::*;
    use crate::fair::Fair;

    fn quota(store: &Arc<MemoryStore>, fair: &Fair, limit: u64) -> Arc<Quota> {
        let own = "acme/web".to_owned();
        Arc::new(Quota {
            blobs: Arc::new(Possessed::new(store.clone(), store.clone(), own, [])),
            possession: store.clone(),
            holder: fair.of("acme/web"),
            limit,
        })
    }

    fn ample() -> ((), Arc<Quota>) {
        let store = Arc::new(MemoryStore::new(1 << 30));
        ((), quota(&store, &Fair::default(), 1 << 30))
    }

    conformance::blob_store_tests!(blobs, std::future::ready(ample()));

    fn blob(byte: u8, length: usize) -> (CasDigest, Bytes) {
        let bytes = Bytes::from(vec![byte; length]);
        (CasDigest::of(DigestFunction::Blake3, &bytes), bytes)
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused_and_the_rest_is_taken() {
        let store = Arc::new(MemoryStore::new(1 << 30));
        let fair = Fair::default();
        let quota = quota(&store, &fair, 1000);
        let (first, bytes) = blob(1, 600);
        quota
            .write(&first, once(bytes.clone()))
            .await
            .expect("fits");
        let (second, too_much) = blob(2, 401);
        let fault = quota.write(&second, once(too_much.clone())).await;
        let fault = fault.expect_err("too much");
        assert_eq!(fault.kind, FaultKind::OverQuota);
        assert_eq!(
            fault.to_string(),
            "`acme/web` may hold 1000 bytes here and holds 600: 401 more do not fit"
        );
        let written = quota
            .write_many(vec![
                (second, too_much),
                (first, bytes),
                blob(3, 400),
                blob(4, 1),
            ])
            .await;
        let written: Vec<bool> = written.iter().map(Result::is_ok).collect();
        assert_eq!(written, [false, true, true, false]);
        let held = Possession::bytes(&*store, "acme/web").await;
        assert_eq!(held.expect("bytes"), 1000);
    }

    #[tokio::test]
    async fn room_that_is_made_is_seen() {
        let store = Arc::new(MemoryStore::new(1500));
        let fair = Fair::default();
        let quota = quota(&store, &fair, 1000);
        let (first, bytes) = blob(1, 900);
        quota.write(&first, once(bytes)).await.expect("fits");
        // Somebody else's blob takes its place.
        let (other, bytes) = blob(2, 1000);
        store.write(&other, once(bytes)).await.expect("written");
        let (third, bytes) = blob(3, 300);
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(fault) = quota.write(&third, once(bytes.clone())).await {
            assert_eq!(fault.kind, FaultKind::OverQuota);
            assert!(Instant::now() < deadline, "{fault}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
