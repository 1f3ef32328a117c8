//! The stores of a server of a farm.
//!
//! ```text
//!             ┌── results, leases, pins, index of blobs ──▶ Redis
//!   services ─┤
//!             └── blobs ──▶ near disk ──▶ object store
//!                     └──▶ the near disk of the server that owns the blob
//! ```
//!
//! All that counts is in Redis and in the object store: a server keeps nothing that another has not.
//! It starts while they are away, is not ready then, answers UNAVAILABLE, and goes on when they are
//! back.
//!
//! Results are not kept near: one that was invalidated by another server is gone at once. Nor does
//! any server learn what another removes: whether blobs are there, the index is asked each time, and
//! trees that were found complete are taken to be so for ten seconds at most. Nothing that was used
//! so lately is evicted.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ashlar_model::cas::ActionKey;
use ashlar_model::executor::BoxFuture;
use ashlar_store::clock::Clock;
use ashlar_store::completeness::Completeness;
use ashlar_store::counters::Counters;
use ashlar_store::disk::DiskStore;
use ashlar_store::lease::Limits;
use ashlar_store::objects::address::{self, AddressError};
use ashlar_store::objects::bucket::Bucket;
use ashlar_store::objects::upkeep::{ObjectUpkeep, Spared, UpkeepSettings};
use ashlar_store::objects::{MEMORY, ObjectBlobs};
use ashlar_store::redis::index::RedisIndex;
use ashlar_store::redis::leases::RedisLeases;
use ashlar_store::redis::queue::RedisQueue;
use ashlar_store::redis::results::RedisResults;
use ashlar_store::redis::results::pages::ResultsPage;
use ashlar_store::redis::{Redis, RedisSettings};
use ashlar_store::rendezvous::Rendezvous;
use ashlar_store::rendezvous::members::{Members, PeerSettings};
use ashlar_store::task::{Task, spawn};
use ashlar_store::tiered::{TieredBlobs, Writes};
use ashlar_store::traced::traced;
use ashlar_store::{ActionCache as _, BlobStore, Fault, FaultKind};

use super::{Engines, Item, Page, StoreState, Upkeep, Usage};
use crate::peers::{PeerTokenError, PeerTokens};
use crate::settings::Settings;
use crate::settings::env::Environment;
use crate::settings::farm::FarmSettings;

/// Results live so long after their last use unless it is set.
const UNUSED_FOR: Duration = Duration::from_secs(30 * 86_400);

/// Lists of results are tidied up this often.
const TIDY_EVERY: Duration = Duration::from_secs(3600);

/// Pinned results that are looked at in one go.
const PINNED: usize = 100;

/// Settings of which no farm can be made.
#[derive(Debug, thiserror::Error)]
pub enum FarmError {
    /// The address of Redis is none.
    #[error("--redis cannot be used")]
    Redis(#[source] Fault),
    /// The address of the object store is none.
    #[error("--objects cannot be used")]
    Objects(#[from] AddressError),
    /// The servers' tokens cannot be read.
    #[error("--peer-token-file cannot be used")]
    Tokens(#[from] PeerTokenError),
}

/// Redis and the object store: what all servers have in common.
#[derive(Debug, Clone)]
pub struct FarStores {
    /// Redis.
    pub redis: Arc<Redis>,
    /// Blobs in the object store, of which Redis has the index.
    pub objects: Arc<ObjectBlobs>,
    /// The index, and who holds what.
    pub index: Arc<RedisIndex>,
}

impl FarStores {
    /// What settings name. Nobody is called yet. Has to be called within a runtime.
    pub fn open(
        farm: &FarmSettings,
        environment: &Environment,
        counters: &Arc<Counters>,
    ) -> Result<Self, FarmError> {
        let redis = RedisSettings {
            password_file: farm.redis_password_file.clone(),
            ca_file: farm.redis_ca.clone(),
            prefix: farm.redis_prefix.clone(),
            replicas: farm.redis_replicas,
            ..RedisSettings::new(farm.redis.clone())
        };
        let redis = Redis::new(redis, counters.clone()).map_err(FarmError::Redis)?;
        let options = farm.object_options.iter();
        let options = options.map(|(name, value)| (name.clone(), value.text()));
        let store = address::open(
            &farm.objects,
            &options.collect(),
            environment.of_object_stores(),
        )?;
        let index = Arc::new(RedisIndex::new(redis.clone()));
        let bucket = Bucket::new(store, counters.clone());
        Ok(Self {
            objects: Arc::new(ObjectBlobs::new(bucket, index.clone(), MEMORY)),
            redis,
            index,
        })
    }
}

/// The stores of a server of a farm. What it does in the background ends with it.
#[derive(Debug)]
pub struct Farm {
    engines: Engines,
    /// What other servers may read from: near in front of far.
    own_blobs: Arc<dyn BlobStore>,
    tokens: Option<Arc<PeerTokens>>,
    queue: RedisQueue,
    _background: Vec<Task<()>>,
}

impl Farm {
    /// The stores that settings name. None is called yet. Has to be called within a runtime.
    pub fn open(
        settings: &Settings,
        farm: &FarmSettings,
        near: Option<&Arc<DiskStore>>,
        environment: &Environment,
        counters: &Arc<Counters>,
        clock: &Clock,
    ) -> Result<Self, FarmError> {
        let far = FarStores::open(farm, environment, counters)?;
        let unused_for = settings.unused_for.given().unwrap_or(UNUSED_FOR);
        let results = Arc::new(RedisResults::new(far.redis.clone(), unused_for));
        let leases = RedisLeases::new(far.redis.clone(), Limits::default(), unused_for);
        let leases = Arc::new(leases);
        let pinned = Pinned {
            results: results.clone(),
            complete: Completeness::new(results.clone(), far.objects.clone(), Duration::ZERO),
            clock: clock.clone(),
        };
        let upkeep = Arc::new(ObjectUpkeep::new(
            far.objects.clone(),
            leases.clone(),
            Some(Arc::new(pinned)),
            clock.clone(),
            UpkeepSettings {
                limit: farm.objects_limit.given(),
                high_watermark: settings.high_watermark.0,
                low_watermark: settings.low_watermark.0,
                unused_for: settings.unused_for.given(),
                ..UpkeepSettings::default()
            },
        ));
        let mut background = vec![
            spawn({
                let upkeep = upkeep.clone();
                async move { upkeep.run().await }
            }),
            spawn(tidy(results.clone())),
        ];

        let objects: Arc<dyn BlobStore> = far.objects.clone();
        let own_blobs: Arc<dyn BlobStore> = match near {
            Some(near) => Arc::new(
                TieredBlobs::new(traced("near", near), objects.clone(), Writes::Both)
                    .counted(counters.clone()),
            ),
            None => objects.clone(),
        };
        let (mut blobs, mut tokens, mut members) = (own_blobs.clone(), None, None);
        if let Some(peers) = &farm.peers {
            let known = Arc::new(PeerTokens::read(&peers.token_file)?);
            let found = Arc::new(Members::new(
                peers.names.clone(),
                peers.address.clone(),
                PeerSettings {
                    token: Some(known.clone()),
                    certificates: Vec::new(),
                    counters: counters.clone(),
                },
            ));
            blobs = Arc::new(Rendezvous::new(own_blobs.clone(), objects, found.clone()));
            background.push(spawn({
                let found = found.clone();
                async move { found.run().await }
            }));
            background.push(spawn({
                let known = known.clone();
                async move { known.run().await }
            }));
            (tokens, members) = (Some(known), Some(found));
        }
        let near = near.map(Engines::on_disk);
        let removals = far.objects.removals();
        let queue = RedisQueue::new(far.redis.clone());
        Ok(Self {
            engines: Engines {
                blobs,
                results: results.clone(),
                leases,
                possession: far.index.clone(),
                upkeep: Arc::new(FarmUpkeep {
                    far,
                    results,
                    upkeep,
                    near: near.map(|near| near.upkeep),
                    members,
                    counters: counters.clone(),
                }),
                removals,
                counters: counters.clone(),
            },
            own_blobs,
            tokens,
            queue,
            _background: background,
        })
    }

    /// What the services are made of.
    pub const fn engines(&self) -> &Engines {
        &self.engines
    }

    /// Where it is said which server has the queue, and what servers show each other; `None` where
    /// they do not speak to each other.
    pub fn for_queue(&self) -> Option<(RedisQueue, Arc<PeerTokens>)> {
        Some((self.queue.clone(), self.tokens.clone()?))
    }

    /// What other servers may read, and the tokens for that; `None` where there are none.
    pub fn for_peers(&self) -> Option<(Engines, Arc<PeerTokens>)> {
        let engines = Engines {
            blobs: self.own_blobs.clone(),
            ..self.engines.clone()
        };
        Some((engines, self.tokens.clone()?))
    }
}

/// Tidies lists of results up now and then.
async fn tidy(results: Arc<RedisResults>) {
    loop {
        tokio::time::sleep(TIDY_EVERY).await;
        if let Err(fault) = results.tidy().await {
            let error = ashlar_store::fault::in_one_line(&fault);
            tracing::warn!(error, "lists of results are not tidied up");
        }
    }
}

/// What pinned results name.
struct Pinned {
    results: Arc<RedisResults>,
    /// Without memory: each walk uses all that it finds.
    complete: Completeness,
    clock: Clock,
}

impl std::fmt::Debug for Pinned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pinned").finish_non_exhaustive()
    }
}

impl Spared for Pinned {
    fn touch(&self) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            let pinned = self.results.pinned((self.clock)()).await?;
            for keys in pinned.chunks(PINNED) {
                self.complete.get(keys).await?;
            }
            Ok(())
        })
    }
}

/// The upkeep of a farm, as far as this server has a part in it.
#[derive(Debug)]
struct FarmUpkeep {
    far: FarStores,
    results: Arc<RedisResults>,
    upkeep: Arc<ObjectUpkeep>,
    near: Option<Arc<dyn Upkeep>>,
    members: Option<Arc<Members>>,
    counters: Arc<Counters>,
}

fn page(page: ResultsPage) -> Page {
    let items = page.items.into_iter().map(|listed| Item {
        key: listed.key,
        last_used: listed.last_used,
        result: listed.result,
    });
    Page {
        items: items.collect(),
        next: page.next,
    }
}

impl Upkeep for FarmUpkeep {
    fn usage(&self) -> BoxFuture<'_, Result<Usage, Fault>> {
        Box::pin(async move {
            let index = self.far.objects.index();
            let (totals, results) = tokio::try_join!(index.totals(), self.results.count())?;
            Ok(Usage {
                blobs: totals.blobs,
                blob_bytes: totals.bytes,
                results,
                limit_bytes: self.upkeep.settings().limit.unwrap_or(0),
                evicted_blobs: self.upkeep.evicted_blobs(),
            })
        })
    }

    fn list<'a>(
        &'a self,
        instance: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, Fault>> {
        Box::pin(async move { self.results.list(instance, after, limit).await.map(page) })
    }

    fn walk<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, Fault>> {
        Box::pin(async move { self.results.walk(after, limit).await.map(page) })
    }

    fn pin<'a>(
        &'a self,
        key: &'a ActionKey,
        until: SystemTime,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(self.results.pin(key, until))
    }

    fn unpin<'a>(&'a self, key: &'a ActionKey) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(self.results.unpin(key))
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            tokio::try_join!(self.far.redis.ready(), self.far.objects.bucket().ready()).map(drop)
        })
    }

    fn states(&self) -> BoxFuture<'_, Vec<StoreState>> {
        Box::pin(async move {
            let near = async {
                match &self.near {
                    Some(near) => Some(StoreState::of("near", false, near.ready()).await),
                    None => None,
                }
            };
            let (redis, objects, near) = tokio::join!(
                StoreState::of("redis", true, self.far.redis.ready()),
                StoreState::of("objects", true, self.far.objects.bucket().ready()),
                near,
            );
            let mut states = vec![redis, objects];
            states.extend(near);
            if let Some(members) = &self.members {
                let away = self.counters.peers.is_up() == Some(false);
                let fault = away.then(|| {
                    Fault::new(
                        FaultKind::Unavailable,
                        "the server that was asked last is away",
                    )
                });
                states.push(StoreState {
                    name: "peers",
                    needed: false,
                    fault,
                    note: Some(format!("{} servers", members.count())),
                });
            }
            states
        })
    }
}
