//! Streams whose bytes are checked against a digest as they pass.

use std::task::Poll;

use ashlar_model::cas::{CasDigest, CasHasher};
use bytes::Bytes;
use futures::{StreamExt as _, stream};

use crate::blob_store::ByteStream;
use crate::fault::Fault;

/// Takes the bytes of a blob and says whether they are those of its digest.
#[derive(Debug)]
pub struct Check {
    blob: CasDigest,
    hasher: CasHasher,
    seen: u64,
}

impl Check {
    /// Nothing taken yet.
    pub fn new(blob: &CasDigest) -> Self {
        Self {
            blob: *blob,
            hasher: blob.function.hasher(),
            seen: 0,
        }
    }

    /// Takes some bytes. Fails as soon as there are too many.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.seen += bytes.len() as u64;
        if self.seen > self.blob.size {
            return Err(Fault::invalid(format!(
                "the bytes given for {} are more than its size",
                self.blob
            )));
        }
        self.hasher.update(bytes);
        Ok(())
    }

    /// Whether all bytes have been taken, if they are the right ones.
    pub const fn is_full(&self) -> bool {
        self.seen == self.blob.size
    }

    /// Fails if the bytes are not those of the digest.
    pub fn finish(self) -> Result<(), Fault> {
        if self.seen != self.blob.size {
            return Err(Fault::invalid(format!(
                "{} bytes were given for {}",
                self.seen, self.blob
            )));
        }
        if self.hasher.finish() != self.blob.hash {
            return Err(Fault::invalid(format!(
                "the bytes given for {} have another hash",
                self.blob
            )));
        }
        Ok(())
    }
}

/// Fails if `bytes` are not those of the digest.
pub fn check(blob: &CasDigest, bytes: &[u8]) -> Result<(), Fault> {
    let mut check = Check::new(blob);
    check.update(bytes)?;
    check.finish()
}

/// The same bytes, or an error instead of the last of them if they are not those of the digest:
/// nobody gets a whole blob that is wrong.
pub fn checked(blob: &CasDigest, mut bytes: ByteStream) -> ByteStream {
    let mut check = Some(Check::new(blob));
    // The piece that has passed but is held back, for it may be the last one.
    let mut held: Option<Bytes> = None;
    Box::pin(stream::poll_fn(move |context| {
        loop {
            let Some(running) = check.as_mut() else {
                return Poll::Ready(None);
            };
            match bytes.poll_next_unpin(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(piece))) => {
                    if let Err(fault) = running.update(&piece) {
                        check = None;
                        return Poll::Ready(Some(Err(fault)));
                    }
                    if let Some(ready) = held.replace(piece) {
                        return Poll::Ready(Some(Ok(ready)));
                    }
                }
                Poll::Ready(Some(Err(fault))) => {
                    check = None;
                    return Poll::Ready(Some(Err(fault)));
                }
                Poll::Ready(None) => {
                    return match check.take().map(Check::finish) {
                        Some(Err(fault)) => Poll::Ready(Some(Err(fault))),
                        Some(Ok(())) => Poll::Ready(held.take().map(Ok)),
                        None => Poll::Ready(None),
                    };
                }
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use ashlar_model::cas::DigestFunction;

    use super::*;
    use crate::blob_store::collect;
    use crate::fault::FaultKind;

    fn pieces(pieces: &[&'static str]) -> ByteStream {
        let pieces: Vec<_> = pieces
            .iter()
            .map(|piece| Ok(Bytes::from_static(piece.as_bytes())))
            .collect();
        Box::pin(stream::iter(pieces))
    }

    #[tokio::test]
    async fn right_bytes_pass_and_wrong_ones_never_end_well() {
        let blob = CasDigest::of(DigestFunction::Blake3, b"a stone");
        let right = checked(&blob, pieces(&["a ", "", "stone"]));
        assert_eq!(&collect(right, 7).await.unwrap()[..], b"a stone");
        for wrong in [
            &["a ", "stony"][..],
            &["a ston"],
            &["a ", "stone", "s"],
            &[],
            &["x stone"],
        ] {
            let fault = collect(checked(&blob, pieces(wrong)), 100)
                .await
                .unwrap_err();
            assert_eq!(fault.kind, FaultKind::Invalid, "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn the_last_piece_is_held_back_until_the_hash_is_known() {
        let blob = CasDigest::of(DigestFunction::Sha256, b"a stone");
        let mut wrong = checked(&blob, pieces(&["x ", "stone"]));
        assert_eq!(&wrong.next().await.unwrap().unwrap()[..], b"x ");
        wrong.next().await.unwrap().unwrap_err();
        assert!(wrong.next().await.is_none());
    }
}
