//! Whether objects are there, and not only in the index.
//!
//! Of each object one byte is read: the last of the blob in it that lies farthest back. So one that
//! is shorter than it should be is found out as well, and a bucket that is away is not taken for one
//! that is empty, as the answer to a HEAD would have it. Bytes that are wrong are found when they are
//! read. Like a read, this looks twice before the index forgets anything.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ashlar_model::cas::CasDigest;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::Instant;

use super::{Shared, read};
use crate::blob_store::is_empty_blob;
use crate::fault::Fault;

/// An object that was there is not looked for again for so long. Shorter than a client takes from one
/// loss to the next round of its build.
const SEEN: Duration = Duration::from_secs(5);

/// So many objects are remembered.
const MOST: usize = 20_000;

/// Objects that are looked for at once for one client.
const AT_ONCE: usize = 16;

/// The objects that were there lately, and how far.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<HashMap<String, (Instant, u64)>>);

impl Seen {
    fn with<T>(&self, body: impl FnOnce(&mut HashMap<String, (Instant, u64)>) -> T) -> T {
        body(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn has(&self, object: &str, end: u64) -> bool {
        self.with(|seen| {
            let found = seen.get(object);
            found.is_some_and(|(since, far)| since.elapsed() < SEEN && *far >= end)
        })
    }

    fn note(&self, object: &str, end: u64) {
        self.with(|seen| {
            if seen.len() >= MOST {
                seen.retain(|_, (since, _)| since.elapsed() < SEEN);
            }
            if seen.len() < MOST {
                seen.insert(object.to_owned(), (Instant::now(), end));
            }
        });
    }
}

/// What is wanted of an object.
#[derive(Debug, Default)]
struct Wanted {
    blobs: Vec<CasDigest>,
    /// Where the last of them ends.
    end: u64,
}

/// Those of some blobs that are not there. What is not where the index says is forgotten.
pub(super) async fn look(
    shared: &Arc<Shared>,
    blobs: &[CasDigest],
) -> Result<Vec<CasDigest>, Fault> {
    let gone = gone(shared, &by_object(shared, blobs).await?).await?;
    if !gone.is_empty() {
        // They may have moved meanwhile.
        let mut objects = by_object(shared, blobs).await?;
        objects.retain(|object, _| gone.contains(object));
        for object in self::gone(shared, &objects).await? {
            if let Some(wanted) = objects.get(&object) {
                shared.forget(&object, &wanted.blobs).await?;
            }
        }
    }
    let places = shared.find(blobs).await?;
    let absent = blobs.iter().zip(places);
    let absent = absent.filter(|(blob, place)| place.is_none() && !is_empty_blob(blob));
    Ok(absent.map(|(blob, _)| *blob).collect())
}

async fn by_object(shared: &Shared, blobs: &[CasDigest]) -> Result<HashMap<String, Wanted>, Fault> {
    let mut objects: HashMap<String, Wanted> = HashMap::new();
    let places = shared.find(blobs).await?;
    for (blob, place) in blobs.iter().zip(places) {
        let Some(place) = place.filter(|_| !is_empty_blob(blob)) else {
            continue;
        };
        let wanted = objects.entry(place.object).or_default();
        wanted.blobs.push(*blob);
        wanted.end = wanted.end.max(place.offset.saturating_add(blob.size));
    }
    Ok(objects)
}

/// The objects that are not there, or too short.
async fn gone(shared: &Shared, objects: &HashMap<String, Wanted>) -> Result<Vec<String>, Fault> {
    let unseen = objects
        .iter()
        .map(|(object, wanted)| (object.clone(), wanted.end))
        .filter(|(object, end)| !shared.seen.has(object, *end));
    let looks = stream::iter(unseen.collect::<Vec<_>>()).map(|(object, end)| async move {
        let last = shared.bucket.get(&object, end.saturating_sub(1)..end);
        match last.await {
            Ok(_) => {
                shared.seen.note(&object, end);
                Ok(None)
            }
            Err(fault) if read::is_gone(&fault) => Ok(Some(object)),
            Err(fault) => Err(fault),
        }
    });
    let gone: Vec<Option<String>> = looks.buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(gone.into_iter().flatten().collect())
}
