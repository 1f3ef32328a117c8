//! Memory, connections and time of a server, used up by those who may write, or by anybody.
//!
//! The server may refuse them or let them wait. Its memory stays bounded, and others are served.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use ashlar_model::cas::CasDigest;
use ashlar_proto::convert::digest_to_wire;
use ashlar_proto::wire::bytestream::WriteRequest;
use ashlar_proto::wire::{ext, reapi};
use ashlar_test_support::cache_server::CacheServer;
use ashlar_test_support::farm::Caller;
use ashlar_test_support::farm::client::FUNCTION;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tokio::runtime::Runtime;
use tonic::Code;
use tonic::metadata::MetadataValue;

use super::{PATIENCE, action, blob, zstd_of};
use crate::cache::noise;

/// What uploads may hold in the servers of these tests.
const UPLOADS: u64 = 32 << 20;

/// What a server may take beside that, for hundreds of connections and a debug build.
const REST: u64 = 160 << 20;

/// Bytes that a connection may be ahead of a server that does not read from it: its window.
const AHEAD: u64 = 16 << 20;

/// A server and a way to call it.
struct Victim {
    server: CacheServer,
    runtime: Runtime,
}

impl Victim {
    fn start(options: &[&str]) -> Self {
        let server = CacheServer::prepare()
            .with(["--upload-memory", &UPLOADS.to_string()])
            .with(options)
            .started();
        Self {
            server,
            runtime: Runtime::new().unwrap(),
        }
    }

    fn caller(&self) -> Caller {
        let _entered = self.runtime.enter();
        Caller::new(&self.server.url(), PATIENCE)
    }

    /// The most memory that it ever had.
    fn peak(&self) -> u64 {
        let path = format!("/proc/{}/status", self.server.id());
        let status = fs::read_to_string(&path).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kilobytes.expect("a process has a peak") << 10
    }

    /// Asserts that somebody else is served, and that all of it took no more memory than it may.
    #[track_caller]
    fn stands(&self, what: &str) {
        self.stands_against(what, 0);
    }

    /// The same where so much more may be on its way: whatever it does, a server holds what the
    /// windows of connections let in, and messages of which it does not have the end yet.
    #[track_caller]
    fn stands_against(&self, what: &str, on_way: u64) {
        let other = self.caller();
        let (digest, bytes) = blob(noise(99, 100_000));
        self.runtime.block_on(async {
            other.upload(&[(digest, bytes.clone())]).await.unwrap();
            assert_eq!(other.read(&digest).await.unwrap(), bytes);
        });
        let peak = self.peak();
        assert!(
            peak < UPLOADS + REST + on_way,
            "{what}: {} MB\n{}",
            peak >> 20,
            self.server.log()
        );
        let log = self.server.log();
        assert!(!log.contains("panicked"), "{what}: {log}");
    }
}

#[test]
fn uploads_that_never_end_take_no_more_than_their_share() {
    const CONNECTIONS: u64 = 24;
    const UPLOADS_OF_EACH: u64 = 12;
    const MESSAGES: u64 = 5;
    const MESSAGE: usize = 1_000_000;
    const SIZE: usize = 9 * MESSAGE;
    let victim = Victim::start(&[]);
    let bytes = Bytes::from(noise(1, MESSAGE as u64));
    let streams = (0..CONNECTIONS).flat_map(|connection| {
        let caller = victim.caller();
        (0..UPLOADS_OF_EACH).map(move |number| (caller.clone(), connection * 100 + number))
    });
    victim.runtime.block_on(async {
        let waiting: Vec<_> = streams
            .map(|(caller, number)| {
                let bytes = bytes.clone();
                victim.runtime.spawn(async move {
                    // Nobody learns that these are not its bytes.
                    let digest = blob(number.to_string()).0;
                    let name = format!(
                        "uploads/{number}/blobs/{}/{}/{SIZE}",
                        FUNCTION.name(),
                        digest.hash_hex(),
                    );
                    let messages = (0..MESSAGES).map(move |place| WriteRequest {
                        resource_name: name.clone(),
                        write_offset: i64::try_from(place * MESSAGE as u64).unwrap(),
                        finish_write: false,
                        data: bytes.clone(),
                    });
                    // The rest never comes.
                    let endless = stream::iter(messages).chain(stream::pending());
                    let request = caller.request(endless);
                    caller.bytes().write(request).await
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(3)).await;
        for task in &waiting {
            task.abort();
        }
    });
    // It is less than what was sent.
    let on_way = CONNECTIONS * (AHEAD + UPLOADS_OF_EACH * MESSAGE as u64);
    victim.stands_against("5 MB of 288 uploads each", on_way);
}

#[test]
fn bombs_are_defused() {
    let victim = Victim::start(&[]);
    let caller = victim.caller();
    // Some kilobytes that become a gigabyte.
    let zeros = vec![0; 64 << 20];
    let frame = zstd_of(&zeros);
    let bomb = Bytes::from(frame.repeat(16));
    let (small, _) = blob("a small one");
    victim.runtime.block_on(async {
        for size in [small.size, 64 << 20] {
            let digest = CasDigest { size, ..small };
            let write = WriteRequest {
                resource_name: format!(
                    "uploads/bomb/compressed-blobs/zstd/{}/{}/{size}",
                    FUNCTION.name(),
                    digest.hash_hex()
                ),
                write_offset: 0,
                finish_write: true,
                data: bomb.clone(),
            };
            let write = caller.request(stream::iter([write]));
            caller.bytes().write(write).await.unwrap_err();
        }
        let one = reapi::batch_update_blobs_request::Request {
            digest: Some(digest_to_wire(&small)),
            data: bomb.clone(),
            compressor: reapi::compressor::Value::Zstd.into(),
        };
        let batch = caller.request(reapi::BatchUpdateBlobsRequest {
            instance_name: String::new(),
            requests: vec![one; 20],
            digest_function: Caller::function(),
        });
        if let Ok(answer) = caller.cas().batch_update_blobs(batch).await {
            for one in answer.into_inner().responses {
                assert_ne!(one.status.unwrap_or_default().code, 0);
            }
        }
    });
    victim.stands("bombs");
}

#[test]
fn huge_requests_are_refused() {
    let victim = Victim::start(&[]);
    let caller = victim.caller();
    let some = blob(noise(5, 1_000_000));
    victim.runtime.block_on(async {
        caller.upload(std::slice::from_ref(&some)).await.unwrap();
        // A small question with an answer of ten gigabytes.
        caller.read_many(&vec![some.0; 10_000]).await.unwrap_err();
        // More than a message may have.
        let large = blob(noise(6, 20_000_000));
        caller.upload(&[large]).await.unwrap_err();
        let many = vec![some.0; 200_000];
        caller.missing(&many).await.unwrap_err();
        let probe = caller.request(ext::ProbeRequest {
            actions: vec![digest_to_wire(&action("x")); 10_001],
            digest_function: Caller::function(),
            ..ext::ProbeRequest::default()
        });
        let answer = caller.results().probe(probe).await;
        assert_eq!(answer.unwrap_err().code(), Code::InvalidArgument);
        // A blob of a terabyte, of a chunk that is there, a million times.
        let whole = CasDigest {
            size: some.0.size << 20,
            ..some.0
        };
        for count in [3, 50_000] {
            let splice = caller.request(reapi::SpliceBlobRequest {
                blob_digest: Some(digest_to_wire(&whole)),
                chunk_digests: vec![digest_to_wire(&some.0); count],
                digest_function: Caller::function(),
                ..reapi::SpliceBlobRequest::default()
            });
            caller.cas().splice_blob(splice).await.unwrap_err();
        }
        // Names, keys and headers that are longer than any name, key or header.
        let long = "x".repeat(1 << 20);
        caller.acquire(&long, PATIENCE).await.unwrap_err();
        caller.within(&long).probe(&some.0).await.unwrap_err();
        for size in [20_000, 1 << 20] {
            let mut request = caller.request(reapi::GetCapabilitiesRequest::default());
            let value = MetadataValue::try_from("x".repeat(size)).unwrap();
            request.metadata_mut().insert("x-large", value);
            let mut capabilities = caller.capabilities();
            capabilities.get_capabilities(request).await.unwrap_err();
        }
        let answer = caller.with_token(&long).probe(&some.0).await;
        answer.unwrap_err();
    });
    victim.stands("huge requests");
}

/// Connections are few here; those who hold them and say nothing, or say it slowly, do not keep
/// others out for ever.
#[test]
fn connections_that_say_nothing_do_not_keep_others_out() {
    let victim = Victim::start(&["--max-connections", "40"]);
    let address = ("127.0.0.1", victim.server.port());
    let starts: [&[u8]; 4] = [
        b"",
        b"PRI * HTTP/2.0\r\n\r\nSM",
        b"POST /build.bazel.remote.execution.v2.ActionCache/GetActionResult HTTP/1.1\r\n",
        b"GET /readyz HTTP/1.1\r\nx: ",
    ];
    let held: Vec<TcpStream> = (0..80)
        .map(|number| {
            let mut stream = TcpStream::connect(address).unwrap();
            drop(stream.write_all(starts[number % starts.len()]));
            stream
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(90);
    let caller = victim.caller();
    loop {
        let answer = victim.runtime.block_on(caller.probe(&action("x")));
        match answer {
            Ok(found) => break assert_eq!(found, None),
            Err(status) => assert!(Instant::now() < deadline, "kept out: {status}"),
        }
    }
    drop(held);
    victim.stands("silent connections");
}
