//! A store whose notes are doubted.
//!
//! What an index says of blobs may be out of date: objects vanish behind its back. Whoever has found
//! one gone says so with what it asks next ([`HEADER`]), and is answered by a look at where the bytes
//! are: what else is gone then comes out in one round trip, and not with one build after another.

use std::sync::Arc;

use ashlar_model::cas::CasDigest;
use ashlar_model::executor::BoxFuture;
use bytes::Bytes;

use crate::blob_store::{BlobStore, ByteRange, ByteStream};
use crate::fault::Fault;

/// A header of calls by whoever has found something gone that a server had said was there.
pub const HEADER: &str = "ashlar-doubt";

/// A store of which every question whether a blob is there is answered by a look.
#[derive(Debug)]
pub struct Doubted(pub Arc<dyn BlobStore>);

impl BlobStore for Doubted {
    fn missing<'a>(
        &'a self,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        self.0.look(blobs)
    }

    fn look<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        self.0.look(blobs)
    }

    fn read<'a>(
        &'a self,
        blob: &'a CasDigest,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<ByteStream, Fault>> {
        self.0.read(blob, range)
    }

    fn write<'a>(
        &'a self,
        blob: &'a CasDigest,
        bytes: ByteStream,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        self.0.write(blob, bytes)
    }

    fn read_many<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Vec<Result<Bytes, Fault>>> {
        self.0.read_many(blobs)
    }

    fn write_many<'a>(
        &'a self,
        blobs: Vec<(CasDigest, Bytes)>,
    ) -> BoxFuture<'a, Vec<Result<(), Fault>>> {
        self.0.write_many(blobs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;
    use crate::memory::MemoryStore;

    fn fresh() -> ((), Arc<Doubted>) {
        ((), Arc::new(Doubted(Arc::new(MemoryStore::new(1 << 30)))))
    }

    conformance::blob_store_tests!(blobs, std::future::ready(fresh()));
}
