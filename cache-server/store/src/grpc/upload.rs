//! Large blobs to a server: a stream that goes on after a break.
//!
//! What the server may not have taken yet is kept, up to a limit. When the connection breaks, the
//! server is asked how much it has, and gets the rest. If it has less than what is still kept, the
//! upload fails, and whoever wants it starts again.
//!
//! The bytes are checked as they pass. The last message, which says that the blob is whole, is only
//! sent if they are right.

use std::collections::VecDeque;
use std::fmt::Write as _;

use ashlar_model::cas::CasDigest;
use ashlar_proto::resource_name::{BlobName, Compressor, UploadName};
use ashlar_proto::wire::bytestream::byte_stream_client::ByteStreamClient;
use ashlar_proto::wire::bytestream::{QueryWriteStatusRequest, WriteRequest, WriteResponse};
use bytes::Bytes;
use futures::future::{Either, select};
use futures::{StreamExt as _, stream};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::sync::mpsc;
use tokio::time::{Duration, sleep, timeout};
use tonic::{Response, Status};

use super::zstd;
use super::{GrpcEndpoint, fault_of};
use crate::blob_store::ByteStream;
use crate::checked::Check;
use crate::fault::{Fault, FaultKind, in_one_line};

/// Messages have so many bytes: fewer cost calls, more cost copies.
const MESSAGE: usize = 256 << 10;

/// So many bytes are kept to be sent again.
const KEPT: u64 = 16 << 20;

/// A stream that breaks is taken up again so often.
const ATTEMPTS: u32 = 3;

const WHAT: &str = "store a blob";

/// Sends a blob.
pub(super) async fn write(
    endpoint: &GrpcEndpoint,
    blob: &CasDigest,
    bytes: ByteStream,
) -> Result<(), Fault> {
    if let Some(largest) = endpoint.capabilities().largest_blob
        && blob.size > largest
    {
        return Err(Fault::new(
            FaultKind::Exhausted,
            format!("{blob} is too large for the server, which takes {largest} bytes"),
        ));
    }
    let zstd = endpoint.settings().compression && endpoint.capabilities().zstd_streams;
    let name = UploadName {
        uuid: random_uuid()?,
        blob: BlobName {
            instance: endpoint.instance().to_owned(),
            compressor: if zstd {
                Compressor::Zstd
            } else {
                Compressor::Identity
            },
            blob: *blob,
        },
    };
    let mut upload = Upload {
        endpoint,
        blob: *blob,
        name: name.to_string(),
        source: Source {
            bytes,
            check: Some(Check::new(blob)),
            compressor: zstd.then(zstd::Compressor::new).transpose()?,
            rest: Bytes::new(),
        },
        kept: VecDeque::new(),
        kept_from: 0,
        made: 0,
        is_whole: false,
    };
    let mut from = 0;
    let mut attempt = 0;
    loop {
        let fault = match upload.attempt(from).await {
            Ok(()) => return Ok(()),
            Err(fault) => fault,
        };
        attempt += 1;
        if fault.kind != FaultKind::Unavailable || attempt >= ATTEMPTS {
            return Err(fault);
        }
        tracing::debug!(error = in_one_line(&fault), "going on with an upload");
        sleep(Duration::from_millis(100) * attempt).await;
        match resume(endpoint, &upload.name).await? {
            Some(committed) => from = committed,
            None => return Ok(()),
        }
        if from < upload.kept_from || from > upload.made {
            return Err(fault);
        }
    }
}

fn random_uuid() -> Result<String, Fault> {
    let mut bytes = [0_u8; 16];
    let got = getrandom(&mut bytes, GetRandomFlags::empty()).map_err(|errno| {
        Fault::new(FaultKind::Internal, "the kernel gives no random numbers").caused_by(errno)
    })?;
    debug_assert_eq!(got, bytes.len(), "getrandom(2): up to 256 bytes come whole");
    // The marks of a random UUID, version 4.
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (place, byte) in bytes.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// What is sent, as it travels.
struct Source {
    bytes: ByteStream,
    /// `None` once all has come.
    check: Option<Check>,
    compressor: Option<zstd::Compressor>,
    /// What did not fit into the last message.
    rest: Bytes,
}

impl Source {
    /// The next bytes to send; `None` once all were given and were the right ones.
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        while self.rest.is_empty() {
            let Some(check) = &mut self.check else {
                return Ok(None);
            };
            match self.bytes.next().await {
                Some(piece) => {
                    let piece = piece?;
                    check.update(&piece)?;
                    self.rest = match &mut self.compressor {
                        Some(compressor) => compressor.push(&piece)?,
                        None => piece,
                    };
                }
                None => {
                    if let Some(check) = self.check.take() {
                        check.finish()?;
                    }
                    if let Some(compressor) = self.compressor.take() {
                        self.rest = compressor.finish()?;
                    }
                }
            }
        }
        let length = self.rest.len().min(MESSAGE);
        Ok(Some(self.rest.split_to(length)))
    }
}

struct Upload<'a> {
    endpoint: &'a GrpcEndpoint,
    blob: CasDigest,
    name: String,
    source: Source,
    /// Messages that may have to be sent again; the first begins at `kept_from`.
    kept: VecDeque<Bytes>,
    kept_from: u64,
    /// How many bytes came out of the source.
    made: u64,
    /// Whether the source is at its end.
    is_whole: bool,
}

/// How sending ended.
enum Sent {
    /// All was sent.
    Whole,
    /// The server does not listen any more; it has something to say.
    NotHeard,
}

impl Upload<'_> {
    /// Sends what follows the first `from` bytes.
    async fn attempt(&mut self, from: u64) -> Result<(), Fault> {
        let (messages, mut queue) = mpsc::channel::<WriteRequest>(2);
        let stream = stream::poll_fn(move |context| queue.poll_recv(context));
        let mut client = ByteStreamClient::new(self.endpoint.channel());
        let stall = self.endpoint.settings().stall_timeout;
        let patience = self.endpoint.settings().call_timeout;
        let call = Box::pin(async move { client.write(stream).await });
        // On the way out the call goes before `messages`: the server must not see the end of a
        // stream that was broken off.
        let sending = Box::pin(self.send(from, messages.clone(), stall));
        let answer = match select(call, sending).await {
            Either::Left((answer, _)) => answer,
            Either::Right((sent, call)) => {
                sent?;
                drop(messages);
                match timeout(patience, call).await {
                    Ok(answer) => answer,
                    Err(_) => {
                        return Err(Fault::new(
                            FaultKind::Unavailable,
                            format!("cannot {WHAT}: no answer within {patience:?}"),
                        ));
                    }
                }
            }
        };
        self.judge(answer)
    }

    /// Whether the server's answer says that it has the blob.
    fn judge(&self, answer: Result<Response<WriteResponse>, Status>) -> Result<(), Fault> {
        let committed = match answer {
            Ok(response) => response.into_inner().committed_size,
            Err(status) => return Err(fault_of(WHAT, status)),
        };
        // A server that has the blob already says its size before it has heard all, or -1 if it is
        // compressed on its way.
        let size = i64::try_from(self.blob.size).unwrap_or(i64::MAX);
        let sent = i64::try_from(self.made).unwrap_or(i64::MAX);
        let is_compressed =
            self.endpoint.settings().compression && self.endpoint.capabilities().zstd_streams;
        if committed == size
            || (is_compressed && committed == -1)
            || (self.is_whole && committed == sent)
        {
            return Ok(());
        }
        Err(Fault::new(
            FaultKind::Internal,
            format!("the server took {committed} bytes of {}", self.blob),
        ))
    }

    async fn send(
        &mut self,
        from: u64,
        messages: mpsc::Sender<WriteRequest>,
        stall: Duration,
    ) -> Result<Sent, Fault> {
        let mut offset = from;
        let mut name = self.name.clone();
        let mut request = |offset: u64, data: Bytes, finish_write: bool| WriteRequest {
            // Only the first message need say it.
            resource_name: std::mem::take(&mut name),
            write_offset: i64::try_from(offset).unwrap_or(i64::MAX),
            finish_write,
            data,
        };
        let push = async |message: WriteRequest| match timeout(stall, messages.send(message)).await
        {
            Ok(Ok(())) => Ok(Sent::Whole),
            Ok(Err(_)) => Ok(Sent::NotHeard),
            Err(_) => Err(Fault::new(
                FaultKind::Unavailable,
                format!("cannot {WHAT}: the server took nothing for {stall:?}"),
            )),
        };
        // What was made before, but the server does not have.
        let mut again = Vec::new();
        let mut begin = self.kept_from;
        for piece in &self.kept {
            let end = begin + piece.len() as u64;
            if end > offset {
                let skip = usize::try_from(offset.saturating_sub(begin)).unwrap_or(0);
                again.push(piece.slice(skip..));
            }
            begin = end;
        }
        for data in again {
            let length = data.len() as u64;
            if let Sent::NotHeard = push(request(offset, data, false)).await? {
                return Ok(Sent::NotHeard);
            }
            offset += length;
        }
        while !self.is_whole {
            match self.source.next().await? {
                Some(data) => {
                    self.keep(data.clone());
                    let length = data.len() as u64;
                    if let Sent::NotHeard = push(request(offset, data, false)).await? {
                        return Ok(Sent::NotHeard);
                    }
                    offset += length;
                }
                None => self.is_whole = true,
            }
        }
        push(request(offset, Bytes::new(), true)).await
    }

    fn keep(&mut self, piece: Bytes) {
        self.made += piece.len() as u64;
        self.kept.push_back(piece);
        while self.made - self.kept_from > KEPT {
            let Some(oldest) = self.kept.pop_front() else {
                break;
            };
            self.kept_from += oldest.len() as u64;
        }
    }
}

/// How much the server has of an upload; `None` if it has all.
async fn resume(endpoint: &GrpcEndpoint, name: &str) -> Result<Option<u64>, Fault> {
    let request = QueryWriteStatusRequest {
        resource_name: name.to_owned(),
    };
    let answer = endpoint
        .call("ask how much of a blob is stored", || {
            let mut client = ByteStreamClient::new(endpoint.channel());
            let request = request.clone();
            async move { client.query_write_status(request).await }
        })
        .await;
    match answer {
        Ok(status) if status.complete => Ok(None),
        Ok(status) => Ok(Some(u64::try_from(status.committed_size).unwrap_or(0))),
        // It knows nothing of it, or cannot say.
        Err(fault) if matches!(fault.kind, FaultKind::NotFound | FaultKind::Unsupported) => {
            Ok(Some(0))
        }
        Err(fault) => Err(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_random_ones() {
        let (one, other) = (random_uuid().unwrap(), random_uuid().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), 36);
        assert_eq!(&one[14..15], "4");
        assert!(matches!(&one[19..20], "8" | "9" | "a" | "b"));
    }
}
