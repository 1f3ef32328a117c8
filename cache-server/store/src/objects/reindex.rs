//! The index of blobs from what lies in the object store, after it was lost.
//!
//! Packs list their blobs at their end, and the names of other objects say which blob they are. An
//! index that is not lost is not harmed: what it knows stays, or moves to another copy of the same
//! bytes.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use futures::{StreamExt as _, TryStreamExt as _};

use super::bucket::Listed;
use super::name::{self, BLOBS, PACKS};
use super::upkeep::entries_of;
use super::{ALL, ObjectBlobs, Shared};
use crate::fault::{Fault, FaultKind};

/// Objects that are read at once.
const AT_ONCE: usize = 16;

/// Condemned objects are deleted no later than this.
const CONDEMNED_FOR: Duration = Duration::from_secs(365 * 86_400);

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reindexed {
    /// Objects whose blobs are in the index now.
    pub objects: u64,
    /// Their blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packs that are damaged.
    pub damaged: u64,
    /// Objects that are none of ours, or that are to be deleted.
    pub others: u64,
}

/// Reads the whole store, and puts into the index what is there. `progress` is told now and then.
pub async fn reindex(
    objects: &ObjectBlobs,
    now: SystemTime,
    progress: impl Fn(&Reindexed),
) -> Result<Reindexed, Fault> {
    let shared = &objects.shared;
    let condemned = shared.index.condemned(now + CONDEMNED_FOR, ALL).await?;
    let condemned: HashSet<String> = condemned.into_iter().collect();
    let mut all = Reindexed::default();
    for directory in [PACKS, BLOBS] {
        let listed = shared.bucket.list(directory);
        let mut read = listed
            .map_ok(|object| add(shared, object, &condemned))
            .try_buffer_unordered(AT_ONCE)
            .boxed();
        while let Some(one) = read.try_next().await? {
            all.objects += one.objects;
            all.blobs += one.blobs;
            all.bytes += one.bytes;
            all.damaged += one.damaged;
            all.others += one.others;
            if (all.objects + all.damaged + all.others).is_multiple_of(1000) {
                progress(&all);
            }
        }
    }
    Ok(all)
}

/// Puts one object into the index.
async fn add(
    shared: &Shared,
    object: Listed,
    condemned: &HashSet<String>,
) -> Result<Reindexed, Fault> {
    let none = Reindexed::default();
    if name::parse(&object.name).is_none() || condemned.contains(&object.name) {
        return Ok(Reindexed { others: 1, ..none });
    }
    let entries = match entries_of(shared, &object.name, object.bytes).await {
        Ok(entries) => entries,
        Err(fault) if matches!(fault.kind, FaultKind::NotFound | FaultKind::Invalid) => {
            return Ok(Reindexed { damaged: 1, ..none });
        }
        Err(fault) => return Err(fault),
    };
    shared
        .index
        .add(&object.name, object.bytes, &entries)
        .await?;
    Ok(Reindexed {
        objects: 1,
        blobs: entries.len() as u64,
        bytes: object.bytes,
        ..none
    })
}
