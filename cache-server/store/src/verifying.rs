//! Checks what goes into a store and what comes out of it against its digest.
//!
//! For stores that do not check by themselves: object stores, files that others write. A blob that
//! comes out whole is checked; a part of one cannot be. Wrong bytes are [`FaultKind::Invalid`].

use std::sync::Arc;

use ashlar_model::cas::CasDigest;
use ashlar_model::executor::BoxFuture;
use bytes::Bytes;

use crate::blob_store::{BlobStore, ByteRange, ByteStream};
use crate::checked::{check, checked};
use crate::fault::Fault;
#[cfg(doc)]
use crate::fault::FaultKind;

/// A store that is checked.
#[derive(Debug)]
pub struct Verifying {
    inner: Arc<dyn BlobStore>,
}

impl Verifying {
    /// Checks what `inner` takes and gives.
    pub const fn new(inner: Arc<dyn BlobStore>) -> Self {
        Self { inner }
    }
}

impl BlobStore for Verifying {
    fn missing<'a>(
        &'a self,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        self.inner.missing(blobs)
    }

    fn look<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        self.inner.look(blobs)
    }

    fn read<'a>(
        &'a self,
        blob: &'a CasDigest,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<ByteStream, Fault>> {
        Box::pin(async move {
            let bytes = self.inner.read(blob, range).await?;
            let is_whole = range.offset == 0 && range.limit.is_none_or(|limit| limit >= blob.size);
            Ok(if is_whole {
                checked(blob, bytes)
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
        // The store below sees a stream that breaks instead of one that is wrong.
        self.inner.write(blob, checked(blob, bytes))
    }

    fn read_many<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Vec<Result<Bytes, Fault>>> {
        Box::pin(async move {
            let read = self.inner.read_many(blobs).await.into_iter().zip(blobs);
            let sound = read.map(|(bytes, blob)| {
                let bytes = bytes?;
                check(blob, &bytes)?;
                Ok(bytes)
            });
            sound.collect()
        })
    }

    fn write_many<'a>(
        &'a self,
        blobs: Vec<(CasDigest, Bytes)>,
    ) -> BoxFuture<'a, Vec<Result<(), Fault>>> {
        Box::pin(async move {
            let mut answers = Vec::with_capacity(blobs.len());
            let mut sound = Vec::new();
            for (blob, bytes) in blobs {
                let checked = check(&blob, &bytes);
                if checked.is_ok() {
                    sound.push((blob, bytes));
                }
                answers.push(checked);
            }
            let mut written = self.inner.write_many(sound).await.into_iter();
            for answer in &mut answers {
                if answer.is_ok()
                    && let Some(written) = written.next()
                {
                    *answer = written;
                }
            }
            answers
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

    fn fresh() -> ((), Arc<Verifying>) {
        let memory = Arc::new(MemoryStore::new(1 << 30));
        ((), Arc::new(Verifying::new(memory)))
    }

    conformance::blob_store_tests!(blobs, std::future::ready(fresh()));

    /// Takes anything and gives something else.
    #[derive(Debug)]
    struct Liar;

    impl BlobStore for Liar {
        fn missing<'a>(
            &'a self,
            _blobs: &'a [CasDigest],
        ) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
            Box::pin(async { Ok(Vec::new()) })
        }

        fn read<'a>(
            &'a self,
            blob: &'a CasDigest,
            _range: ByteRange,
        ) -> BoxFuture<'a, Result<ByteStream, Fault>> {
            Box::pin(async { Ok(once(vec![7; usize::try_from(blob.size).unwrap()].into())) })
        }

        fn write<'a>(
            &'a self,
            _blob: &'a CasDigest,
            bytes: ByteStream,
        ) -> BoxFuture<'a, Result<(), Fault>> {
            Box::pin(async move {
                collect(bytes, 1000).await?;
                Ok(())
            })
        }
    }

    #[tokio::test]
    async fn a_store_that_lies_is_found_out() {
        let store = Verifying::new(Arc::new(Liar));
        let bytes = Bytes::from_static(b"a stone");
        let blob = CasDigest::of(DigestFunction::Blake3, &bytes);
        let read = store.read(&blob, ByteRange::WHOLE).await.unwrap();
        let fault = collect(read, 7).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Invalid);
        let many = store.read_many(&[blob]).await.remove(0);
        assert_eq!(many.unwrap_err().kind, FaultKind::Invalid);
        let wrong = Bytes::from_static(b"a stony");
        let fault = store.write(&blob, once(wrong.clone())).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Invalid);
        let mut many = store.write_many(vec![(blob, wrong), (blob, bytes)]).await;
        many.remove(1).unwrap();
        assert_eq!(many.remove(0).unwrap_err().kind, FaultKind::Invalid);
    }
}
