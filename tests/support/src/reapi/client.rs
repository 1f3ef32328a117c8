//! A client of the cache server, called as from a program that is not asynchronous.

use std::sync::Arc;

use ashlar_model::cas::{ActionKey, CasDigest, DigestFunction};
use ashlar_proto::wire::reapi;
use ashlar_store::action_cache::PutMode;
use ashlar_store::blob_store::{ByteRange, once};
use ashlar_store::grpc::{GrpcEndpoint, GrpcSettings, GrpcStore};
use ashlar_store::{ActionCache as _, BlobStore as _};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use prost::Message as _;
use tokio::runtime::Runtime;

/// How many results are on their way at once.
const AT_ONCE: usize = 64;

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    runtime: Runtime,
    store: GrpcStore,
}

impl Client {
    /// Connects to `grpc://HOST:PORT`.
    pub fn connect(url: &str) -> Self {
        Self::of_instance(url, "")
    }

    /// Connects to a part of what is at `grpc://HOST:PORT`.
    pub fn of_instance(url: &str, instance: &str) -> Self {
        let mut settings = GrpcSettings::new(url);
        instance.clone_into(&mut settings.instance);
        let runtime = Runtime::new().expect("there are no threads");
        let endpoint = runtime
            .block_on(GrpcEndpoint::connect(settings))
            .unwrap_or_else(|fault| panic!("{url}: {fault}"));
        Self {
            runtime,
            store: GrpcStore::new(Arc::new(endpoint)),
        }
    }

    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(super) fn endpoint(&self) -> &GrpcEndpoint {
        self.store.endpoint()
    }

    /// Stores a blob.
    pub fn write(&self, blob: &CasDigest, bytes: Bytes) {
        self.runtime
            .block_on(self.store.write(blob, once(bytes)))
            .expect("the server takes no blob");
    }

    /// Stores small blobs.
    pub fn write_many(&self, blobs: Vec<(CasDigest, Bytes)>) {
        for written in self.runtime.block_on(self.store.write_many(blobs)) {
            written.expect("the server takes no blobs");
        }
    }

    /// Reads a blob.
    pub fn read(&self, blob: &CasDigest) -> Vec<u8> {
        self.runtime.block_on(async {
            let mut bytes = self
                .store
                .read(blob, ByteRange::WHOLE)
                .await
                .expect("the server gives no blob");
            let mut whole = Vec::with_capacity(usize::try_from(blob.size).unwrap_or_default());
            while let Some(piece) = bytes.next().await {
                whole.extend_from_slice(&piece.expect("a blob ends too early"));
            }
            whole
        })
    }

    /// Reads blobs, and gives how many bytes came.
    pub fn read_many(&self, blobs: &[CasDigest]) -> u64 {
        let read = self.runtime.block_on(self.store.read_many(blobs));
        read.into_iter()
            .map(|blob| blob.expect("the server gives no blobs").len() as u64)
            .sum()
    }

    /// How many of some blobs are missing.
    pub fn missing(&self, blobs: &[CasDigest]) -> usize {
        let missing = self.runtime.block_on(self.store.missing(blobs));
        missing
            .expect("the server does not say what is missing")
            .len()
    }

    /// Stores results, each with one output of its own that is small, and one of them all.
    pub fn put_results(&self, count: usize) {
        let shared = Bytes::from_static(b"an output of all");
        let shared_digest = CasDigest::of(DigestFunction::Blake3, &shared);
        self.write_many(vec![(shared_digest, shared)]);
        let result = reapi::ActionResult {
            output_files: vec![reapi::OutputFile {
                path: "output".to_owned(),
                digest: Some(reapi::Digest {
                    hash: shared_digest.hash_hex(),
                    size_bytes: i64::try_from(shared_digest.size).expect("it is small"),
                }),
                ..reapi::OutputFile::default()
            }],
            ..reapi::ActionResult::default()
        };
        let result = Bytes::from(result.encode_to_vec());
        let put = |number: usize| {
            let key = ActionKey {
                instance: String::new(),
                action: CasDigest::of(DigestFunction::Blake3, number.to_string().as_bytes()),
            };
            let result = result.clone();
            async move {
                self.store
                    .put(&key, result, PutMode::Replace)
                    .await
                    .expect("the server takes no result");
            }
        };
        self.runtime.block_on(
            stream::iter(0..count)
                .map(put)
                .buffer_unordered(AT_ONCE)
                .for_each(|()| async {}),
        );
    }
}
