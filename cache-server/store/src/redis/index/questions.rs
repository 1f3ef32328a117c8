//! What is asked about many blobs at once.
//!
//! Thousands of digests come in one question, and most of what they cost is in being asked one by
//! one. So blobs of one tag are asked about together: a script gives their places. Whether they are
//! there takes less: Redis counts how many of some keys there are, and if all are or none is, that is
//! the answer. Places are needed only so that the use of objects is noted; of blobs of which that was
//! done lately, nothing else is asked.

use ashlar_model::cas::CasDigest;
use bytes::Bytes;
use redis::Value;

use super::super::answer;
use super::super::keys::Key;
use super::super::request::Request;
use super::{BATCH, RedisIndex, place, scripts};
use crate::fault::{Fault, FaultKind};
use crate::objects::index::Place;

/// So many blobs are counted first, though the use of their objects is to be noted.
const MANY: usize = 500;

/// The place of a blob among others that are asked about, and what is said of it.
type Said = (usize, Option<Bytes>);

/// Blobs in batches of one tag: by their places.
fn batches(blobs: &[CasDigest], mut which: Vec<usize>) -> Vec<Vec<usize>> {
    let tag = |at: &usize| blobs.get(*at).map(|blob| blob.hash[0]);
    which.sort_unstable_by_key(tag);
    let tags = which.chunk_by(|one, other| tag(one) == tag(other));
    let batches = tags.flat_map(|tag| tag.chunks(BATCH));
    batches.map(<[usize]>::to_vec).collect()
}

/// Where a blob lies, as its hash has it.
fn parse_place(blob: &CasDigest, bytes: Option<Bytes>) -> Result<Option<Place>, Fault> {
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    let place = place::decode(blob, &bytes).ok_or_else(|| {
        let what = format!("the place of {blob} is not one that this version of the server writes");
        Fault::new(FaultKind::Internal, what)
    });
    place.map(Some)
}

impl RedisIndex {
    /// The places of blobs, without noting a use.
    pub(super) async fn places(&self, blobs: &[CasDigest]) -> Result<Vec<Option<Place>>, Fault> {
        let all = (0..blobs.len()).collect();
        let mut places = vec![None; blobs.len()];
        for (at, said) in self.ask("find", blobs, all, &[]).await? {
            if let (Some(blob), Some(place)) = (blobs.get(at), places.get_mut(at)) {
                *place = parse_place(blob, said)?;
            }
        }
        Ok(places)
    }

    /// Which blobs there are. Notes the use of those.
    pub(super) async fn are_known(&self, blobs: &[CasDigest]) -> Result<Vec<bool>, Fault> {
        let noted = self.noted.are_done(blobs);
        let is_noted = |at: usize| noted.get(at) == Some(&true);
        let (old, mut unsure): (Vec<usize>, Vec<usize>) =
            (0..blobs.len()).partition(|at| is_noted(*at));
        let mut known = vec![false; blobs.len()];
        // Those were there, and are; of the others, hardly any is if they are many.
        let mut batches = batches(blobs, old);
        if unsure.len() >= MANY {
            batches.extend(self::batches(blobs, std::mem::take(&mut unsure)));
        }
        let counts = batches.iter().map(|batch| {
            let keys: Vec<Key> = self.keys_of(blobs, batch);
            Request::command_of("EXISTS", &keys)
        });
        let counts = self.redis.call("find", counts.collect()).await?;
        for (batch, count) in batches.into_iter().zip(&counts) {
            let count = answer::count(count)?;
            if count == 0 {
                continue;
            }
            let are_all = count == batch.len() as u64;
            for at in batch {
                match known.get_mut(at) {
                    Some(known) if are_all && is_noted(at) => *known = true,
                    _ => unsure.push(at),
                }
            }
        }
        let said = self.ask("find", blobs, unsure, &[]).await?;
        for (at, _) in said.iter().filter(|(_, place)| place.is_some()) {
            if let Some(known) = known.get_mut(*at) {
                *known = true;
            }
        }
        self.note_said(blobs, said, &noted).await?;
        Ok(known)
    }

    /// Which blobs one of some namespaces holds. Notes the use of those.
    pub(super) async fn are_held(
        &self,
        blobs: &[CasDigest],
        holders: &[Bytes],
    ) -> Result<Vec<bool>, Fault> {
        // Without holders, it would be asked whether they are there at all.
        if holders.is_empty() {
            return Ok(vec![false; blobs.len()]);
        }
        let noted = self.noted.are_done(blobs);
        let all = (0..blobs.len()).collect();
        let said = self.ask("held", blobs, all, holders).await?;
        let mut held = vec![false; blobs.len()];
        for (at, place) in &said {
            if let Some(held) = held.get_mut(*at) {
                *held = place.is_some();
            }
        }
        self.note_said(blobs, said, &noted).await?;
        Ok(held)
    }

    /// Notes the use of blobs of which the places are told, but of those of which that was done.
    async fn note_said(
        &self,
        blobs: &[CasDigest],
        said: Vec<Said>,
        noted: &[bool],
    ) -> Result<(), Fault> {
        let mut used = Vec::new();
        let mut objects = Vec::new();
        for (at, place) in said {
            if let (Some(blob), Some(false)) = (blobs.get(at), noted.get(at))
                && let Some(place) = parse_place(blob, place)?
            {
                used.push(blob);
                objects.push(place.object);
            }
        }
        if !used.is_empty() {
            let objects = objects.iter().map(String::as_str);
            self.note(objects, used.into_iter()).await;
        }
        Ok(())
    }

    /// Asks for the places of some of the blobs; with `holders`, of those that one of them holds.
    async fn ask(
        &self,
        operation: &'static str,
        blobs: &[CasDigest],
        which: Vec<usize>,
        holders: &[Bytes],
    ) -> Result<Vec<Said>, Fault> {
        let batches = batches(blobs, which);
        let questions = batches.iter().map(|batch| {
            let keys = self.keys_of(blobs, batch);
            let mut question = match &keys[..] {
                [key] if holders.is_empty() => Request::command("HGET", key).arg(&b"p"[..]),
                [key] => Request::command("HMGET", key).arg(&b"p"[..]),
                _ if holders.is_empty() => Request::script(&scripts::PLACES, keys),
                _ => Request::script(&scripts::HELD, keys),
            };
            for holder in holders {
                question.push(holder.clone());
            }
            question
        });
        let answers = self.redis.call(operation, questions.collect()).await?;
        let mut said = Vec::with_capacity(blobs.len());
        for (batch, answer) in batches.into_iter().zip(answers) {
            let [at] = batch[..] else {
                let places = answer::array(answer)?.into_iter().map(answer::bytes);
                for (at, place) in batch.into_iter().zip(places) {
                    said.push((at, place?));
                }
                continue;
            };
            let place = if holders.is_empty() {
                answer
            } else {
                let mut fields = answer::array(answer)?.into_iter();
                let place = fields.next().unwrap_or_default();
                let is_held = fields.any(|field| field != Value::Nil);
                if is_held { place } else { Value::Nil }
            };
            said.push((at, answer::bytes(place)?));
        }
        Ok(said)
    }

    fn keys_of(&self, blobs: &[CasDigest], which: &[usize]) -> Vec<Key> {
        let blobs = which.iter().filter_map(|at| blobs.get(*at));
        blobs.map(|blob| self.redis.keys.blob(blob)).collect()
    }
}

#[cfg(test)]
mod tests {
    use ashlar_model::cas::DigestFunction;

    use super::*;

    #[test]
    fn batches_are_of_one_tag_and_not_too_large() {
        let blob = |number: usize| {
            let mut blob = CasDigest::of(DigestFunction::Blake3, &number.to_le_bytes());
            blob.hash[0] = if number.is_multiple_of(3) {
                0
            } else {
                blob.hash[0]
            };
            blob
        };
        let blobs: Vec<CasDigest> = (0..2000).map(blob).collect();
        let batches = batches(&blobs, (0..2000).collect());
        let mut all = batches.concat();
        all.sort_unstable();
        assert_eq!(all, (0..2000).collect::<Vec<_>>());
        for batch in &batches {
            assert!(batch.len() <= BATCH && !batch.is_empty());
            let tags = batch.iter().map(|at| blobs[*at].hash[0]);
            let tags: std::collections::HashSet<u8> = tags.collect();
            assert_eq!(tags.len(), 1);
        }
        assert!(batches.len() < 256 + 2000 / BATCH + 1);
    }
}
