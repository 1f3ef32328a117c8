//! What is asked, and who asks: requests of the protocols, without the client of the builder, which
//! would take its share of the time.

use std::time::Duration;

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_proto::convert::duration_to_wire;
use ashlar_proto::wire::ext;
use ashlar_proto::wire::ext::leases_client::LeasesClient;
use ashlar_proto::wire::ext::results_client::ResultsClient;
use ashlar_proto::wire::reapi;
use ashlar_proto::wire::reapi::action_cache_client::ActionCacheClient;
use ashlar_proto::wire::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use ashlar_test_support::numbers::Numbers;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use prost::Message as _;
use tonic::transport::{Channel, Endpoint};

/// The length of a blob that is read or written: the average of a layer's chunks.
pub(super) const CHUNK: usize = 128 << 10;

/// Chunks that are there.
const CHUNKS: usize = 1500;

/// Results that are there.
const RESULTS: usize = 1000;

/// Chunks of each result's layer.
const LAYER: usize = 32;

/// The length of each result's record, which is in the answer of a probe.
const RECORD: usize = 400;

/// The path of the record, among a result's outputs.
const RECORD_PATH: &str = "record";

/// Results that one probe asks for.
const PROBED: usize = 100;

/// Blobs that one question for missing ones asks for. Half of them are there.
const ASKED: usize = 1000;

/// Blobs of one batch when the servers are filled.
const BATCH: usize = 16;

/// How long leases last that nobody renews: as the builder's.
const TTL: Duration = Duration::from_secs(10);

/// The largest message.
const MESSAGE: usize = 16 << 20;

/// A window for many large answers at once.
const WINDOW: u32 = 4 << 20;

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Probe,
    FindMissing,
    Read,
    Write,
    Lease,
}

impl Kind {
    pub(super) const ALL: [Self; 5] = [
        Self::Probe,
        Self::FindMissing,
        Self::Read,
        Self::Write,
        Self::Lease,
    ];

    /// Its name in the table.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Probe => "probe, 100 hits",
            Self::FindMissing => "FindMissing, 1,000",
            Self::Read => "read of 128 KiB",
            Self::Write => "write of 128 KiB",
            Self::Lease => "lease: acquire, release",
        }
    }
}

/// What is in the servers, and what is not.
pub(super) struct Content {
    chunks: Vec<CasDigest>,
    missing: Vec<reapi::Digest>,
    actions: Vec<reapi::Digest>,
    noise: Vec<u8>,
}

/// One request.
pub(super) enum Request {
    Probe(ext::ProbeRequest),
    FindMissing(reapi::FindMissingBlobsRequest),
    Read(reapi::BatchReadBlobsRequest),
    Write(reapi::BatchUpdateBlobsRequest),
    Lease(ext::AcquireRequest),
}

impl Content {
    /// What follows from a seed.
    pub(super) fn new(seed: u64) -> Self {
        let noise = Numbers::new(seed).bytes(CHUNK);
        let named = |kind: &str, number: usize| of(format!("{kind} {number}").as_bytes());
        let mut content = Self {
            chunks: Vec::new(),
            missing: (0..ASKED).map(|n| wire(&named("missing", n))).collect(),
            actions: (0..RESULTS).map(|n| wire(&named("action", n))).collect(),
            noise,
        };
        content.chunks = (0..CHUNKS)
            .map(|n| of(&content.chunk(n as u64, 0)))
            .collect();
        content
    }

    /// How many blobs and results there are.
    pub(super) const fn entries(&self) -> (usize, usize) {
        (CHUNKS + 2 * RESULTS, RESULTS)
    }

    /// Bytes that differ in two numbers.
    fn chunk(&self, one: u64, other: u64) -> Bytes {
        let mut bytes = self.noise.clone();
        bytes[..8].copy_from_slice(&one.to_le_bytes());
        bytes[8..16].copy_from_slice(&other.to_le_bytes());
        Bytes::from(bytes)
    }

    /// Stores everything, by the servers in turn.
    pub(super) async fn fill(&self, urls: &[String]) {
        let mut callers = Vec::new();
        for url in urls {
            callers.push(Caller::connect(url).await);
        }
        let caller = |number: usize| callers[number % callers.len()].clone();
        let chunks: Vec<usize> = (0..CHUNKS).collect();
        stream::iter(chunks.chunks(BATCH).enumerate())
            .for_each_concurrent(8, |(number, chunks)| {
                let blobs = chunks.iter().map(|n| self.chunk(*n as u64, 0)).collect();
                let mut caller = caller(number);
                async move { caller.write(blobs).await }
            })
            .await;
        stream::iter(0..RESULTS)
            .for_each_concurrent(64, |number| {
                let mut caller = caller(number);
                async move {
                    let (blobs, result) = self.result(number);
                    caller.write(blobs).await;
                    let action = self.actions[number].clone();
                    caller.put(action, result).await;
                }
            })
            .await;
    }

    /// A result as a build has it: a record, and a layer of some chunks.
    fn result(&self, number: usize) -> (Vec<Bytes>, reapi::ActionResult) {
        let record = Bytes::from(Numbers::of(1, number as u64).bytes(RECORD));
        let files = (0..LAYER).map(|place| reapi::FileNode {
            name: format!("c{place:08}"),
            digest: Some(wire(&self.chunks[(number + place * 41) % CHUNKS])),
            ..reapi::FileNode::default()
        });
        let tree = reapi::Tree {
            root: Some(reapi::Directory {
                files: files.collect(),
                ..reapi::Directory::default()
            }),
            children: Vec::new(),
        };
        let tree = Bytes::from(tree.encode_to_vec());
        let result = reapi::ActionResult {
            output_files: vec![reapi::OutputFile {
                path: RECORD_PATH.to_owned(),
                digest: Some(wire(&of(&record))),
                ..reapi::OutputFile::default()
            }],
            output_directories: vec![reapi::OutputDirectory {
                path: "layer".to_owned(),
                tree_digest: Some(wire(&of(&tree))),
                ..reapi::OutputDirectory::default()
            }],
            ..reapi::ActionResult::default()
        };
        (vec![record, tree], result)
    }

    /// The next request of a kind.
    pub(super) fn request(&self, kind: Kind, numbers: &mut Numbers) -> Request {
        let function = function();
        match kind {
            Kind::Probe => {
                let first = numbers.place(RESULTS);
                let actions = (0..PROBED).map(|n| self.actions[(first + n * 7) % RESULTS].clone());
                Request::Probe(ext::ProbeRequest {
                    digest_function: function,
                    actions: actions.collect(),
                    inline_output_files: vec![RECORD_PATH.to_owned()],
                    ..ext::ProbeRequest::default()
                })
            }
            Kind::FindMissing => {
                let first = numbers.place(CHUNKS);
                let half = ASKED / 2;
                let there = (0..half).map(|n| wire(&self.chunks[(first + n) % CHUNKS]));
                let missing = self.missing[..half].iter().cloned();
                Request::FindMissing(reapi::FindMissingBlobsRequest {
                    digest_function: function,
                    blob_digests: there.chain(missing).collect(),
                    ..reapi::FindMissingBlobsRequest::default()
                })
            }
            Kind::Read => Request::Read(reapi::BatchReadBlobsRequest {
                digest_function: function,
                digests: vec![wire(&self.chunks[numbers.place(CHUNKS)])],
                ..reapi::BatchReadBlobsRequest::default()
            }),
            Kind::Write => {
                let bytes = self.chunk(numbers.any(), numbers.any());
                Request::Write(update(vec![bytes]))
            }
            Kind::Lease => {
                let action = of(&numbers.any().to_le_bytes());
                Request::Lease(ext::AcquireRequest {
                    key: action.hash_hex(),
                    holder: "ashlar-bench".to_owned(),
                    ttl: Some(duration_to_wire(TTL)),
                    ..ext::AcquireRequest::default()
                })
            }
        }
    }
}

/// A connection to a server.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    results: ResultsClient<Channel>,
    actions: ActionCacheClient<Channel>,
    blobs: ContentAddressableStorageClient<Channel>,
    leases: LeasesClient<Channel>,
}

impl Caller {
    pub(super) async fn connect(url: &str) -> Self {
        let endpoint = Endpoint::from_shared(url.to_owned()).expect("an address");
        let channel = endpoint
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .connect()
            .await
            .expect("nobody listens");
        Self {
            results: ResultsClient::new(channel.clone()).max_decoding_message_size(MESSAGE),
            actions: ActionCacheClient::new(channel.clone()),
            leases: LeasesClient::new(channel.clone()),
            blobs: ContentAddressableStorageClient::new(channel).max_decoding_message_size(MESSAGE),
        }
    }

    /// Makes a request. An answer that is not the one that it should be ends the program.
    pub(super) async fn call(&mut self, request: Request) {
        match request {
            Request::Probe(request) => {
                let answer = self.results.probe(request).await.expect("no probe");
                assert_eq!(answer.get_ref().hits.len(), PROBED);
            }
            Request::FindMissing(request) => {
                let answer = self.blobs.find_missing_blobs(request).await;
                let answer = answer.expect("no FindMissingBlobs").into_inner();
                assert_eq!(answer.missing_blob_digests.len(), ASKED / 2);
            }
            Request::Read(request) => {
                let answer = self.blobs.batch_read_blobs(request).await;
                let answer = answer.expect("no BatchReadBlobs").into_inner();
                assert_eq!(answer.responses[0].data.len(), CHUNK);
            }
            Request::Write(request) => {
                let answer = self.blobs.batch_update_blobs(request).await;
                let answer = answer.expect("no BatchUpdateBlobs").into_inner();
                for response in answer.responses {
                    let status = response.status.unwrap_or_default();
                    assert_eq!(status.code, 0, "{}", status.message);
                }
            }
            Request::Lease(request) => {
                let key = request.key.clone();
                let answer = self.leases.acquire(request).await.expect("no Acquire");
                let outcome = answer.into_inner().outcome;
                let Some(ext::acquire_response::Outcome::Granted(lease)) = outcome else {
                    unreachable!("every request has a key of its own: {outcome:?}");
                };
                let release = ext::ReleaseRequest {
                    key,
                    token: lease.token,
                    ..ext::ReleaseRequest::default()
                };
                self.leases.release(release).await.expect("no Release");
            }
        }
    }

    async fn write(&mut self, blobs: Vec<Bytes>) {
        self.call(Request::Write(update(blobs))).await;
    }

    async fn put(&mut self, action: reapi::Digest, result: reapi::ActionResult) {
        let request = reapi::UpdateActionResultRequest {
            digest_function: function(),
            action_digest: Some(action),
            action_result: Some(result),
            ..reapi::UpdateActionResultRequest::default()
        };
        let put = self.actions.update_action_result(request).await;
        put.expect("no UpdateActionResult");
    }
}

fn update(blobs: Vec<Bytes>) -> reapi::BatchUpdateBlobsRequest {
    let requests = blobs.into_iter().map(|bytes| {
        let digest = Some(wire(&of(&bytes)));
        reapi::batch_update_blobs_request::Request {
            digest,
            data: bytes,
            ..reapi::batch_update_blobs_request::Request::default()
        }
    });
    reapi::BatchUpdateBlobsRequest {
        digest_function: function(),
        requests: requests.collect(),
        ..reapi::BatchUpdateBlobsRequest::default()
    }
}

fn of(bytes: &[u8]) -> CasDigest {
    CasDigest::of(DigestFunction::Blake3, bytes)
}

fn wire(digest: &CasDigest) -> reapi::Digest {
    reapi::Digest {
        hash: digest.hash_hex(),
        size_bytes: i64::try_from(digest.size).expect("it is small"),
    }
}

fn function() -> i32 {
    reapi::digest_function::Value::Blake3.into()
}
