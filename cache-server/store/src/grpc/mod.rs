//! A store behind the Remote Execution API: any server that speaks it.
//!
//! | module | subject |
//! |---|---|
//! | [`endpoint`] | connections, and what was agreed upon with the server |
//! | [`channel`], `dial` | several connections, to one server or several, that look like one |
//! | [`capabilities`] | what a server says of itself |
//! | [`status`] | gRPC's words for failures, in ours |
//! | `batch` | small blobs, many in a message |
//! | `trace` | calls as spans, and the trace that they belong to |
//! | `upload`, `download` | large ones, as streams that go on after a break |
//! | `zstd` | compression of streams |
//!
//! Everything that comes is checked against its digest: a server is not trusted to send what it was
//! asked for. What a caller writes is checked before the server is told that it is whole.
//!
//! All calls can be made twice without harm; one that fails because a connection broke is made
//! once more. Every call has a time limit, every stream one for standing still.

mod batch;
pub mod capabilities;
pub mod channel;
mod dial;
mod download;
pub mod endpoint;
pub mod status;
mod trace;
mod upload;
mod zstd;

use std::sync::Arc;

use ashlar_model::cas::{ActionKey, CasDigest};
use ashlar_model::executor::BoxFuture;
use ashlar_proto::convert::{digest_to_wire, function_to_wire};
use ashlar_proto::wire::reapi;
use ashlar_proto::wire::reapi::action_cache_client::ActionCacheClient;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;

pub use endpoint::{ClientIdentity, GrpcEndpoint, GrpcSettings, TokenSource};
pub use status::fault_of;

use crate::action_cache::{ActionCache, PutMode, no_swap};
use crate::blob_store::{
    BlobStore, ByteRange, ByteStream, bounds, collect, is_empty_blob, nothing, slice,
};
use crate::checked::check;
use crate::fault::{Fault, FaultKind};
use channel::GrpcChannel;

/// So many results are asked for at once.
const RESULTS_AT_ONCE: usize = 32;

/// No message from a server is longer. Servers keep to 4 MB, but for results with files in them.
const LONGEST_MESSAGE: usize = 32 << 20;

/// Blobs and results of a server.
#[derive(Debug, Clone)]
pub struct GrpcStore {
    endpoint: Arc<GrpcEndpoint>,
}

impl GrpcStore {
    /// The store at an endpoint.
    pub const fn new(endpoint: Arc<GrpcEndpoint>) -> Self {
        Self { endpoint }
    }

    /// The endpoint.
    pub const fn endpoint(&self) -> &Arc<GrpcEndpoint> {
        &self.endpoint
    }

    fn action_cache(&self) -> ActionCacheClient<GrpcChannel> {
        ActionCacheClient::new(self.endpoint.channel()).max_decoding_message_size(LONGEST_MESSAGE)
    }

    /// Fails if the server does not know the function of a digest.
    fn check_function(&self, blob: &CasDigest) -> Result<(), Fault> {
        if self
            .endpoint
            .capabilities()
            .functions
            .contains(&blob.function)
        {
            return Ok(());
        }
        Err(Fault::new(
            FaultKind::Unsupported,
            format!("the server does not know {}", blob.function),
        ))
    }

    async fn result(&self, key: &ActionKey) -> Result<Option<Bytes>, Fault> {
        self.check_function(&key.action)?;
        let request = reapi::GetActionResultRequest {
            instance_name: key.instance.clone(),
            action_digest: Some(digest_to_wire(&key.action)),
            inline_output_files: self.endpoint.settings().inline_output_files.clone(),
            digest_function: function_to_wire(key.action.function).into(),
            ..Default::default()
        };
        let answer = self
            .endpoint
            .call("look a result up", || {
                let (mut client, request) = (self.action_cache(), request.clone());
                async move { client.get_action_result(request).await }
            })
            .await;
        match answer {
            Ok(result) => Ok(Some(result.encode_to_vec().into())),
            Err(fault) if fault.kind == FaultKind::NotFound => Ok(None),
            Err(fault) => Err(fault),
        }
    }
}

impl BlobStore for GrpcStore {
    fn missing<'a>(
        &'a self,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        Box::pin(batch::missing(self, blobs))
    }

    fn read<'a>(
        &'a self,
        blob: &'a CasDigest,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<ByteStream, Fault>> {
        Box::pin(async move {
            if is_empty_blob(blob) {
                slice(blob, &Bytes::new(), range)?;
                return Ok(nothing());
            }
            self.check_function(blob)?;
            let (start, end) = bounds(blob, range)?;
            if start == end {
                // A limit of 0 would mean none to the server.
                return Ok(nothing());
            }
            download::read(&self.endpoint, *blob, start, end).await
        })
    }

    fn write<'a>(
        &'a self,
        blob: &'a CasDigest,
        bytes: ByteStream,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            self.check_function(blob)?;
            if blob.size == 0 {
                return check(blob, &collect(bytes, 0).await?);
            }
            if batch::fits(&self.endpoint, blob) {
                let bytes = collect(bytes, blob.size).await?;
                let mut answers = batch::write(self, vec![(*blob, bytes)]).await;
                return answers.pop().unwrap_or(Ok(()));
            }
            upload::write(&self.endpoint, blob, bytes).await
        })
    }

    fn read_many<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Vec<Result<Bytes, Fault>>> {
        Box::pin(batch::read(self, blobs))
    }

    fn write_many<'a>(
        &'a self,
        blobs: Vec<(CasDigest, Bytes)>,
    ) -> BoxFuture<'a, Vec<Result<(), Fault>>> {
        Box::pin(batch::write(self, blobs))
    }
}

impl ActionCache for GrpcStore {
    /// The instance names are those of the keys, not that of the endpoint.
    fn get<'a>(
        &'a self,
        keys: &'a [ActionKey],
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, Fault>> {
        Box::pin(async move {
            stream::iter(keys.to_vec())
                .map(|key| async move { self.result(&key).await })
                .buffered(RESULTS_AT_ONCE)
                .try_collect()
                .await
        })
    }

    /// REAPI can only replace. [`PutMode::IfAbsent`] therefore looks first, which two that do so at
    /// once may do in vain: the last of them stays.
    fn put<'a>(
        &'a self,
        key: &'a ActionKey,
        result: Bytes,
        mode: PutMode,
    ) -> BoxFuture<'a, Result<Bytes, Fault>> {
        Box::pin(async move {
            if mode == PutMode::IfAbsent
                && let Some(there) = self.result(key).await?
            {
                return Ok(there);
            }
            self.check_function(&key.action)?;
            let decoded = reapi::ActionResult::decode(result.clone())
                .map_err(|error| Fault::invalid("this is no result").caused_by(error))?;
            let request = reapi::UpdateActionResultRequest {
                instance_name: key.instance.clone(),
                action_digest: Some(digest_to_wire(&key.action)),
                action_result: Some(decoded),
                digest_function: function_to_wire(key.action.function).into(),
                ..Default::default()
            };
            self.endpoint
                .call("store a result", || {
                    let (mut client, request) = (self.action_cache(), request.clone());
                    async move { client.update_action_result(request).await }
                })
                .await?;
            Ok(result)
        })
    }

    /// REAPI has no such call.
    fn remove<'a>(&'a self, _key: &'a ActionKey) -> BoxFuture<'a, Result<bool, Fault>> {
        Box::pin(async {
            Err(Fault::new(
                FaultKind::Unsupported,
                "results of a server cannot be removed",
            ))
        })
    }

    fn swap<'a>(
        &'a self,
        _key: &'a ActionKey,
        _old: Option<&'a Bytes>,
        _new: Bytes,
    ) -> BoxFuture<'a, Result<bool, Fault>> {
        no_swap()
    }
}
