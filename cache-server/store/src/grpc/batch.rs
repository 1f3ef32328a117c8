//! Small blobs: many questions, or many blobs, in one message.

use std::collections::{HashMap, HashSet};

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_proto::convert::{digest_from_wire, digest_to_wire, function_to_wire};
use ashlar_proto::wire::reapi;
use ashlar_proto::wire::reapi::compressor::Value as Compressor;
use ashlar_proto::wire::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use ashlar_proto::wire::rpc;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tonic::{Code, Status};

use super::channel::GrpcChannel;
use super::{GrpcEndpoint, GrpcStore, LONGEST_MESSAGE, download, fault_of, upload, zstd};
use crate::blob_store::{collect_blob, is_empty_blob, once};
use crate::checked::{check, checked};
use crate::fault::{Fault, FaultKind, in_one_line};

/// A question about so many digests has about 750 KB.
const DIGESTS_AT_ONCE: usize = 10_000;

/// So many messages are on their way at once.
const MESSAGES_AT_ONCE: usize = 4;

/// What a message says of a blob besides its bytes: hash, size, status; generously.
const OVERHEAD: u64 = 160;

/// Smaller blobs are not worth compressing.
const COMPRESSED_FROM: usize = 512;

fn client(endpoint: &GrpcEndpoint) -> ContentAddressableStorageClient<GrpcChannel> {
    ContentAddressableStorageClient::new(endpoint.channel())
        .max_decoding_message_size(LONGEST_MESSAGE)
}

/// Whether a blob can be in a message with others.
pub(super) fn fits(endpoint: &GrpcEndpoint, blob: &CasDigest) -> bool {
    blob.size + OVERHEAD <= endpoint.capabilities().batch_bytes
}

/// Groups of the same function that fit into messages.
fn groups<T>(
    endpoint: &GrpcEndpoint,
    items: Vec<T>,
    blob: impl Fn(&T) -> CasDigest,
) -> Vec<(DigestFunction, Vec<T>)> {
    let mut groups: Vec<(DigestFunction, Vec<T>)> = Vec::new();
    let mut bytes: HashMap<DigestFunction, (usize, u64)> = HashMap::new();
    for item in items {
        let digest = blob(&item);
        let size = digest.size + OVERHEAD;
        match bytes.get_mut(&digest.function) {
            Some((group, sum)) if *sum + size <= endpoint.capabilities().batch_bytes => {
                *sum += size;
                groups[*group].1.push(item);
            }
            _ => {
                bytes.insert(digest.function, (groups.len(), size));
                groups.push((digest.function, vec![item]));
            }
        }
    }
    groups
}

/// Those of some blobs that the server does not have.
pub(super) async fn missing(
    store: &GrpcStore,
    blobs: &[CasDigest],
) -> Result<Vec<CasDigest>, Fault> {
    let mut questions: HashMap<DigestFunction, Vec<CasDigest>> = HashMap::new();
    let mut asked = HashSet::new();
    for blob in blobs {
        store.check_function(blob)?;
        if !is_empty_blob(blob) && asked.insert(*blob) {
            questions.entry(blob.function).or_default().push(*blob);
        }
    }
    let questions = questions.into_iter().flat_map(|(function, blobs)| {
        let groups: Vec<_> = blobs.chunks(DIGESTS_AT_ONCE).map(<[_]>::to_vec).collect();
        groups.into_iter().map(move |group| (function, group))
    });
    let answers: Vec<HashSet<CasDigest>> = stream::iter(questions.collect::<Vec<_>>())
        .map(|(function, group)| ask(&store.endpoint, function, group))
        .buffer_unordered(MESSAGES_AT_ONCE)
        .try_collect()
        .await?;
    let is_missing = |blob: &&CasDigest| answers.iter().any(|answer| answer.contains(blob));
    Ok(blobs.iter().filter(is_missing).copied().collect())
}

async fn ask(
    endpoint: &GrpcEndpoint,
    function: DigestFunction,
    blobs: Vec<CasDigest>,
) -> Result<HashSet<CasDigest>, Fault> {
    let request = reapi::FindMissingBlobsRequest {
        instance_name: endpoint.instance().to_owned(),
        blob_digests: blobs.iter().map(digest_to_wire).collect(),
        digest_function: function_to_wire(function).into(),
    };
    let answer = endpoint
        .call("ask for missing blobs", || {
            let (mut client, request) = (client(endpoint), request.clone());
            async move { client.find_missing_blobs(request).await }
        })
        .await?;
    answer
        .missing_blob_digests
        .iter()
        .map(|digest| {
            digest_from_wire(digest, function).map_err(|error| {
                Fault::invalid("the server says that a blob is missing that cannot be")
                    .caused_by(error)
            })
        })
        .collect()
}

/// Answers to questions that may have been asked twice.
fn spread<T: Clone>(
    blobs: &[CasDigest],
    answers: &HashMap<CasDigest, Result<T, Fault>>,
) -> Vec<Result<T, Fault>> {
    let answer = |blob: &CasDigest| match answers.get(blob) {
        Some(Ok(value)) => Ok(value.clone()),
        Some(Err(fault)) => Err(again(fault)),
        None => Err(Fault::invalid(format!("the server said nothing of {blob}"))),
    };
    blobs.iter().map(answer).collect()
}

/// The same fault for another who asked.
fn again(fault: &Fault) -> Fault {
    Fault::new(fault.kind, in_one_line(fault))
}

/// Reads blobs whole.
pub(super) async fn read(store: &GrpcStore, blobs: &[CasDigest]) -> Vec<Result<Bytes, Fault>> {
    let endpoint = &store.endpoint;
    let mut answers = HashMap::new();
    let (mut small, mut large) = (Vec::new(), Vec::new());
    let mut asked = HashSet::new();
    for blob in blobs {
        if !asked.insert(*blob) {
            continue;
        }
        if is_empty_blob(blob) {
            answers.insert(*blob, Ok(Bytes::new()));
        } else if let Err(fault) = store.check_function(blob) {
            answers.insert(*blob, Err(fault));
        } else if fits(endpoint, blob) {
            small.push(*blob);
        } else {
            large.push(*blob);
        }
    }
    let small = stream::iter(groups(endpoint, small, |blob| *blob))
        .map(|(function, group)| read_group(endpoint, function, group))
        .buffer_unordered(MESSAGES_AT_ONCE);
    let mut small = std::pin::pin!(small);
    while let Some(group) = small.next().await {
        answers.extend(group);
    }
    let large = stream::iter(large)
        .map(|blob| async move { (blob, read_large(endpoint, blob).await) })
        .buffer_unordered(MESSAGES_AT_ONCE);
    answers.extend(large.collect::<Vec<_>>().await);
    spread(blobs, &answers)
}

async fn read_large(endpoint: &GrpcEndpoint, blob: CasDigest) -> Result<Bytes, Fault> {
    let bytes = download::read(endpoint, blob, 0, blob.size).await?;
    collect_blob(checked(&blob, bytes), &blob).await
}

async fn read_group(
    endpoint: &GrpcEndpoint,
    function: DigestFunction,
    group: Vec<CasDigest>,
) -> Vec<(CasDigest, Result<Bytes, Fault>)> {
    let zstd = endpoint.settings().compression && endpoint.capabilities().zstd_streams;
    let request = reapi::BatchReadBlobsRequest {
        instance_name: endpoint.instance().to_owned(),
        digests: group.iter().map(digest_to_wire).collect(),
        acceptable_compressors: zstd
            .then_some(i32::from(Compressor::Zstd))
            .into_iter()
            .collect(),
        digest_function: function_to_wire(function).into(),
    };
    let answer = endpoint
        .call("read blobs", || {
            let (mut client, request) = (client(endpoint), request.clone());
            async move { client.batch_read_blobs(request).await }
        })
        .await;
    let responses = match answer {
        Ok(answer) => answer.responses,
        Err(fault) => return all(group, &fault),
    };
    responses
        .into_iter()
        .filter_map(|response| {
            let digest = digest_from_wire(response.digest.as_ref()?, function).ok()?;
            let compressor = response.compressor;
            let bytes = succeeded("read a blob", response.status)
                .and_then(|()| unpack(&digest, response.data, compressor));
            Some((digest, bytes))
        })
        .collect()
}

fn all<T>(group: Vec<CasDigest>, fault: &Fault) -> Vec<(CasDigest, Result<T, Fault>)> {
    let answer = |blob| (blob, Err(again(fault)));
    group.into_iter().map(answer).collect()
}

/// The status of one blob of many.
fn succeeded(what: &str, status: Option<rpc::Status>) -> Result<(), Fault> {
    match status {
        Some(status) if status.code != 0 => Err(fault_of(
            what,
            Status::new(Code::from_i32(status.code), status.message),
        )),
        _ => Ok(()),
    }
}

/// The bytes of a blob, which are checked.
fn unpack(blob: &CasDigest, data: Bytes, compressor: i32) -> Result<Bytes, Fault> {
    let bytes = if compressor == i32::from(Compressor::Zstd) {
        zstd::decompress(&data, blob.size)?
    } else if compressor == i32::from(Compressor::Identity) {
        data
    } else {
        return Err(Fault::invalid(
            "the server compressed a blob as it was not asked to",
        ));
    };
    check(blob, &bytes)?;
    Ok(bytes)
}

/// Stores blobs.
pub(super) async fn write(
    store: &GrpcStore,
    blobs: Vec<(CasDigest, Bytes)>,
) -> Vec<Result<(), Fault>> {
    let endpoint = &store.endpoint;
    let digests: Vec<_> = blobs.iter().map(|(blob, _)| *blob).collect();
    let mut answers = HashMap::new();
    let (mut small, mut large) = (Vec::new(), Vec::new());
    let mut sent = HashSet::new();
    for (blob, bytes) in blobs {
        let sound = store
            .check_function(&blob)
            .and_then(|()| check(&blob, &bytes));
        if let Err(fault) = sound {
            answers.insert(blob, Err(fault));
        } else if blob.size == 0 {
            answers.insert(blob, Ok(()));
        } else if !sent.insert(blob) {
        } else if fits(endpoint, &blob) {
            small.push((blob, bytes));
        } else {
            large.push((blob, bytes));
        }
    }
    let small = stream::iter(groups(endpoint, small, |(blob, _)| *blob))
        .map(|(function, group)| write_group(endpoint, function, group))
        .buffer_unordered(MESSAGES_AT_ONCE);
    let mut small = std::pin::pin!(small);
    while let Some(group) = small.next().await {
        answers.extend(group);
    }
    let large =
        stream::iter(large)
            .map(|(blob, bytes)| async move {
                (blob, upload::write(endpoint, &blob, once(bytes)).await)
            })
            .buffer_unordered(MESSAGES_AT_ONCE);
    answers.extend(large.collect::<Vec<_>>().await);
    spread(&digests, &answers)
}

async fn write_group(
    endpoint: &GrpcEndpoint,
    function: DigestFunction,
    group: Vec<(CasDigest, Bytes)>,
) -> Vec<(CasDigest, Result<(), Fault>)> {
    let zstd = endpoint.settings().compression && endpoint.capabilities().zstd_batches;
    let digests: Vec<_> = group.iter().map(|(blob, _)| *blob).collect();
    let requests = match pack(group, zstd).await {
        Ok(requests) => requests,
        Err(fault) => return all(digests, &fault),
    };
    let request = reapi::BatchUpdateBlobsRequest {
        instance_name: endpoint.instance().to_owned(),
        requests,
        digest_function: function_to_wire(function).into(),
    };
    let answer = endpoint
        .call("store blobs", || {
            let (mut client, request) = (client(endpoint), request.clone());
            async move { client.batch_update_blobs(request).await }
        })
        .await;
    let responses = match answer {
        Ok(answer) => answer.responses,
        Err(fault) => return all(digests, &fault),
    };
    responses
        .into_iter()
        .filter_map(|response| {
            let digest = digest_from_wire(response.digest.as_ref()?, function).ok()?;
            Some((digest, succeeded("store a blob", response.status)))
        })
        .collect()
}

type Packed = Vec<reapi::batch_update_blobs_request::Request>;

/// The blobs as a message has them; compressed where that makes them smaller.
async fn pack(group: Vec<(CasDigest, Bytes)>, zstd: bool) -> Result<Packed, Fault> {
    let pack = move || {
        group
            .into_iter()
            .map(|(blob, bytes)| {
                let compressed = (zstd && bytes.len() >= COMPRESSED_FROM)
                    .then(|| zstd::compress(&bytes))
                    .flatten()
                    .filter(|compressed| compressed.len() < bytes.len());
                let (data, compressor) = match compressed {
                    Some(compressed) => (compressed, Compressor::Zstd),
                    None => (bytes, Compressor::Identity),
                };
                reapi::batch_update_blobs_request::Request {
                    digest: Some(digest_to_wire(&blob)),
                    data,
                    compressor: compressor.into(),
                }
            })
            .collect()
    };
    if !zstd {
        return Ok(pack());
    }
    tokio::task::spawn_blocking(pack).await.map_err(|error| {
        Fault::new(FaultKind::Internal, "compressing was broken off").caused_by(error)
    })
}
