//! Eviction, and tidying up: what is done now and then, by one server at a time.
//!
//! An object is evicted as a whole: the least recently used while there is too much, and those that
//! nobody used for so long. It is condemned first, after which no blob is found in it; after a time
//! of grace, in which reads that began earlier end, it is deleted; then it is struck off the list.
//! Each step can be taken again by another server after a crash.
//!
//! What was used within the last ten minutes is never condemned, even if there is too much: a client
//! that was just given a result finds the blobs that it names. Whatever must stay is
//! [used](Spared::touch) before anything is condemned.
//!
//! Once a day everything in the store is looked over: packs whose blobs are mostly dead (they were
//! written again elsewhere, or found damaged) are written anew; objects that the index does not know
//! and that are older than a day, of servers that crashed, are deleted. The latter only if the index
//! knows most of what lies there: one that was lost a moment ago would condemn everything.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ashlar_model::cas::CasDigest;
use ashlar_model::executor::BoxFuture;
use futures::StreamExt as _;
use tokio::time::sleep;

use super::bucket::Listed;
use super::index::IndexedObject;
use super::name::{self, BLOBS, Kind, PACKS};
use super::pack::{End, Entry, read_end};
use super::{ALL, ObjectBlobs, Shared};
use crate::clock::Clock;
use crate::fault::{Fault, FaultKind, in_one_line};
use crate::lease::{Acquired, Grant, LeaseKey, LeaseStore};

/// How many objects are looked at in one go.
const GROUP: usize = 64;

/// The end of a pack is read in one go if it is no longer: 1300 blobs.
const TAIL: u64 = 64 << 10;

/// Who does it is decided by a lease of this name, in an instance that no client can name.
const LEASE: (&str, &str) = ("operations/upkeep", "objects");

/// How long that is held without renewal.
const LEASE_FOR: Duration = Duration::from_secs(60);

/// The object that says when everything was looked over, in seconds since 1970.
const LOOKED_OVER: &str = "looked-over";

/// Blobs of a pack are written anew so many bytes at a time.
const REWRITE: u64 = 4 << 20;

/// When and what.
#[derive(Debug, Clone)]
pub struct UpkeepSettings {
    /// How many bytes the objects may have; `None` for any.
    pub limit: Option<u64>,
    /// Percent of the limit above which objects are evicted.
    pub high_watermark: u8,
    /// Percent of the limit down to which they are.
    pub low_watermark: u8,
    /// Objects that nobody used for so long are evicted; `None` for never.
    pub unused_for: Option<Duration>,
    /// The time between an object's condemnation and its end.
    pub grace: Duration,
    /// Objects whose last use that the index knows of is no longer ago are not condemned.
    pub fresh_for: Duration,
    /// How often it is looked whether there is something to do.
    pub every: Duration,
    /// How often everything in the store is looked over.
    pub look_over_every: Duration,
    /// Objects that the index does not know are left alone for so long.
    pub orphan_age: Duration,
}

impl Default for UpkeepSettings {
    fn default() -> Self {
        Self {
            limit: None,
            high_watermark: 95,
            low_watermark: 85,
            unused_for: None,
            grace: Duration::from_secs(600),
            // Ten minutes, and as much again, for uses may be noted so late.
            fresh_for: Duration::from_secs(1260),
            every: Duration::from_secs(60),
            look_over_every: Duration::from_secs(86_400),
            orphan_age: Duration::from_secs(86_400),
        }
    }
}

/// What must stay, however long it was not used.
pub trait Spared: Send + Sync + std::fmt::Debug {
    /// Uses all of it.
    fn touch(&self) -> BoxFuture<'_, Result<(), Fault>>;
}

/// What a round did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Round {
    /// Objects that were condemned.
    pub condemned: u64,
    /// Condemned ones that were deleted.
    pub deleted: u64,
}

/// What came of looking everything over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LookedOver {
    /// Objects in the store.
    pub objects: u64,
    /// Packs that were written anew.
    pub rewritten: u64,
    /// Objects without any blob that were condemned.
    pub dead: u64,
    /// Objects that the index does not know and that were deleted.
    pub orphans: u64,
    /// Whether the index knew too little for that.
    pub index_is_lost: bool,
}

/// Looks after an object store.
pub struct ObjectUpkeep {
    objects: Arc<ObjectBlobs>,
    leases: Arc<dyn LeaseStore>,
    spared: Option<Arc<dyn Spared>>,
    clock: Clock,
    settings: UpkeepSettings,
    evicted_blobs: AtomicU64,
}

impl std::fmt::Debug for ObjectUpkeep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectUpkeep")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl ObjectUpkeep {
    /// Nothing is done yet. Of several servers the one that holds a lease of `leases` does it.
    pub fn new(
        objects: Arc<ObjectBlobs>,
        leases: Arc<dyn LeaseStore>,
        spared: Option<Arc<dyn Spared>>,
        clock: Clock,
        settings: UpkeepSettings,
    ) -> Self {
        Self {
            objects,
            leases,
            spared,
            clock,
            settings,
            evicted_blobs: AtomicU64::new(0),
        }
    }

    /// The settings.
    pub const fn settings(&self) -> &UpkeepSettings {
        &self.settings
    }

    /// Blobs that this server evicted since its start.
    pub fn evicted_blobs(&self) -> u64 {
        self.evicted_blobs.load(Ordering::Relaxed)
    }

    /// Does what has to be done, for as long as it runs. Faults are for the log: what was not done
    /// is done later.
    pub async fn run(&self) {
        loop {
            sleep(self.settings.every).await;
            if let Err(fault) = self.led().await {
                tracing::warn!("the object store is not tidied up: {}", in_one_line(&fault));
            }
        }
    }

    /// One round, if this server is the one to do it.
    async fn led(&self) -> Result<(), Fault> {
        let (instance, key) = LEASE;
        let key = LeaseKey {
            instance: instance.to_owned(),
            key: key.to_owned(),
        };
        let acquired = self.leases.acquire(&key, "upkeep", LEASE_FOR).await?;
        let Acquired::Granted(grant) = acquired else {
            return Ok(());
        };
        let work = async {
            let round = self.round().await?;
            if round != Round::default() {
                let Round { condemned, deleted } = round;
                tracing::info!(condemned, deleted, "tidied the object store up");
            }
            if self.is_look_over_due().await? {
                let found = self.look_over().await?;
                tracing::info!(?found, "looked the object store over");
            }
            Ok(())
        };
        let done = tokio::select! {
            done = work => done,
            fault = self.keep(&key, &grant) => Err(fault),
        };
        self.leases.release(&key, &grant.token).await?;
        done
    }

    /// Whether everything has to be looked over again. If so, it is noted that it is: whoever fails
    /// at it does not begin anew at once.
    async fn is_look_over_due(&self) -> Result<bool, Fault> {
        let bucket = &self.objects.shared.bucket;
        let now = self.seconds();
        let last = match bucket.whole(LOOKED_OVER, 32).await {
            Ok(text) => std::str::from_utf8(&text)
                .ok()
                .and_then(|text| text.parse().ok()),
            Err(fault) if is_damage(&fault) => None,
            Err(fault) => return Err(fault),
        };
        let every = self.settings.look_over_every.as_secs();
        if last.is_some_and(|last: u64| now < last.saturating_add(every)) {
            return Ok(false);
        }
        let text = now.to_string().into_bytes();
        bucket.put(LOOKED_OVER, vec![text.into()]).await?;
        Ok(true)
    }

    /// Seconds since 1970.
    fn seconds(&self) -> u64 {
        let now = (self.clock)().duration_since(UNIX_EPOCH);
        now.unwrap_or_default().as_secs()
    }

    /// Renews the lease until that fails.
    async fn keep(&self, key: &LeaseKey, grant: &Grant) -> Fault {
        loop {
            sleep(LEASE_FOR / 3).await;
            if let Err(fault) = self.leases.renew(key, &grant.token).await {
                return fault;
            }
        }
    }

    /// Evicts what is too much or too old, and deletes what was condemned before.
    pub async fn round(&self) -> Result<Round, Fault> {
        let condemned = self.evict().await?;
        let deleted = self.delete_condemned().await?;
        Ok(Round { condemned, deleted })
    }

    async fn evict(&self) -> Result<u64, Fault> {
        let index = &self.objects.shared.index;
        let now = (self.clock)();
        let bytes = index.totals().await?.bytes;
        let part = |percent: u8| {
            let limit = self.settings.limit.unwrap_or(u64::MAX);
            limit / 100 * u64::from(percent)
        };
        let mut excess = if bytes > part(self.settings.high_watermark) {
            bytes - part(self.settings.low_watermark).min(bytes)
        } else {
            0
        };
        let is_unused = |last_used: SystemTime| {
            let age = now.duration_since(last_used).unwrap_or_default();
            self.settings.unused_for.is_some_and(|limit| age > limit)
        };
        let oldest = index.oldest(1).await?;
        if excess == 0 && !oldest.iter().any(|object| is_unused(object.last_used)) {
            return Ok(0);
        }
        if let Some(spared) = &self.spared {
            spared.touch().await?;
        }
        let mut condemned = 0;
        loop {
            // Asked anew each time: what was used meanwhile is not among the oldest any more.
            let oldest = index.oldest(GROUP).await?;
            let mut went = false;
            for object in oldest {
                let age = now.duration_since(object.last_used).unwrap_or_default();
                if age <= self.settings.fresh_for {
                    continue;
                }
                if excess == 0 && !is_unused(object.last_used) {
                    continue;
                }
                self.evict_object(&object).await?;
                excess = excess.saturating_sub(object.bytes);
                condemned += 1;
                went = true;
            }
            if !went {
                return Ok(condemned);
            }
        }
    }

    /// Condemns an object with all blobs that it should have.
    async fn evict_object(&self, object: &IndexedObject) -> Result<(), Fault> {
        let shared = &self.objects.shared;
        let entries = entries_of(shared, &object.name, object.bytes).await;
        let blobs: Vec<CasDigest> = match entries {
            Ok(entries) => entries.into_iter().map(|(blob, _)| blob).collect(),
            // Whatever the index says of it, reads will find out.
            Err(fault) if is_damage(&fault) => Vec::new(),
            Err(fault) => return Err(fault),
        };
        self.condemn(&object.name, &blobs).await
    }

    /// Condemns an object, in which these blobs may lie.
    async fn condemn(&self, object: &str, blobs: &[CasDigest]) -> Result<(), Fault> {
        let shared = &self.objects.shared;
        let at = (self.clock)() + self.settings.grace;
        shared.index.condemn(object, blobs, at).await?;
        shared.removals.fetch_add(1, Ordering::Release);
        shared.bucket.counters().packs.condemned.one();
        self.evicted_blobs
            .fetch_add(blobs.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    async fn delete_condemned(&self) -> Result<u64, Fault> {
        let shared = &self.objects.shared;
        let mut deleted = 0;
        loop {
            let due = shared.index.condemned((self.clock)(), GROUP).await?;
            if due.is_empty() {
                return Ok(deleted);
            }
            let (gone, fault) = shared.bucket.delete(due).await;
            for object in &gone {
                shared.index.strike(object).await?;
            }
            deleted += gone.len() as u64;
            shared
                .bucket
                .counters()
                .packs
                .deleted
                .add(gone.len() as u64);
            if let Some(fault) = fault {
                return Err(fault);
            }
            if gone.is_empty() {
                return Ok(deleted);
            }
        }
    }

    /// Looks everything in the store over.
    pub async fn look_over(&self) -> Result<LookedOver, Fault> {
        let shared = &self.objects.shared;
        // Before the list: what is written meanwhile is in the list, young, and left alone.
        let mut known: HashSet<String> = HashSet::new();
        for object in shared.index.oldest(ALL).await? {
            known.insert(object.name);
        }
        let far = (self.clock)() + self.settings.grace * 2;
        let condemned = shared.index.condemned(far, ALL).await?;
        let condemned: HashSet<String> = condemned.into_iter().collect();
        let now = i64::try_from(self.seconds()).unwrap_or(i64::MAX);
        let age = i64::try_from(self.settings.orphan_age.as_secs()).unwrap_or(i64::MAX);

        let mut found = LookedOver::default();
        let mut orphans: Vec<Listed> = Vec::new();
        let mut old_and_known = 0_u64;
        for directory in [PACKS, BLOBS] {
            let mut listed = std::pin::pin!(shared.bucket.list(directory));
            while let Some(object) = listed.next().await {
                let object = object?;
                if name::parse(&object.name).is_none() || condemned.contains(&object.name) {
                    continue;
                }
                found.objects += 1;
                let is_old = now.saturating_sub(object.written) > age;
                if known.contains(&object.name) {
                    old_and_known += u64::from(is_old);
                    self.look_at(&object, &mut found).await?;
                } else if is_old {
                    orphans.push(object);
                }
            }
        }
        if orphans.len() as u64 > old_and_known {
            found.index_is_lost = true;
            tracing::warn!(
                unknown = orphans.len(),
                known = old_and_known,
                "the index knows few of the objects in the store, as if it had been lost: nothing \
                 is removed; `ashlar-cache reindex` makes the index again"
            );
            return Ok(found);
        }
        for group in orphans.chunks(GROUP) {
            let names = group.iter().map(|object| object.name.clone()).collect();
            let (gone, fault) = shared.bucket.delete(names).await;
            found.orphans += gone.len() as u64;
            let bytes = group.iter().filter(|object| gone.contains(&object.name));
            let packs = &shared.bucket.counters().packs;
            packs.deleted.add(gone.len() as u64);
            packs
                .deleted_bytes
                .add(bytes.map(|object| object.bytes).sum());
            if let Some(fault) = fault {
                return Err(fault);
            }
        }
        Ok(found)
    }

    /// Looks how much of an object is alive.
    async fn look_at(&self, object: &Listed, found: &mut LookedOver) -> Result<(), Fault> {
        let shared = &self.objects.shared;
        let entries = match entries_of(shared, &object.name, object.bytes).await {
            Ok(entries) => entries,
            // It is evicted as others are.
            Err(fault) if is_damage(&fault) => return Ok(()),
            Err(fault) => return Err(fault),
        };
        let blobs: Vec<CasDigest> = entries.iter().map(|(blob, _)| *blob).collect();
        let alive = shared.index.within(&object.name, &blobs).await?;
        if alive.is_empty() {
            self.condemn(&object.name, &[]).await?;
            found.dead += 1;
            return Ok(());
        }
        let bytes: u64 = alive.iter().map(|blob| blob.size).sum();
        if bytes >= object.bytes / 2 {
            return Ok(());
        }
        let alive: HashSet<CasDigest> = alive.into_iter().collect();
        let alive: Vec<Entry> = entries
            .into_iter()
            .filter(|(blob, _)| alive.contains(blob))
            .collect();
        self.rewrite(&object.name, &alive).await?;
        self.condemn(&object.name, &blobs).await?;
        shared.bucket.counters().packs.rewritten.one();
        found.rewritten += 1;
        Ok(())
    }

    /// Writes blobs of a pack into another one, to which they move.
    async fn rewrite(&self, object: &str, entries: &[Entry]) -> Result<(), Fault> {
        let shared = &self.objects.shared;
        let mut group = Vec::new();
        let mut bytes = 0;
        for (blob, offset) in entries {
            let end = offset.saturating_add(blob.size);
            let read = shared.bucket.get(object, *offset..end).await;
            match read.and_then(|bytes| crate::checked::check(blob, &bytes).map(|()| bytes)) {
                Ok(read) => {
                    bytes += blob.size;
                    group.push((*blob, read));
                }
                // Nobody could read it either.
                Err(fault) if is_damage(&fault) => {}
                Err(fault) => return Err(fault),
            }
            if bytes >= REWRITE {
                self.write(std::mem::take(&mut group)).await?;
                bytes = 0;
            }
        }
        self.write(group).await
    }

    async fn write(&self, blobs: Vec<(CasDigest, bytes::Bytes)>) -> Result<(), Fault> {
        let written = self.objects.writer.write_packed(blobs).await;
        written.into_iter().collect()
    }
}

/// Whether an object is not what it should be, or not there at all.
const fn is_damage(fault: &Fault) -> bool {
    matches!(fault.kind, FaultKind::NotFound | FaultKind::Invalid)
}

/// The blobs of an object of `length` bytes, as its name or its end says.
pub(super) async fn entries_of(
    shared: &Shared,
    object: &str,
    length: u64,
) -> Result<Vec<Entry>, Fault> {
    match name::parse(object) {
        None => return Err(Fault::invalid(format!("{object} is no object of ours"))),
        Some(Kind::Blob(blob)) if blob.size == length => return Ok(vec![(blob, 0)]),
        Some(Kind::Blob(_)) => return Err(Fault::invalid(format!("{object} was cut off"))),
        Some(Kind::Pack) => {}
    }
    let mut most = TAIL.min(length);
    // The second time there is as much as the first said that is needed.
    for _ in 0..2 {
        let tail = shared.bucket.get(object, length - most..length).await?;
        match read_end(&tail, length)? {
            End::Entries(entries) => return Ok(entries),
            End::Longer(bytes) => most = bytes.min(length),
        }
    }
    Err(Fault::invalid(format!("{object} changes while it is read")))
}
