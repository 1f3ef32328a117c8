//! The trait of stores that keep blobs under their digests.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use ashlar_model::cas::CasDigest;
use ashlar_model::executor::BoxFuture;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, stream};

use crate::fault::Fault;
#[cfg(doc)]
use crate::fault::FaultKind;

/// A blob's bytes as they come. An error ends it.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, Fault>> + Send>>;

/// A part of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// How many bytes to skip.
    pub offset: u64,
    /// How many bytes to give at most; `None` for all the rest.
    pub limit: Option<u64>,
}

impl ByteRange {
    /// All of a blob.
    pub const WHOLE: Self = Self {
        offset: 0,
        limit: None,
    };
}

/// Keeps blobs under their digests.
///
/// A blob is either wholly there or not there. The empty blob is always there. Every store is safe
/// to call from many tasks at once; writing a blob that is there already is no error and costs
/// little. Dropping a future or a stream calls its work off and leaves nothing half done.
pub trait BlobStore: Send + Sync + fmt::Debug {
    /// Those of the blobs that are not there, in the order asked for. What is there counts as used.
    fn missing<'a>(
        &'a self,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>>;

    /// The same, by a look at where the bytes are kept, and not only at what is noted of them: asked
    /// when something turned out to be gone, since more may be. What is gone is noted as well.
    fn look<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        self.missing(blobs)
    }

    /// A blob's bytes, or a part of them. An offset behind the end is [`FaultKind::Invalid`].
    fn read<'a>(
        &'a self,
        blob: &'a CasDigest,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<ByteStream, Fault>>;

    /// Stores a blob. Bytes that are not those of the digest are refused
    /// ([`FaultKind::Invalid`]) and not kept.
    fn write<'a>(
        &'a self,
        blob: &'a CasDigest,
        bytes: ByteStream,
    ) -> BoxFuture<'a, Result<(), Fault>>;

    /// Reads small blobs whole, as few round trips as can be; the answers are in the order of the
    /// questions.
    fn read_many<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Vec<Result<Bytes, Fault>>> {
        Box::pin(async move {
            let read = |blob: CasDigest| async move {
                collect_blob(self.read(&blob, ByteRange::WHOLE).await?, &blob).await
            };
            let blobs = stream::iter(blobs.to_vec());
            blobs.map(read).buffered(16).collect().await
        })
    }

    /// Stores small blobs, as few round trips as can be; the answers are in the order of the blobs.
    fn write_many<'a>(
        &'a self,
        blobs: Vec<(CasDigest, Bytes)>,
    ) -> BoxFuture<'a, Vec<Result<(), Fault>>> {
        Box::pin(async move {
            let write = |(blob, bytes): (CasDigest, Bytes)| async move {
                self.write(&blob, once(bytes)).await
            };
            stream::iter(blobs).map(write).buffered(16).collect().await
        })
    }
}

impl<S: BlobStore + ?Sized> BlobStore for Arc<S> {
    fn missing<'a>(
        &'a self,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        (**self).missing(blobs)
    }

    fn look<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        (**self).look(blobs)
    }

    fn read<'a>(
        &'a self,
        blob: &'a CasDigest,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<ByteStream, Fault>> {
        (**self).read(blob, range)
    }

    fn write<'a>(
        &'a self,
        blob: &'a CasDigest,
        bytes: ByteStream,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        (**self).write(blob, bytes)
    }

    fn read_many<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Vec<Result<Bytes, Fault>>> {
        (**self).read_many(blobs)
    }

    fn write_many<'a>(
        &'a self,
        blobs: Vec<(CasDigest, Bytes)>,
    ) -> BoxFuture<'a, Vec<Result<(), Fault>>> {
        (**self).write_many(blobs)
    }
}

/// Whether a digest is that of the empty blob, which every store has.
pub fn is_empty_blob(blob: &CasDigest) -> bool {
    blob.size == 0 && blob.hash == blob.function.hash(b"")
}

/// The part of a blob in memory. An offset behind the end is [`FaultKind::Invalid`].
pub fn slice(blob: &CasDigest, bytes: &Bytes, range: ByteRange) -> Result<Bytes, Fault> {
    let (start, end) = bounds(blob, range)?;
    // Both are no more than the length of what is in memory.
    let (Ok(start), Ok(end)) = (usize::try_from(start), usize::try_from(end)) else {
        return Err(Fault::invalid(format!("{blob} is not in memory")));
    };
    if end > bytes.len() {
        return Err(Fault::invalid(format!("{blob} has {} bytes", bytes.len())));
    }
    Ok(bytes.slice(start..end))
}

/// Where a part of a blob begins and ends.
pub fn bounds(blob: &CasDigest, range: ByteRange) -> Result<(u64, u64), Fault> {
    if range.offset > blob.size {
        return Err(Fault::invalid(format!(
            "cannot read {blob} from byte {}, which is behind its end",
            range.offset
        )));
    }
    let rest = blob.size - range.offset;
    let length = range.limit.map_or(rest, |limit| limit.min(rest));
    Ok((range.offset, range.offset + length))
}

/// A stream of nothing.
pub fn nothing() -> ByteStream {
    Box::pin(stream::empty())
}

/// A stream of one piece.
pub fn once(bytes: Bytes) -> ByteStream {
    Box::pin(stream::once(async move { Ok(bytes) }))
}

/// All bytes of a blob, which must be as many as its digest says. The hash is not looked at.
pub async fn collect_blob(bytes: ByteStream, blob: &CasDigest) -> Result<Bytes, Fault> {
    let whole = collect(bytes, blob.size).await?;
    if whole.len() as u64 == blob.size {
        Ok(whole)
    } else {
        let length = whole.len();
        Err(Fault::invalid(format!("{blob} came with {length} bytes")))
    }
}

/// All bytes of a part of a blob, which must be so many. The hash is not looked at.
pub async fn collect_part(bytes: ByteStream, length: u64) -> Result<Bytes, Fault> {
    let part = collect(bytes, length).await?;
    if part.len() as u64 == length {
        return Ok(part);
    }
    let got = part.len();
    Err(Fault::invalid(format!(
        "{got} bytes came instead of {length}"
    )))
}

/// All bytes of a stream, which may be no more than `limit`.
pub async fn collect(mut bytes: ByteStream, limit: u64) -> Result<Bytes, Fault> {
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(piece) = bytes.next().await {
        let piece = piece?;
        if (first.len() + whole.len() + piece.len()) as u64 > limit {
            return Err(Fault::invalid(format!("a blob of {limit} bytes has more")));
        }
        // A blob that comes in one piece is not copied.
        if first.is_empty() && whole.is_empty() {
            first = piece;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&piece);
        }
    }
    Ok(if whole.is_empty() {
        first
    } else {
        whole.freeze()
    })
}
