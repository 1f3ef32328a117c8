//! Where blobs lie and who holds them, in Redis.
//!
//! A blob is a hash: its place, and a field for each namespace that holds it. A blob without place is
//! not there: so what is held is in the index, and what leaves the index is held by nobody.
//!
//! Uses of objects are noted coarsely: each server notes an object once in ten minutes. So a read
//! costs no write.
//!
//! | module | subject |
//! |---|---|
//! | [`place`] | where a blob lies, in few bytes |
//! | `scripts` | what happens to blobs of one tag, and to an object, in one step each |
//! | `questions` | what is asked about many blobs at once |
//! | `possession` | who holds what |

pub mod place;
mod possession;
mod questions;
mod scripts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ashlar_model::cas::CasDigest;
use ashlar_model::executor::BoxFuture;

use super::answer;
use super::connection::Redis;
use super::keys::Tag;
use super::recent::Recent;
use super::request::{Request, Script};
use crate::fault::Fault;
use crate::objects::index::{BlobIndex, IndexedObject, Place, Totals};

/// How often a use of an object is noted by each server.
const NOTED: Duration = Duration::from_secs(10 * 60);

/// So many blobs of one tag go into one script: others wait while it runs.
const BATCH: usize = 200;

/// So many objects are given at once.
const MOST: usize = 1 << 20;

/// Where blobs lie and who holds them.
#[derive(Debug)]
pub struct RedisIndex {
    redis: Arc<Redis>,
    /// Objects whose use is noted, and blobs whose object's is.
    noted: Recent,
    named: Recent,
}

impl RedisIndex {
    /// An index of what is in this Redis.
    pub fn new(redis: Arc<Redis>) -> Self {
        Self {
            redis,
            noted: Recent::new(NOTED),
            named: Recent::new(possession::NAMED),
        }
    }

    /// Requests of a script about blobs, by tags. `arguments` adds those of one blob.
    fn by_tags<B>(
        &self,
        script: &'static Script,
        blobs: &[B],
        digest: impl Fn(&B) -> &CasDigest,
        first: Option<&[u8]>,
        arguments: impl Fn(&mut Request, &B),
    ) -> Vec<Request> {
        let mut tags: BTreeMap<Tag, Vec<&B>> = BTreeMap::new();
        for blob in blobs {
            tags.entry(Tag::of(digest(blob))).or_default().push(blob);
        }
        let keys = &self.redis.keys;
        let mut requests = Vec::new();
        for (tag, blobs) in tags {
            for batch in blobs.chunks(BATCH) {
                let all = batch.iter().map(|blob| keys.blob(digest(blob)));
                let all = std::iter::once(keys.sums(tag)).chain(all).collect();
                let mut request = Request::script(script, all);
                if let Some(first) = first {
                    request.push(first.to_vec());
                }
                for blob in batch {
                    arguments(&mut request, blob);
                }
                requests.push(request.matters());
            }
        }
        requests
    }

    /// A request of a script about an object.
    fn about_object(&self, script: &'static Script, object: &str) -> Request {
        let keys = &self.redis.keys;
        let all = vec![keys.objects(), keys.lengths(), keys.condemned()];
        Request::script(script, all)
            .arg(object.to_owned())
            .matters()
    }

    /// Notes that objects are used now, and with them the blobs in them. That it fails is no reason to
    /// withhold what is in them.
    async fn note<'o>(
        &self,
        objects: impl Iterator<Item = &'o str>,
        blobs: impl Iterator<Item = &'o CasDigest>,
    ) {
        let (due, since) = self.noted.due_since(objects);
        if due.is_empty() {
            self.noted.done_with(since, blobs);
            return;
        }
        let mut touch = Request::script(&scripts::TOUCH, vec![self.redis.keys.objects()]);
        for object in &due {
            touch.push((*object).to_owned());
        }
        match self.redis.one("touch", touch).await {
            Ok(_) => self.noted.done_with(since, blobs),
            Err(fault) => {
                tracing::debug!(error = %fault, "uses of objects are not noted");
                self.noted.undo(due);
            }
        }
    }
}

fn milliseconds(time: SystemTime) -> u128 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    // Whole numbers up to here are exact as a score.
    since.as_millis().min(1 << 53)
}

impl BlobIndex for RedisIndex {
    fn find<'a>(
        &'a self,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<Option<Place>>, Fault>> {
        Box::pin(async move {
            let places = self.places(blobs).await?;
            let found = places.iter().flatten();
            let used = blobs.iter().zip(&places);
            let used = used.filter(|(_, place)| place.is_some());
            self.note(
                found.map(|place| place.object.as_str()),
                used.map(|(blob, _)| blob),
            )
            .await;
            Ok(places)
        })
    }

    fn known<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Result<Vec<bool>, Fault>> {
        Box::pin(self.are_known(blobs))
    }

    fn add<'a>(
        &'a self,
        object: &'a str,
        bytes: u64,
        blobs: &'a [(CasDigest, u64)],
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            // First the object: one whose blobs are not noted yet is only evicted too late.
            let add = self.about_object(&scripts::ADD_OBJECT, object);
            self.redis.one("add", add.number(bytes)).await?;
            let argument = |request: &mut Request, (blob, offset): &(CasDigest, u64)| {
                request.push(place::encode(blob, object, *offset));
            };
            let adds = self.by_tags(&scripts::ADD, blobs, |(blob, _)| blob, None, argument);
            self.redis.call("add", adds).await?;
            Ok(())
        })
    }

    fn forget<'a>(
        &'a self,
        object: &'a str,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let arguments = |request: &mut Request, blob: &CasDigest| {
                request.push(place::object(blob, object));
                request.push(blob.size.to_string());
            };
            let forgets = self.by_tags(&scripts::FORGET, blobs, |blob| blob, None, arguments);
            self.redis.call("forget", forgets).await?;
            Ok(())
        })
    }

    fn oldest(&self, most: usize) -> BoxFuture<'_, Result<Vec<IndexedObject>, Fault>> {
        Box::pin(async move {
            let Some(last) = most.min(MOST).checked_sub(1) else {
                return Ok(Vec::new());
            };
            let keys = &self.redis.keys;
            let oldest = Request::command("ZRANGE", &keys.objects())
                .number(0)
                .number(last)
                .arg("WITHSCORES");
            let oldest = answer::scores(self.redis.one("oldest", oldest).await?)?;
            if oldest.is_empty() {
                return Ok(Vec::new());
            }
            let mut lengths = Request::command("HMGET", &keys.lengths());
            for (name, _) in &oldest {
                lengths.push(name.clone());
            }
            let lengths = answer::array(self.redis.one("oldest", lengths).await?)?;
            let objects = oldest
                .into_iter()
                .zip(lengths)
                .map(|((name, used), bytes)| {
                    let since = Duration::try_from_secs_f64(used).unwrap_or_default();
                    Ok(IndexedObject {
                        name: String::from_utf8_lossy(&name).into_owned(),
                        bytes: answer::count(&bytes)?,
                        last_used: UNIX_EPOCH + since,
                    })
                });
            objects.collect()
        })
    }

    fn within<'a>(
        &'a self,
        object: &'a str,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        Box::pin(async move {
            let places = self.places(blobs).await?;
            let within = blobs.iter().zip(places).filter(|(_, place)| {
                let place = place.as_ref();
                place.is_some_and(|place| place.object == object)
            });
            Ok(within.map(|(blob, _)| *blob).collect())
        })
    }

    fn condemn<'a>(
        &'a self,
        object: &'a str,
        blobs: &'a [CasDigest],
        at: SystemTime,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            // First the blobs: an object that is still in the order is condemned again.
            self.forget(object, blobs).await?;
            let condemn = self.about_object(&scripts::CONDEMN, object);
            let condemn = condemn.number(milliseconds(at));
            self.redis.one("condemn", condemn).await?;
            Ok(())
        })
    }

    fn condemned(&self, now: SystemTime, most: usize) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
        Box::pin(async move {
            let condemned = Request::command("ZRANGEBYSCORE", &self.redis.keys.condemned())
                .arg("-inf")
                .number(milliseconds(now))
                .arg("LIMIT")
                .number(0)
                .number(most.min(MOST));
            let names = answer::array(self.redis.one("condemned", condemned).await?)?;
            names.iter().map(|name| answer::text(Some(name))).collect()
        })
    }

    fn strike<'a>(&'a self, object: &'a str) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let strike = Request::command("ZREM", &self.redis.keys.condemned());
            let strike = strike.arg(object.to_owned());
            self.redis.one("strike", strike).await?;
            Ok(())
        })
    }

    fn totals(&self) -> BoxFuture<'_, Result<Totals, Fault>> {
        Box::pin(async move {
            let keys = &self.redis.keys;
            let mut questions = vec![
                Request::command("ZCARD", &keys.objects()),
                Request::command("HGET", &keys.lengths()).arg(""),
            ];
            questions.extend(
                Tag::all().map(|tag| Request::command("HGET", &keys.sums(tag)).arg(&b"b"[..])),
            );
            let answers = self.redis.call("totals", questions).await?;
            let numbers = answers.iter().map(answer::count);
            let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
            let [objects, bytes, blobs @ ..] = &numbers[..] else {
                return Ok(Totals::default());
            };
            Ok(Totals {
                blobs: blobs.iter().sum(),
                objects: *objects,
                bytes: *bytes,
            })
        })
    }
}
