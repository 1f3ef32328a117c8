//! `ashlar.cache.v1.CacheMounts`: contents of cache mounts.
//!
//! The latest snapshot of a mount is kept as a result: its key is the digest of a text that holds
//! the mount's name, its output directories are the snapshot's trees. So a snapshot of which a part
//! is gone is gone itself, and grows old with its parts.

use std::fmt;
use std::sync::Arc;

use ashlar_model::cas::{ActionKey, CasDigest, DigestFunction};
use ashlar_proto::convert::{digest_to_wire, time_to_wire};
use ashlar_proto::wire::ext;
use ashlar_proto::wire::ext::cache_mounts_server::CacheMounts;
use ashlar_proto::wire::reapi;
use ashlar_store::action_cache::{ActionCache as _, PutMode};
use ashlar_store::clock::Clock;
use prost::Message as _;
use tokio::sync::Mutex;
use tonic::{Request, Response, Status, async_trait};

use super::action_cache::{decode, store};
use super::request::{check_instance, digests, function};
use crate::stores::Stores;
use crate::{auth, limits, status};

/// The service.
#[derive(Clone)]
pub struct CacheMountsService {
    stores: Stores,
    clock: Clock,
    /// Held while the latest snapshot of a mount is compared and replaced.
    saving: Arc<Mutex<()>>,
}

impl fmt::Debug for CacheMountsService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheMountsService")
            .field("stores", &self.stores)
            .finish_non_exhaustive()
    }
}

/// The key of a mount's snapshot. No client can name that instance: its first segment is a keyword.
fn key(instance: &str, function: DigestFunction, name: &str) -> Result<ActionKey, Status> {
    check_instance(instance)?;
    if name.is_empty() || name.len() > limits::MOUNT_NAME {
        return Err(Status::invalid_argument(format!(
            "the name of a cache mount has 1 to {} bytes",
            limits::MOUNT_NAME
        )));
    }
    let text = format!("ashlar.cache-mount/1 {name}");
    Ok(ActionKey {
        instance: format!("operations/cache-mounts/{instance}"),
        action: CasDigest::of(function, text.as_bytes()),
    })
}

impl CacheMountsService {
    /// Serves from these stores.
    pub fn new(stores: Stores, clock: Clock) -> Self {
        Self {
            stores,
            clock,
            saving: Arc::default(),
        }
    }

    async fn latest(&self, key: ActionKey) -> Result<Option<ext::Snapshot>, Status> {
        let found = self.stores.results.get(&[key]).await;
        let found = found.map_err(|fault| status::of_fault(&fault))?;
        let Some(encoded) = found.into_iter().next().flatten() else {
            return Ok(None);
        };
        let result = decode(&encoded)?;
        // The record without what the trees say: they stand in the result, where they are checked.
        let Ok(mut snapshot) = ext::Snapshot::decode(result.stdout_raw) else {
            return Ok(None);
        };
        let directories = result.output_directories.into_iter();
        snapshot.trees = directories.filter_map(|tree| tree.tree_digest).collect();
        Ok(Some(snapshot))
    }
}

#[async_trait]
impl CacheMounts for CacheMountsService {
    async fn latest(
        &self,
        request: Request<ext::LatestRequest>,
    ) -> Result<Response<ext::Snapshot>, Status> {
        let request = request.into_inner();
        let function = function(request.digest_function)?;
        let key = key(&request.instance_name, function, &request.name)?;
        let latest = self.latest(key).await?;
        latest
            .map(Response::new)
            .ok_or_else(|| Status::not_found("the cache mount has no snapshot here"))
    }

    async fn save(
        &self,
        request: Request<ext::SaveRequest>,
    ) -> Result<Response<ext::Snapshot>, Status> {
        auth::require_write(&request)?;
        let request = request.into_inner();
        let function = function(request.digest_function)?;
        let key = key(&request.instance_name, function, &request.name)?;
        let trees = digests(&request.trees, function)?;
        if trees.len() > limits::MOUNT_TREES {
            return Err(Status::invalid_argument(format!(
                "a snapshot has no more than {} trees",
                limits::MOUNT_TREES
            )));
        }
        let _saving = self.saving.lock().await;
        let latest = self.latest(key.clone()).await?;
        let generation = latest.map_or(0, |latest| latest.generation);
        // A snapshot that is gone may be followed by any: whoever saves has begun with something.
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
        let encoded = bytes::Bytes::from(result.encode_to_vec());
        store(&self.stores, &key, encoded, PutMode::Replace).await?;
        snapshot.trees = request.trees;
        Ok(Response::new(snapshot))
    }
}
