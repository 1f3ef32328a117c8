//! `ContentAddressableStorage`: blobs in batches, trees, chunks.

use std::collections::HashSet;
use std::pin::Pin;

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_proto::convert::{digest_from_wire, digest_to_wire};
use ashlar_proto::wire::reapi;
use ashlar_proto::wire::reapi::batch_read_blobs_response::Response as ReadItem;
use ashlar_proto::wire::reapi::batch_update_blobs_request::Request as UpdateItem;
use ashlar_proto::wire::reapi::batch_update_blobs_response::Response as UpdateOutcome;
use ashlar_proto::wire::reapi::chunking_function;
use ashlar_proto::wire::reapi::compressor::Value as Compressor;
use ashlar_proto::wire::reapi::content_addressable_storage_server::ContentAddressableStorage;
use bytes::Bytes;
use futures::{Stream, stream};
use prost::Message as _;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::byte_stream::upload::Uploads;
use super::request::{digest, digests, function};
use super::{chunks, compression};
use crate::auth::Right;
use crate::stores::Stores;
use crate::stores::view::View;
use crate::{limits, status};

/// Digests of chunks in one message: well below what a message may have.
const CHUNKS_IN_MESSAGE: usize = 10_000;

/// Blobs below this are not worth compressing on their way out.
const WORTH_COMPRESSING: usize = 1 << 10;

/// The service.
#[derive(Debug, Clone)]
pub struct CasService {
    /// What it serves from.
    pub stores: Stores,
    /// Blobs on their way: batches count against the same memory.
    pub uploads: Uploads,
    /// The largest blob that is taken; 0 for any.
    pub max_blob: u64,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[async_trait]
impl ContentAddressableStorage for CasService {
    async fn find_missing_blobs(
        &self,
        request: Request<reapi::FindMissingBlobsRequest>,
    ) -> Result<Response<reapi::FindMissingBlobsResponse>, Status> {
        let instance = &request.get_ref().instance_name;
        let view = self.stores.open(&request, instance, Right::Read)?;
        let request = request.into_inner();
        let asked = digests(&request.blob_digests, function(request.digest_function)?)?;
        let missing = view.blobs().missing(&asked).await;
        let missing = missing.map_err(|fault| status::of_fault(&fault))?;
        Ok(Response::new(reapi::FindMissingBlobsResponse {
            missing_blob_digests: missing.iter().map(digest_to_wire).collect(),
        }))
    }

    async fn batch_update_blobs(
        &self,
        request: Request<reapi::BatchUpdateBlobsRequest>,
    ) -> Result<Response<reapi::BatchUpdateBlobsResponse>, Status> {
        let instance = &request.get_ref().instance_name;
        let view = self.stores.open_to_upload(&request, instance)?;
        let request = request.into_inner();
        let function = function(request.digest_function)?;
        let bytes = check_update_size(&request.requests)?;
        view.charge(bytes)?;
        let _memory = self.uploads.reserve(bytes).await?;

        let mut outcomes = Vec::with_capacity(request.requests.len());
        let mut blobs = Vec::new();
        // Which outcome belongs to which blob.
        let mut places = Vec::new();
        for (place, item) in request.requests.into_iter().enumerate() {
            let digest = item.digest.clone();
            let outcome = match unpacked(item, function) {
                Ok(blob) => {
                    places.push(place);
                    blobs.push(blob);
                    status::of_item(Ok(()))
                }
                Err(status) => status::of_item(Err(&status)),
            };
            outcomes.push(UpdateOutcome {
                digest,
                status: Some(outcome),
            });
        }
        let written = view.blobs().write_many(blobs).await;
        for (place, written) in places.into_iter().zip(written) {
            if let (Err(fault), Some(outcome)) = (written, outcomes.get_mut(place)) {
                outcome.status = Some(status::of_item(Err(&status::of_fault(&fault))));
            }
        }
        Ok(Response::new(reapi::BatchUpdateBlobsResponse {
            responses: outcomes,
        }))
    }

    async fn batch_read_blobs(
        &self,
        request: Request<reapi::BatchReadBlobsRequest>,
    ) -> Result<Response<reapi::BatchReadBlobsResponse>, Status> {
        let instance = &request.get_ref().instance_name;
        let view = self.stores.open(&request, instance, Right::Read)?;
        let request = request.into_inner();
        let asked = digests(&request.digests, function(request.digest_function)?)?;
        let total = asked
            .iter()
            .fold(0_u64, |total, blob| total.saturating_add(blob.size));
        if total > limits::BATCH {
            return Err(too_large(total));
        }
        view.charge(total)?;
        let _memory = self.uploads.reserve(total).await?;
        let zstd = request
            .acceptable_compressors
            .contains(&Compressor::Zstd.into());
        let read = view.blobs().read_many(&asked).await;
        let responses = request.digests.into_iter().zip(read);
        let responses = responses.map(|(digest, read)| {
            let (data, compressor, outcome) = match read {
                Ok(bytes) => {
                    let (data, compressor) = packed(bytes, zstd);
                    (data, compressor, status::of_item(Ok(())))
                }
                Err(fault) => (
                    Bytes::new(),
                    Compressor::Identity,
                    status::of_item(Err(&status::of_fault(&fault))),
                ),
            };
            ReadItem {
                digest: Some(digest),
                data,
                compressor: compressor.into(),
                status: Some(outcome),
            }
        });
        Ok(Response::new(reapi::BatchReadBlobsResponse {
            responses: responses.collect(),
        }))
    }

    type GetTreeStream = Answers<reapi::GetTreeResponse>;

    async fn get_tree(
        &self,
        request: Request<reapi::GetTreeRequest>,
    ) -> Result<Response<Self::GetTreeStream>, Status> {
        let instance = &request.get_ref().instance_name;
        let view = self.stores.open(&request, instance, Right::Read)?;
        let request = request.into_inner();
        let root = digest(
            request.root_digest.as_ref(),
            function(request.digest_function)?,
            "root_digest",
        )?;
        let page = usize::try_from(request.page_size)
            .map_err(|_| Status::invalid_argument("page_size is negative"))?;
        let skip = if request.page_token.is_empty() {
            0
        } else {
            let token = request.page_token.parse();
            token.map_err(|_| Status::invalid_argument("page_token is none of this server's"))?
        };
        let walk = Walk::start(view, root, page, skip).await?;
        let pages = stream::try_unfold(walk, |mut walk| async move {
            Ok(walk.next_page().await?.map(|page| (page, walk)))
        });
        Ok(Response::new(Box::pin(pages)))
    }

    async fn split_blob(
        &self,
        request: Request<reapi::SplitBlobRequest>,
    ) -> Result<Response<reapi::SplitBlobResponse>, Status> {
        let instance = &request.get_ref().instance_name;
        let view = self.stores.open(&request, instance, Right::Read)?;
        let request = request.into_inner();
        let blob = digest(
            request.blob_digest.as_ref(),
            function(request.digest_function)?,
            "blob_digest",
        )?;
        let chunks = chunks::of_blob(&view, &blob).await?;
        if chunks.len() > CHUNKS_IN_MESSAGE * 4 {
            return Err(Status::failed_precondition(
                "the list of chunks is too long for one message: use GetChunkMapping",
            ));
        }
        Ok(Response::new(reapi::SplitBlobResponse {
            chunk_digests: chunks.iter().map(digest_to_wire).collect(),
            chunking_function: chunking_function::Value::FastCdc2020.into(),
        }))
    }

    type GetChunkMappingStream = Answers<reapi::GetChunkMappingResponse>;

    async fn get_chunk_mapping(
        &self,
        request: Request<reapi::GetChunkMappingRequest>,
    ) -> Result<Response<Self::GetChunkMappingStream>, Status> {
        let instance = &request.get_ref().instance_name;
        let view = self.stores.open(&request, instance, Right::Read)?;
        let request = request.into_inner();
        let blob = digest(
            request.blob_digest.as_ref(),
            function(request.digest_function)?,
            "blob_digest",
        )?;
        let chunks = chunks::of_blob(&view, &blob).await?;
        let pages: Vec<_> = chunks
            .chunks(CHUNKS_IN_MESSAGE)
            .enumerate()
            .map(|(page, chunks)| {
                let function = if page == 0 {
                    chunking_function::Value::FastCdc2020
                } else {
                    chunking_function::Value::Unknown
                };
                Ok(reapi::GetChunkMappingResponse {
                    chunk_digests: chunks.iter().map(digest_to_wire).collect(),
                    chunking_function: function.into(),
                })
            })
            .collect();
        Ok(Response::new(Box::pin(stream::iter(pages))))
    }

    async fn splice_blob(
        &self,
        request: Request<reapi::SpliceBlobRequest>,
    ) -> Result<Response<reapi::SpliceBlobResponse>, Status> {
        let instance = &request.get_ref().instance_name;
        let view = self.stores.open_to_upload(&request, instance)?;
        let request = request.into_inner();
        let function = function(request.digest_function)?;
        let blob = digest(request.blob_digest.as_ref(), function, "blob_digest")?;
        let chunks = digests(&request.chunk_digests, function)?;
        self.splice(&view, blob, chunks).await?;
        Ok(Response::new(reapi::SpliceBlobResponse {
            blob_digest: Some(digest_to_wire(&blob)),
        }))
    }

    async fn register_chunk_mapping(
        &self,
        request: Request<Streaming<reapi::RegisterChunkMappingRequest>>,
    ) -> Result<Response<reapi::RegisterChunkMappingResponse>, Status> {
        let (metadata, extensions, mut messages) = request.into_parts();
        let Some(first) = messages.message().await? else {
            return Err(Status::invalid_argument("the stream has no request"));
        };
        let sender = Request::from_parts(metadata, extensions, ());
        let view = self.stores.open_to_upload(&sender, &first.instance_name)?;
        let function = function(first.digest_function)?;
        let blob = digest(first.blob_digest.as_ref(), function, "blob_digest")?;
        let mut chunks = digests(&first.chunk_digests, function)?;
        while let Some(next) = messages.message().await? {
            chunks.extend(digests(&next.chunk_digests, function)?);
            if chunks.len() > limits::CHUNKS {
                break;
            }
        }
        self.splice(&view, blob, chunks).await?;
        Ok(Response::new(reapi::RegisterChunkMappingResponse {
            blob_digest: Some(digest_to_wire(&blob)),
        }))
    }
}

impl CasService {
    async fn splice(
        &self,
        view: &View,
        blob: CasDigest,
        chunks: Vec<CasDigest>,
    ) -> Result<(), Status> {
        if chunks.len() > limits::CHUNKS {
            return Err(Status::invalid_argument(format!(
                "a blob has no more than {} chunks here",
                limits::CHUNKS
            )));
        }
        check_blob_size(&blob, self.max_blob)?;
        view.charge(blob.size)?;
        chunks::splice(view, &blob, chunks).await
    }
}

/// Fails if a blob is larger than the server takes.
pub fn check_blob_size(blob: &CasDigest, max_blob: u64) -> Result<(), Status> {
    if max_blob > 0 && blob.size > max_blob {
        return Err(Status::invalid_argument(format!(
            "the blob has {} bytes; this cache takes no more than {max_blob}",
            blob.size
        )));
    }
    Ok(())
}

fn too_large(total: u64) -> Status {
    Status::invalid_argument(format!(
        "the blobs have {total} bytes; a batch may have {}",
        limits::BATCH
    ))
}

/// Fails if a batch has more than it may. Compressed blobs count as they are on the wire, and must
/// not become too much. Gives how much memory the batch takes.
fn check_update_size(items: &[UpdateItem]) -> Result<u64, Status> {
    let mut wire = 0_u64;
    let mut inflated = 0_u64;
    for item in items {
        wire = wire.saturating_add(item.data.len() as u64);
        if item.compressor != i32::from(Compressor::Identity) {
            let size = item.digest.as_ref().map_or(0, |digest| digest.size_bytes);
            inflated = inflated.saturating_add(size.unsigned_abs());
        }
    }
    if wire > limits::BATCH {
        return Err(too_large(wire));
    }
    if inflated > limits::INFLATED_BATCH {
        return Err(Status::invalid_argument(format!(
            "the compressed blobs have {inflated} bytes; a batch may have {}",
            limits::INFLATED_BATCH
        )));
    }
    Ok(wire + inflated)
}

/// One blob of a batch, as it is without compression. The store checks its hash.
fn unpacked(item: UpdateItem, function: DigestFunction) -> Result<(CasDigest, Bytes), Status> {
    let blob = digest(item.digest.as_ref(), function, "digest")?;
    let data = match Compressor::try_from(item.compressor) {
        Ok(Compressor::Identity) => item.data,
        Ok(Compressor::Zstd) => compression::inflate(item.data, blob.size)
            .map_err(|error| Status::invalid_argument(error.to_string()))?,
        _ => {
            return Err(Status::invalid_argument(
                "the compressor is not known here; ZSTD is",
            ));
        }
    };
    Ok((blob, data))
}

/// A blob as it goes out: compressed if the client takes that and it helps.
fn packed(bytes: Bytes, zstd: bool) -> (Bytes, Compressor) {
    if zstd
        && bytes.len() >= WORTH_COMPRESSING
        && let Ok(packed) = zstd::bulk::compress(&bytes, 1)
        && packed.len() < bytes.len() / 8 * 7
    {
        return (packed.into(), Compressor::Zstd);
    }
    (bytes, Compressor::Identity)
}

/// A walk through directories, in the order in which they are met. That order depends on nothing
/// but the tree, so a page's token is the number of directories before it.
#[derive(Debug)]
struct Walk {
    view: View,
    /// Directories to read, the next one first.
    queue: std::collections::VecDeque<CasDigest>,
    met: HashSet<CasDigest>,
    /// Directories read and not yet given out.
    ready: std::collections::VecDeque<(reapi::Directory, u64)>,
    page: usize,
    /// Directories that the client has.
    skip: usize,
    given: usize,
}

impl Walk {
    async fn start(view: View, root: CasDigest, page: usize, skip: usize) -> Result<Self, Status> {
        let mut walk = Self {
            view,
            queue: [root].into(),
            met: [root].into(),
            ready: std::collections::VecDeque::new(),
            page: if page == 0 { 10_000 } else { page },
            skip,
            given: 0,
        };
        // A root that is not there is an error of the call, not of the stream.
        walk.read_some().await?;
        if walk.ready.is_empty() && walk.skip == skip {
            return Err(Status::not_found(format!("{root} is not there")));
        }
        Ok(walk)
    }

    /// Reads the next directories of the queue. Those that are missing are left out.
    async fn read_some(&mut self) -> Result<(), Status> {
        let mut group = Vec::new();
        let mut bytes = 0_u64;
        while let Some(next) = self.queue.front() {
            // One that is too large for a message is none of the directories that are served.
            bytes = bytes.saturating_add(next.size);
            if !group.is_empty() && (bytes > limits::BATCH || group.len() >= 1000) {
                break;
            }
            group.extend(self.queue.pop_front());
        }
        group.retain(|directory| directory.size <= limits::BATCH);
        self.view.charge(group.iter().map(|one| one.size).sum())?;
        let read = self.view.blobs().read_many(&group).await;
        for (digest, read) in group.iter().zip(read) {
            let bytes = match read {
                Ok(bytes) => bytes,
                Err(fault) if fault.kind == ashlar_store::FaultKind::NotFound => continue,
                Err(fault) => return Err(status::of_fault(&fault)),
            };
            let Ok(directory) = reapi::Directory::decode(&*bytes) else {
                return Err(Status::invalid_argument(format!(
                    "{digest} is no Directory"
                )));
            };
            for below in &directory.directories {
                let below = below.digest.as_ref();
                let below = below.and_then(|below| digest_from_wire(below, digest.function).ok());
                if let Some(below) = below
                    && self.met.len() < limits::DIRECTORIES
                    && self.met.insert(below)
                {
                    self.queue.push_back(below);
                }
            }
            if self.skip > 0 {
                self.skip -= 1;
                self.given += 1;
            } else {
                self.ready.push_back((directory, bytes.len() as u64));
            }
        }
        Ok(())
    }

    /// The next page; `None` behind the last.
    async fn next_page(&mut self) -> Result<Option<reapi::GetTreeResponse>, Status> {
        let mut directories = Vec::new();
        let mut bytes = 0;
        loop {
            while let Some((_, size)) = self.ready.front() {
                if directories.len() >= self.page
                    || (!directories.is_empty() && bytes + size > limits::BATCH)
                {
                    self.given += directories.len();
                    return Ok(Some(reapi::GetTreeResponse {
                        directories,
                        next_page_token: self.given.to_string(),
                    }));
                }
                bytes += size;
                directories.extend(self.ready.pop_front().map(|(directory, _)| directory));
            }
            if self.queue.is_empty() {
                self.given += directories.len();
                return Ok((!directories.is_empty()).then_some(reapi::GetTreeResponse {
                    directories,
                    next_page_token: String::new(),
                }));
            }
            self.read_some().await?;
        }
    }
}
