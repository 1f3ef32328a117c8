//! Large blobs from a server: a stream that goes on after a break.
//!
//! Whole blobs are compressed on their way if both sides can, and checked at the end. A part of a
//! blob comes as it is; it cannot be checked but for its length.

use std::pin::Pin;

use ashlar_model::cas::CasDigest;
use ashlar_proto::resource_name::{BlobName, Compressor};
use ashlar_proto::wire::bytestream::byte_stream_client::ByteStreamClient;
use ashlar_proto::wire::bytestream::{ReadRequest, ReadResponse};
use bytes::Bytes;
use futures::stream;
use tokio::time::{Duration, sleep, timeout};
use tonic::Streaming;

use super::channel::GrpcChannel;
use super::zstd::Decompressor;
use super::{GrpcEndpoint, LONGEST_MESSAGE, fault_of};
use crate::blob_store::ByteStream;
use crate::checked::checked;
use crate::fault::{Fault, FaultKind, in_one_line};

/// A stream that breaks is taken up again so often without having brought anything.
const ATTEMPTS: u32 = 3;

/// Reads the bytes of a blob from `start` up to `end`.
pub(super) async fn read(
    endpoint: &GrpcEndpoint,
    blob: CasDigest,
    start: u64,
    end: u64,
) -> Result<ByteStream, Fault> {
    let is_whole = start == 0 && end == blob.size;
    let compresses = endpoint.settings().compression && endpoint.capabilities().zstd_streams;
    let mut download = Download {
        client: ByteStreamClient::new(endpoint.channel())
            .max_decoding_message_size(LONGEST_MESSAGE),
        instance: endpoint.instance().to_owned(),
        blob,
        // A limit cannot be given for compressed bytes.
        zstd: compresses && end == blob.size,
        next: start,
        end,
        stall: endpoint.settings().stall_timeout,
        failures: 0,
        open: None,
        has_ended: false,
    };
    // Whether the blob is there shows now, not when the stream is read.
    download.reopen().await?;
    let pieces: ByteStream = Box::pin(stream::unfold(download, |mut download| async move {
        let piece = download.next().await?;
        Some((piece, download))
    }));
    Ok(if is_whole {
        checked(&blob, pieces)
    } else {
        pieces
    })
}

struct Download {
    client: ByteStreamClient<GrpcChannel>,
    instance: String,
    blob: CasDigest,
    zstd: bool,
    /// Where the next byte to come is in the blob.
    next: u64,
    end: u64,
    stall: Duration,
    /// Breaks since the last byte came.
    failures: u32,
    open: Option<Open>,
    has_ended: bool,
}

struct Open {
    messages: Pin<Box<Streaming<ReadResponse>>>,
    decompressor: Option<Decompressor>,
}

impl Download {
    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Option<Result<Bytes, Fault>> {
        while !self.has_ended && self.next < self.end {
            match self.step().await {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => {
                    self.failures = 0;
                    self.next += bytes.len() as u64;
                    return Some(Ok(bytes));
                }
                Err(fault) => {
                    self.open = None;
                    self.failures += 1;
                    if fault.kind != FaultKind::Unavailable || self.failures >= ATTEMPTS {
                        self.has_ended = true;
                        return Some(Err(fault));
                    }
                    tracing::debug!(error = in_one_line(&fault), "going on with a download");
                    sleep(Duration::from_millis(100) * self.failures).await;
                }
            }
        }
        None
    }

    async fn reopen(&mut self) -> Result<(), Fault> {
        const WHAT: &str = "read a blob";
        let name = BlobName {
            instance: self.instance.clone(),
            compressor: if self.zstd {
                Compressor::Zstd
            } else {
                Compressor::Identity
            },
            blob: self.blob,
        };
        let left = self.end - self.next;
        let request = ReadRequest {
            resource_name: name.to_string(),
            read_offset: i64::try_from(self.next).unwrap_or(i64::MAX),
            read_limit: if self.zstd || self.end == self.blob.size {
                0
            } else {
                i64::try_from(left).unwrap_or(i64::MAX)
            },
        };
        let messages = match timeout(self.stall, self.client.read(request)).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return Err(fault_of(WHAT, status)),
            Err(_) => return Err(self.stalled()),
        };
        self.open = Some(Open {
            messages: Box::pin(messages),
            decompressor: self.zstd.then(|| Decompressor::new(left)).transpose()?,
        });
        Ok(())
    }

    fn stalled(&self) -> Fault {
        Fault::new(
            FaultKind::Unavailable,
            format!("cannot read a blob: nothing came for {:?}", self.stall),
        )
    }

    /// Some bytes, or none if a message had none.
    async fn step(&mut self) -> Result<Bytes, Fault> {
        if self.open.is_none() {
            self.reopen().await?;
        }
        let stalled = self.stalled();
        let Some(open) = &mut self.open else {
            return Ok(Bytes::new());
        };
        let message = match timeout(self.stall, open.messages.message()).await {
            Ok(Ok(Some(message))) => message.data,
            Ok(Ok(None)) => {
                return Err(Fault::invalid(format!(
                    "the server's bytes of {} end too early",
                    self.blob
                )));
            }
            Ok(Err(status)) => return Err(fault_of("read a blob", status)),
            Err(_) => return Err(stalled),
        };
        let bytes = match &mut open.decompressor {
            Some(decompressor) => decompressor.push(&message)?,
            None => message,
        };
        if bytes.len() as u64 > self.end - self.next {
            return Err(Fault::invalid(format!(
                "the server's bytes of {} are too many",
                self.blob
            )));
        }
        Ok(bytes)
    }
}
