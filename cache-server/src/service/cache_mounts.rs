//! `ashlar.cache.v1.CacheMounts`: contents of cache mounts.
//!
//! The latest snapshot of a mount is kept as a result: its key is the digest of a text that holds
//! the mount's name, its output directories are the snapshot's trees. So a snapshot of which a part
//! is gone is gone itself, and grows old with its parts.

use std::fmt;

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_proto::convert::{digest_to_wire, time_to_wire};
use ashlar_proto::wire::ext;
use ashlar_proto::wire::ext::cache_mounts_server::CacheMounts;
use ashlar_proto::wire::reapi;
use ashlar_store::clock::Clock;
use prost::Message as _;
use tonic::{Request, Response, Status, async_trait};

use super::action_cache::{check_complete, decode};
use super::request::{digests, function};
use crate::audit::What;
use crate::auth::Right;
use crate::stores::Stores;
use crate::stores::kind::Kind;
use crate::stores::view::View;
use crate::{limits, status};

/// The service.
#[derive(Clone)]
pub struct CacheMountsService {
    /// What it serves from.
    pub stores: Stores,
    /// Tells when a snapshot was saved.
    pub clock: Clock,
}

impl fmt::Debug for CacheMountsService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheMountsService")
            .field("stores", &self.stores)
            .finish_non_exhaustive()
    }
}

/// The key of a mount's snapshot.
fn key(function: DigestFunction, name: &str) -> Result<CasDigest, Status> {
    if name.is_empty() || name.len() > limits::MOUNT_NAME {
        return Err(Status::invalid_argument(format!(
            "the name of a cache mount has 1 to {} bytes",
            limits::MOUNT_NAME
        )));
    }
    let text = format!("ashlar.cache-mount/1 {name}");
    Ok(CasDigest::of(function, text.as_bytes()))
}

/// The snapshot that is kept in a result; `None` if that is no snapshot.
fn snapshot_of(encoded: &[u8]) -> Result<Option<ext::Snapshot>, Status> {
    let result = decode(encoded)?;
    // The record without what the trees say: they stand in the result, where they are checked.
    let Ok(mut snapshot) = ext::Snapshot::decode(result.stdout_raw) else {
        return Ok(None);
    };
    let directories = result.output_directories.into_iter();
    snapshot.trees = directories.filter_map(|tree| tree.tree_digest).collect();
    Ok(Some(snapshot))
}

/// A snapshot in a result.
fn result_of(snapshot: &ext::Snapshot, trees: &[CasDigest]) -> bytes::Bytes {
    let directories = trees.iter().enumerate();
    let directories = directories.map(|(index, tree)| reapi::OutputDirectory {
        path: format!("{index:03}"),
        tree_digest: Some(digest_to_wire(tree)),
        ..Default::default()
    });
    let result = reapi::ActionResult {
        output_directories: directories.collect(),
        stdout_raw: snapshot.encode_to_vec().into(),
        ..Default::default()
    };
    result.encode_to_vec().into()
}

/// What is there for a snapshot to be saved over: what it has to replace, and its generation, which
/// is 0 if a part of it is gone.
async fn before(view: &View, key: &CasDigest) -> Result<(Option<bytes::Bytes>, u64), Status> {
    let fault = |fault| status::of_fault(&fault);
    let Some(there) = view.own(Kind::CacheMount, key).await.map_err(fault)? else {
        return Ok((None, 0));
    };
    // One that cannot be read is as good as none.
    let is_whole = view
        .missing_of(&there, key.function)
        .await
        .is_ok_and(|missing| missing.is_empty());
    let snapshot = if is_whole { snapshot_of(&there)? } else { None };
    let generation = snapshot.map_or(0, |snapshot| snapshot.generation);
    Ok((Some(there), generation))
}

#[async_trait]
impl CacheMounts for CacheMountsService {
    async fn latest(
        &self,
        request: Request<ext::LatestRequest>,
    ) -> Result<Response<ext::Snapshot>, Status> {
        let instance = &request.get_ref().instance_name;
        let view = self.stores.open(&request, instance, Right::Read)?;
        let request = request.into_inner();
        let key = key(function(request.digest_function)?, &request.name)?;
        let latest = view.get_one(Kind::CacheMount, &key).await;
        let latest = match latest.map_err(|fault| status::of_fault(&fault))? {
            Some(encoded) => snapshot_of(&encoded)?,
            None => None,
        };
        latest
            .map(Response::new)
            .ok_or_else(|| Status::not_found("the cache mount has no snapshot here"))
    }

    async fn save(
        &self,
        request: Request<ext::SaveRequest>,
    ) -> Result<Response<ext::Snapshot>, Status> {
        /// Whoever loses against others looks again, but not for ever.
        const ATTEMPTS: usize = 8;
        let instance = &request.get_ref().instance_name;
        let view = self.stores.open(&request, instance, Right::Write)?;
        let request = request.into_inner();
        let function = function(request.digest_function)?;
        let key = key(function, &request.name)?;
        let trees = digests(&request.trees, function)?;
        if trees.len() > limits::MOUNT_TREES {
            return Err(Status::invalid_argument(format!(
                "a snapshot has no more than {} trees",
                limits::MOUNT_TREES
            )));
        }
        for _ in 0..ATTEMPTS {
            let (there, generation) = before(&view, &key).await?;
            // A snapshot that is gone may be followed by any: whoever saves has begun with
            // something.
            if generation > 0 && generation != request.replaces {
                return Err(Status::aborted(format!(
                    "generation {generation} was saved meanwhile"
                )));
            }
            let mut snapshot = ext::Snapshot {
                trees: Vec::new(),
                generation: generation.max(request.replaces).saturating_add(1),
                saved: Some(time_to_wire((self.clock)())),
            };
            let encoded = result_of(&snapshot, &trees);
            check_complete(&view, &encoded, function).await?;
            let swapped = view
                .swap(Kind::CacheMount, &key, there.as_ref(), encoded)
                .await;
            if swapped.map_err(|fault| status::of_fault(&fault))? {
                view.note(What::Write, |event| {
                    event.to_key(key).with("cache_mount", request.name)
                });
                snapshot.trees = request.trees;
                return Ok(Response::new(snapshot));
            }
        }
        Err(Status::aborted(
            "the cache mount is saved by others faster than it can be looked at",
        ))
    }
}
