//! Reading, and read-repair.
//!
//! Blobs that lie near each other in one pack come with one request. Small blobs are fetched whole,
//! even if only a part of one is wanted, so that every byte is checked. A blob that is not where the
//! index says, or is wrong, is looked for once more: it may have moved, or a byte may have been
//! changed on the way. If it is no better then, the index forgets it.
//!
//! No request is made twice to see which answer comes first (hedging): it would add to the load of a
//! store at the very time at which that is slow for having too much of it, and what is read often
//! comes from the near tier.

use std::collections::HashMap;
use std::sync::Arc;

use ashlar_model::cas::CasDigest;
use bytes::Bytes;
use futures::{StreamExt as _, stream};

use super::fault::again;
use super::index::Place;
use super::{SMALL, Shared};
use crate::blob_store::{ByteRange, ByteStream, bounds, is_empty_blob, nothing, once, slice};
use crate::checked::{check, checked};
use crate::fault::{Fault, FaultKind};

/// Blobs that lie no further apart are fetched with what is between them.
const GAP: u64 = 128 << 10;

/// Ranges are joined up to this length.
const LONGEST: u64 = 8 << 20;

/// Ranges that are fetched at once for one reader.
const AT_ONCE: usize = 16;

/// A blob that is wanted: its place among the questions, and in an object.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    at: usize,
    blob: CasDigest,
    offset: u64,
}

pub(super) async fn read(
    shared: &Arc<Shared>,
    blob: &CasDigest,
    range: ByteRange,
) -> Result<ByteStream, Fault> {
    if is_empty_blob(blob) {
        slice(blob, &Bytes::new(), range)?;
        return Ok(nothing());
    }
    if blob.size <= SMALL {
        bounds(blob, range)?;
        let bytes = read_many(shared, std::slice::from_ref(blob)).await.pop();
        let bytes = bytes.unwrap_or_else(|| Err(Fault::not_found(blob)))?;
        return Ok(once(slice(blob, &bytes, range)?));
    }
    let mut last: Option<Place> = None;
    loop {
        let place = shared
            .find(std::slice::from_ref(blob))
            .await?
            .pop()
            .flatten();
        let place = place.ok_or_else(|| Fault::not_found(blob))?;
        let (start, end) = bounds(blob, range)?;
        if start == end {
            return Ok(nothing());
        }
        let Some(from) = place.offset.checked_add(start) else {
            return Err(repaired(shared, &place, blob).await);
        };
        let opened = shared
            .bucket
            .open(&place.object, from..from + (end - start));
        match opened.await {
            Ok(bytes) => return Ok(watched(shared, blob, place, bytes, end - start)),
            Err(fault) if !is_gone(&fault) => return Err(fault),
            Err(_) if last.as_ref() == Some(&place) => {
                return Err(repaired(shared, &place, blob).await);
            }
            Err(_) => last = Some(place),
        }
    }
}

/// What a reader is told of a blob that is not where it should be.
async fn repaired(shared: &Shared, place: &Place, blob: &CasDigest) -> Fault {
    let forgotten = shared.forget(&place.object, std::slice::from_ref(blob));
    match forgotten.await {
        Ok(()) => Fault::not_found(blob),
        Err(fault) => fault,
    }
}

/// Whether a fault says that the bytes are not there or not right.
pub(super) const fn is_gone(fault: &Fault) -> bool {
    matches!(fault.kind, FaultKind::NotFound | FaultKind::Invalid)
}

/// A large blob's bytes, or some of them, as they come: whoever gets the last of a whole blob knows
/// that all are right. If they are not, the index forgets the blob.
fn watched(
    shared: &Arc<Shared>,
    blob: &CasDigest,
    place: Place,
    bytes: ByteStream,
    length: u64,
) -> ByteStream {
    let bytes = if length == blob.size {
        checked(blob, bytes)
    } else {
        bytes
    };
    let state = (bytes, shared.clone(), *blob, place, length);
    Box::pin(stream::try_unfold(
        state,
        |(mut bytes, shared, blob, place, left)| async move {
            let fault = match bytes.next().await {
                Some(Ok(piece)) => {
                    let left = left.saturating_sub(piece.len() as u64);
                    return Ok(Some((piece, (bytes, shared, blob, place, left))));
                }
                None if left == 0 => return Ok(None),
                None => Fault::invalid(format!("{blob} ended early")),
                Some(Err(fault)) => fault,
            };
            Err(if is_gone(&fault) {
                repaired(&shared, &place, &blob).await
            } else {
                fault
            })
        },
    ))
}

pub(super) async fn read_many(
    shared: &Arc<Shared>,
    blobs: &[CasDigest],
) -> Vec<Result<Bytes, Fault>> {
    let mut answers: Vec<Result<Bytes, Fault>> = blobs
        .iter()
        .map(|blob| {
            if is_empty_blob(blob) {
                Ok(Bytes::new())
            } else {
                Err(Fault::not_found(blob))
            }
        })
        .collect();
    let mut asked: Vec<(usize, CasDigest)> = blobs
        .iter()
        .copied()
        .enumerate()
        .filter(|(_, blob)| !is_empty_blob(blob))
        .collect();
    let mut seen: HashMap<CasDigest, Place> = HashMap::new();
    for is_last in [false, true] {
        let digests: Vec<CasDigest> = asked.iter().map(|(_, blob)| *blob).collect();
        let places = match shared.find(&digests).await {
            Ok(places) => places,
            Err(fault) => {
                for (at, _) in asked {
                    set(&mut answers, at, Err(again(&fault)));
                }
                return answers;
            }
        };
        let mut by_object: HashMap<String, Vec<Wanted>> = HashMap::new();
        for ((at, blob), place) in asked.iter().zip(places) {
            let Some(place) = place else {
                set(&mut answers, *at, Err(Fault::not_found(blob)));
                continue;
            };
            seen.insert(*blob, place.clone());
            let wanted = Wanted {
                at: *at,
                blob: *blob,
                offset: place.offset,
            };
            by_object.entry(place.object).or_default().push(wanted);
        }
        asked.clear();
        for (wanted, bytes) in fetch(shared, by_object).await {
            match bytes {
                Err(fault) if is_gone(&fault) => {
                    set(&mut answers, wanted.at, Err(Fault::not_found(wanted.blob)));
                    asked.push((wanted.at, wanted.blob));
                }
                bytes => set(&mut answers, wanted.at, bytes),
            }
        }
        if asked.is_empty() {
            break;
        }
        if is_last {
            forget(shared, &seen, &asked, &mut answers).await;
        }
    }
    answers
}

/// Lets the index forget what was not right at the second look either.
async fn forget(
    shared: &Shared,
    seen: &HashMap<CasDigest, Place>,
    gone: &[(usize, CasDigest)],
    answers: &mut [Result<Bytes, Fault>],
) {
    let mut by_object: HashMap<&str, Vec<CasDigest>> = HashMap::new();
    for (_, blob) in gone {
        if let Some(place) = seen.get(blob) {
            by_object.entry(&place.object).or_default().push(*blob);
        }
    }
    for (object, blobs) in by_object {
        if let Err(fault) = shared.forget(object, &blobs).await {
            for (at, _) in gone.iter().filter(|(_, blob)| blobs.contains(blob)) {
                set(answers, *at, Err(again(&fault)));
            }
        }
    }
}

fn set(answers: &mut [Result<Bytes, Fault>], at: usize, answer: Result<Bytes, Fault>) {
    if let Some(place) = answers.get_mut(at) {
        *place = answer;
    }
}

/// Fetches blobs, those of one object together. All that comes is checked.
async fn fetch(
    shared: &Arc<Shared>,
    by_object: HashMap<String, Vec<Wanted>>,
) -> Vec<(Wanted, Result<Bytes, Fault>)> {
    let runs: Vec<(String, Vec<Wanted>)> = by_object
        .into_iter()
        .flat_map(|(object, wanted)| {
            let runs = joined(wanted).into_iter();
            runs.map(move |run| (object.clone(), run))
        })
        .collect();
    let fetched = stream::iter(runs)
        .map(|(object, run)| async move { fetch_run(shared, &object, run).await })
        .buffer_unordered(AT_ONCE);
    fetched
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .flatten()
        .collect()
}

/// Blobs of one object, in runs that are worth one request each.
fn joined(mut wanted: Vec<Wanted>) -> Vec<Vec<Wanted>> {
    wanted.sort_by_key(|one| one.offset);
    let mut runs: Vec<Vec<Wanted>> = Vec::new();
    let (mut start, mut end) = (0_u64, 0_u64);
    for one in wanted {
        let until = one.offset.saturating_add(one.blob.size);
        match runs.last_mut() {
            Some(run)
                if one.offset <= end.saturating_add(GAP) && until - start.min(until) <= LONGEST =>
            {
                end = end.max(until);
                run.push(one);
            }
            _ => {
                (start, end) = (one.offset, until);
                runs.push(vec![one]);
            }
        }
    }
    runs
}

async fn fetch_run(
    shared: &Shared,
    object: &str,
    run: Vec<Wanted>,
) -> Vec<(Wanted, Result<Bytes, Fault>)> {
    let start = run.iter().map(|one| one.offset).min().unwrap_or(0);
    let ends = run
        .iter()
        .map(|one| one.offset.saturating_add(one.blob.size));
    let end = ends.max().unwrap_or(start);
    let fetched = shared.bucket.get(object, start..end).await;
    let cut = |one: &Wanted| -> Result<Bytes, Fault> {
        let bytes = fetched.as_ref().map_err(again)?;
        let from = usize::try_from(one.offset - start).unwrap_or(usize::MAX);
        let size = usize::try_from(one.blob.size).unwrap_or(usize::MAX);
        let until = from.saturating_add(size);
        if until > bytes.len() {
            return Err(Fault::invalid(format!("{} is cut off", one.blob)));
        }
        let own = bytes.slice(from..until);
        check(&one.blob, &own)?;
        // A small part does not hold all of a large range in memory.
        let is_small_part = run.len() > 1 && own.len() < bytes.len() / 4;
        Ok(if is_small_part {
            Bytes::copy_from_slice(&own)
        } else {
            own
        })
    };
    run.iter().map(|one| (*one, cut(one))).collect()
}
