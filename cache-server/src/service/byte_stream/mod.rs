//! `ByteStream`: blobs in streams.
//!
//! | module | subject |
//! |---|---|
//! | [`upload`] | blobs that are being written, also over several connections |
//! | here | the calls, and reading |

pub mod upload;

use std::pin::Pin;

use ashlar_proto::resource_name::{BlobName, Compressor, UploadName};
use ashlar_proto::wire::bytestream;
use ashlar_proto::wire::bytestream::byte_stream_server::ByteStream;
use ashlar_store::blob_store::{self, ByteRange};
use ashlar_store::{Fault, FaultKind};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use tonic::{Request, Response, Status, Streaming, async_trait};

use self::upload::Uploads;
use super::compression::{Deflater, Inflater};
use super::content_addressable_storage::check_blob_size;
use crate::auth::Right;
use crate::stores::Stores;
use crate::stores::view::View;
use crate::{limits, status};

/// The service.
#[derive(Debug, Clone)]
pub struct ByteStreamService {
    /// What it serves from.
    pub stores: Stores,
    /// Blobs that are being written.
    pub uploads: Uploads,
    /// The largest blob that is taken; 0 for any.
    pub max_blob: u64,
}

#[async_trait]
impl ByteStream for ByteStreamService {
    type ReadStream = Pin<Box<dyn Stream<Item = Result<bytestream::ReadResponse, Status>> + Send>>;

    async fn read(
        &self,
        request: Request<bytestream::ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let name: BlobName = request
            .get_ref()
            .resource_name
            .parse()
            .map_err(|error| status::of_name(&error))?;
        let view = self.stores.open(&request, &name.instance, Right::Read)?;
        let request = request.into_inner();
        let offset = u64::try_from(request.read_offset)
            .map_err(|_| Status::invalid_argument("read_offset is negative"))?;
        let limit = u64::try_from(request.read_limit)
            .map_err(|_| Status::invalid_argument("read_limit is negative"))?;
        if offset > name.blob.size {
            return Err(Status::out_of_range(format!(
                "read_offset is behind the end of the blob, which has {} bytes",
                name.blob.size
            )));
        }
        let range = ByteRange {
            offset,
            limit: (limit > 0).then_some(limit),
        };
        let rest = name.blob.size - offset;
        view.charge(range.limit.map_or(rest, |limit| limit.min(rest)))?;
        let open = || async {
            let bytes = view.blobs().read(&name.blob, range).await;
            bytes.map_err(|fault| status::of_fault(&fault))
        };
        let bytes = match name.compressor {
            Compressor::Identity => in_pieces(open().await?),
            Compressor::Zstd if limit > 0 => {
                return Err(Status::invalid_argument(
                    "read_limit has to be 0 where the blob is read compressed",
                ));
            }
            Compressor::Zstd => compressed(open().await?, name.blob.size - offset)?,
        };
        let answers = bytes.map(|piece| match piece {
            Ok(data) => Ok(bytestream::ReadResponse { data }),
            Err(fault) => Err(status::of_fault(&fault)),
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn write(
        &self,
        request: Request<Streaming<bytestream::WriteRequest>>,
    ) -> Result<Response<bytestream::WriteResponse>, Status> {
        let (metadata, extensions, mut messages) = request.into_parts();
        let Some(first) = messages.message().await? else {
            return Err(Status::invalid_argument("the stream has no request"));
        };
        let name: UploadName = first
            .resource_name
            .parse()
            .map_err(|error| status::of_name(&error))?;
        let sender = Request::from_parts(metadata, extensions, ());
        let view = self.stores.open_to_upload(&sender, &name.blob.instance)?;
        check_blob_size(&name.blob.blob, self.max_blob)?;
        if is_there(&view, &name).await? {
            return Ok(there(&name));
        }
        let offset = u64::try_from(first.write_offset)
            .map_err(|_| Status::invalid_argument("write_offset is negative"))?;
        view.charge(name.blob.blob.size.saturating_sub(offset))?;
        match name.blob.compressor {
            Compressor::Identity => {
                self.write_plain(&view, &name, offset, first, messages)
                    .await
            }
            Compressor::Zstd => self.write_compressed(&view, &name, first, messages).await,
        }
    }

    async fn query_write_status(
        &self,
        request: Request<bytestream::QueryWriteStatusRequest>,
    ) -> Result<Response<bytestream::QueryWriteStatusResponse>, Status> {
        let name: UploadName = request
            .get_ref()
            .resource_name
            .parse()
            .map_err(|error| status::of_name(&error))?;
        let view = self.stores.open_to_upload(&request, &name.blob.instance)?;
        let complete = is_there(&view, &name).await?;
        let committed = if complete {
            name.blob.blob.size
        } else {
            self.uploads.committed(&session(&view, &name)).unwrap_or(0)
        };
        Ok(Response::new(bytestream::QueryWriteStatusResponse {
            committed_size: signed(committed),
            complete,
        }))
    }
}

/// Sizes on the wire are signed.
fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// The answer for a blob that is there already.
fn there(name: &UploadName) -> Response<bytestream::WriteResponse> {
    let committed_size = match name.blob.compressor {
        Compressor::Identity => signed(name.blob.blob.size),
        Compressor::Zstd => -1,
    };
    Response::new(bytestream::WriteResponse { committed_size })
}

async fn is_there(view: &View, name: &UploadName) -> Result<bool, Status> {
    let asked = [name.blob.blob];
    let missing = view.blobs().missing(&asked).await;
    Ok(missing
        .map_err(|fault| status::of_fault(&fault))?
        .is_empty())
}

/// What an upload that may be taken up again is known by: nobody else can take it up.
fn session(view: &View, name: &UploadName) -> String {
    // The resource's name has the instance in it, and no line breaks.
    format!("{name}\n{}", view.caller().name())
}

impl ByteStreamService {
    /// Takes a blob as it is. An upload that breaks off can be taken up again.
    async fn write_plain(
        &self,
        view: &View,
        name: &UploadName,
        offset: u64,
        first: bytestream::WriteRequest,
        mut messages: Streaming<bytestream::WriteRequest>,
    ) -> Result<Response<bytestream::WriteResponse>, Status> {
        let session = session(view, name);
        let mut upload = self
            .uploads
            .attach(&session, view.blobs(), &name.blob.blob, offset)
            .await?;
        let mut message = first;
        loop {
            check_message(&message, name, upload.position())?;
            let last = message.finish_write;
            if !message.data.is_empty() {
                // A store that takes no more says why in the end.
                if !upload.send(message.data).await? {
                    return upload.finish().await.map(|size| written(signed(size)));
                }
            }
            if last {
                return upload.finish().await.map(|size| written(signed(size)));
            }
            let next = tokio::select! {
                next = messages.message() => next,
                () = upload.taken_over() => {
                    return Err(Status::aborted("the upload goes on over another connection"));
                }
            };
            match next {
                Ok(Some(next)) => message = next,
                // All is there, though the client did not say that it is.
                Ok(None) if upload.position() == name.blob.blob.size => {
                    return upload.finish().await.map(|size| written(signed(size)));
                }
                Ok(None) => return Ok(written(signed(upload.suspend()))),
                Err(status) => {
                    upload.suspend();
                    return Err(status);
                }
            }
        }
    }

    /// Takes a compressed blob. One that breaks off has to start again: an offset in compressed
    /// bytes says nothing about another compressor's.
    async fn write_compressed(
        &self,
        view: &View,
        name: &UploadName,
        first: bytestream::WriteRequest,
        mut messages: Streaming<bytestream::WriteRequest>,
    ) -> Result<Response<bytestream::WriteResponse>, Status> {
        let size = name.blob.blob.size;
        let mut inflater = Inflater::new(size)
            .map_err(|error| status::of_fault(&internal("cannot unpack").caused_by(error)))?;
        let mut upload = self.uploads.detached(view.blobs(), &name.blob.blob);
        // What no compressor makes of so many bytes.
        let most = size.saturating_mul(2).saturating_add(1 << 16);
        let mut received = 0_u64;
        let mut message = first;
        loop {
            check_message(&message, name, received)?;
            received += message.data.len() as u64;
            if received > most {
                return Err(Status::invalid_argument(
                    "the compressed blob is far longer than the blob itself",
                ));
            }
            let mut input = message.data;
            while let Some(piece) = inflater
                .next(&mut input)
                .map_err(|error| Status::invalid_argument(error.to_string()))?
            {
                if !upload.send(piece).await? {
                    upload.finish().await?;
                    return Ok(written(signed(received)));
                }
            }
            if message.finish_write {
                break;
            }
            match messages.message().await? {
                Some(next) => message = next,
                None if upload.position() == size => break,
                None => {
                    return Err(Status::invalid_argument(
                        "the stream ended before the blob did",
                    ));
                }
            }
        }
        inflater
            .finish()
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        upload.finish().await?;
        Ok(written(signed(received)))
    }
}

fn written(committed_size: i64) -> Response<bytestream::WriteResponse> {
    Response::new(bytestream::WriteResponse { committed_size })
}

fn internal(message: &str) -> Fault {
    Fault::new(FaultKind::Internal, message)
}

/// Fails if a message does not go on where the last one ended.
fn check_message(
    message: &bytestream::WriteRequest,
    name: &UploadName,
    expected: u64,
) -> Result<(), Status> {
    if !message.resource_name.is_empty() {
        let same = message.resource_name.parse::<UploadName>().as_ref() == Ok(name);
        if !same {
            return Err(Status::invalid_argument(
                "the resource name changed within the stream",
            ));
        }
    }
    if u64::try_from(message.write_offset) != Ok(expected) {
        return Err(Status::invalid_argument(format!(
            "write_offset is {}, but {expected} bytes have been written",
            message.write_offset
        )));
    }
    Ok(())
}

/// The same bytes in pieces that are no larger than they should be on the wire.
fn in_pieces(bytes: blob_store::ByteStream) -> blob_store::ByteStream {
    Box::pin(bytes.flat_map(|piece| {
        let pieces: Vec<Result<Bytes, Fault>> = match piece {
            Ok(mut bytes) => {
                let mut pieces = Vec::with_capacity(bytes.len() / limits::PIECE + 1);
                while bytes.len() > limits::PIECE {
                    pieces.push(Ok(bytes.split_to(limits::PIECE)));
                }
                pieces.push(Ok(bytes));
                pieces
            }
            Err(fault) => vec![Err(fault)],
        };
        stream::iter(pieces)
    }))
}

/// The same bytes compressed; `size` of them will come.
fn compressed(bytes: blob_store::ByteStream, size: u64) -> Result<blob_store::ByteStream, Status> {
    let failed = |error| internal("cannot compress a blob").caused_by(error);
    let deflater = Deflater::new(size).map_err(|error| status::of_fault(&failed(error)))?;
    let packed = stream::unfold(
        Some((in_pieces(bytes), deflater)),
        move |state| async move {
            let (mut bytes, mut deflater) = state?;
            loop {
                match bytes.next().await {
                    Some(Ok(piece)) => match deflater.push(&piece) {
                        Ok(packed) if packed.is_empty() => {}
                        Ok(packed) => return Some((Ok(packed), Some((bytes, deflater)))),
                        Err(error) => return Some((Err(failed(error)), None)),
                    },
                    Some(Err(fault)) => return Some((Err(fault), None)),
                    None => return Some((deflater.finish().map_err(failed), None)),
                }
            }
        },
    );
    Ok(in_pieces(Box::pin(packed)))
}
