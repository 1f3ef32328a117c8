//! Blobs as chunks, for clients that move only the chunks that the other side lacks.
//!
//! Chunks are blobs like others. Which chunks a blob has is kept as a result: its key is the digest
//! of a text that names the blob, its output files are the chunks. So a list of chunks of which one
//! is gone is gone itself, and grows old with them.
//!
//! Cuts are those of FastCDC as REAPI prescribes: normalization 2, a quarter of the average at
//! least, four times the average at most.

use ashlar_model::cas::CasDigest;
use ashlar_proto::convert::{digest_from_wire, digest_to_wire};
use ashlar_proto::wire::reapi;
use ashlar_store::blob_store::{ByteRange, ByteStream};
use ashlar_store::{BlobStore, Fault, FaultKind};
use bytes::{Bytes, BytesMut};
use fastcdc::v2020::{FastCDC, Normalization};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;
use tonic::Status;

use super::action_cache::decode;
use crate::auth::Right;
use crate::status;
use crate::stores::kind::Kind;
use crate::stores::view::View;

/// The size of a chunk on average.
pub const AVERAGE: usize = 512 << 10;

/// So many bytes of chunks are stored at once.
const GROUP: usize = 8 << 20;

/// The key under which a blob's list of chunks is kept.
fn key(blob: &CasDigest) -> CasDigest {
    let text = format!("ashlar.chunks/1 {blob}");
    CasDigest::of(blob.function, text.as_bytes())
}

/// The chunks of a blob. If they are not known and the client may write, they are made.
pub async fn of_blob(view: &View, blob: &CasDigest) -> Result<Vec<CasDigest>, Status> {
    if let Some(known) = lookup(view, blob).await? {
        return Ok(known);
    }
    if !view.may(Right::Write) {
        return Err(Status::not_found(format!(
            "the chunks of {blob} are not known, and you may not let them be stored"
        )));
    }
    view.charge(blob.size)?;
    let chunks = split(&**view.blobs(), blob).await;
    let chunks = chunks.map_err(|fault| status::of_fault(&fault))?;
    remember(view, blob, &chunks).await;
    Ok(chunks)
}

/// The list of chunks that is kept for a blob.
async fn lookup(view: &View, blob: &CasDigest) -> Result<Option<Vec<CasDigest>>, Status> {
    // The blob itself is looked at, too: it counts as used, and a list without it is of no use.
    let asked = [*blob];
    let gone = view.blobs().missing(&asked).await;
    if !gone.map_err(|fault| status::of_fault(&fault))?.is_empty() {
        return Err(Status::not_found(format!("{blob} is not there")));
    }
    let found = view.get_one(Kind::Chunks, &key(blob)).await;
    let Some(encoded) = found.map_err(|fault| status::of_fault(&fault))? else {
        return Ok(None);
    };
    let mut chunks = Vec::new();
    for file in decode(&encoded)?.output_files {
        let digest = file.digest.unwrap_or_default();
        let digest = digest_from_wire(&digest, blob.function);
        chunks.push(digest.map_err(|error| status::of_conversion(&error))?);
    }
    // Whatever stands under that key, chunks that do not add up are not the blob's.
    let total: u64 = chunks.iter().map(|chunk| chunk.size).sum();
    Ok((total == blob.size).then_some(chunks))
}

/// Keeps a blob's list of chunks. One that cannot be kept is made again when it is asked for.
async fn remember(view: &View, blob: &CasDigest, chunks: &[CasDigest]) {
    let files = chunks.iter().enumerate();
    let files = files.map(|(index, chunk)| reapi::OutputFile {
        path: format!("c{index:08}"),
        digest: Some(digest_to_wire(chunk)),
        ..Default::default()
    });
    let result = reapi::ActionResult {
        output_files: files.collect(),
        ..Default::default()
    };
    let encoded = result.encode_to_vec().into();
    let kept = view.put(Kind::Chunks, &key(blob), encoded).await;
    if let Err(fault) = kept {
        tracing::warn!("the chunks of {blob} are not remembered: {fault}");
    }
}

/// Cuts a blob and stores the chunks.
async fn split(blobs: &dyn BlobStore, blob: &CasDigest) -> Result<Vec<CasDigest>, Fault> {
    let mut bytes = blobs.read(blob, ByteRange::WHOLE).await?;
    let mut buffer = BytesMut::new();
    let mut group: Vec<(CasDigest, Bytes)> = Vec::new();
    let mut group_bytes = 0;
    let mut chunks = Vec::new();
    let mut at_end = false;
    loop {
        while !at_end && buffer.len() < AVERAGE * 4 {
            match bytes.next().await {
                Some(piece) => buffer.extend_from_slice(&piece?),
                None => at_end = true,
            }
        }
        if buffer.is_empty() {
            break;
        }
        let chunk = buffer.split_to(cut(&buffer)).freeze();
        let digest = CasDigest::of(blob.function, &chunk);
        chunks.push(digest);
        group_bytes += chunk.len();
        group.push((digest, chunk));
        if group_bytes >= GROUP {
            store(blobs, &mut group).await?;
            group_bytes = 0;
        }
        // Hashing and cutting take no turn of their own.
        tokio::task::yield_now().await;
    }
    store(blobs, &mut group).await?;
    Ok(chunks)
}

async fn store(blobs: &dyn BlobStore, group: &mut Vec<(CasDigest, Bytes)>) -> Result<(), Fault> {
    let written = blobs.write_many(std::mem::take(group)).await;
    written.into_iter().collect()
}

/// Where the first chunk of some bytes ends. They are all that is left of the blob, or as many as a
/// chunk may have.
fn cut(bytes: &[u8]) -> usize {
    let chunker = FastCDC::with_level_and_seed(
        bytes,
        AVERAGE / 4,
        AVERAGE,
        AVERAGE * 4,
        Normalization::Level2,
        0,
    );
    let (_, end) = chunker.cut(0, bytes.len());
    end.clamp(1, bytes.len())
}

/// Puts a blob together from chunks. What comes out is hashed: no client's word is taken for it.
pub async fn splice(view: &View, blob: &CasDigest, chunks: Vec<CasDigest>) -> Result<(), Status> {
    let total = chunks
        .iter()
        .try_fold(0_u64, |total, chunk| total.checked_add(chunk.size));
    if total != Some(blob.size) {
        return Err(Status::invalid_argument(format!(
            "the sizes of the chunks do not add up to the {} bytes of the blob",
            blob.size
        )));
    }
    let asked = [*blob];
    let there = view.blobs().missing(&asked).await;
    let there = there.map_err(|fault| status::of_fault(&fault))?.is_empty();
    let gone = view.blobs().missing(&chunks).await;
    let gone = gone.map_err(|fault| status::of_fault(&fault))?;
    if let Some(chunk) = gone.first() {
        return Err(Status::not_found(format!(
            "{} of the chunks are not there, {chunk} among them",
            gone.len()
        )));
    }
    if !there {
        let written = view.blobs().write(blob, joined(view, &chunks)).await;
        written.map_err(|fault| match fault.kind {
            FaultKind::Invalid => {
                Status::invalid_argument(format!("the chunks, put together, are not {blob}"))
            }
            _ => status::of_fault(&fault),
        })?;
        // Only now is it known that the chunks are the blob's.
        remember(view, blob, &chunks).await;
    }
    Ok(())
}

/// The bytes of chunks, one after another.
fn joined(view: &View, chunks: &[CasDigest]) -> ByteStream {
    let blobs = view.blobs().clone();
    let read = move |chunk: CasDigest| {
        let blobs = blobs.clone();
        async move { blobs.read(&chunk, ByteRange::WHOLE).await }
    };
    let chunks = stream::iter(chunks.to_vec());
    Box::pin(chunks.map(read).buffered(4).try_flatten())
}
