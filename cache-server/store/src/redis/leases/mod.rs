//! Leases in Redis, which all servers share.
//!
//! The rules are those of [`crate::lease::rules`], as scripts with Redis' clock: no other clock
//! matters. What differs:
//!
//! - The fencing number of a grant is the time in microseconds, or one more than the number before if
//!   that is larger. So numbers grow even if Redis was lost and came back empty.
//! - A commit needs the record of the lease, with just its number. If there is no record (Redis was
//!   lost, or ran out of memory and dropped it, or the lease ended more than [`REMEMBERED`] ago) the
//!   commit is refused as superseded: nobody can say whether another was granted the key since.
//! - Leases that are held are counted by tag, of which there are 256: so [`Limits::keys`] bounds them
//!   only roughly. Records of leases that ended are not counted; they go by themselves.
//!
//! | module | subject |
//! |---|---|
//! | `scripts` | what happens to a lease, in one step each |
//! | `watch` | who waits for a change is told |

mod scripts;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use ashlar_model::cas::ActionKey;
use ashlar_model::executor::BoxFuture;
use bytes::Bytes;
use redis::Value;

use super::answer;
use super::connection::Redis;
use super::keys::{self, Tag};
use super::request::{Request, Script};
use super::results::{request as result_request, scripts::COMMIT};
use crate::fault::{Fault, FaultKind};
use crate::lease::{
    Acquired, Committed, Fence, Grant, Held, LeaseKey, LeaseStore, Limits, lost, random_token,
};
use watch::Watchers;

/// How long the record of a lease outlives it if nobody gave it back: so late a holder may still
/// commit.
pub const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// Leases in Redis, and results under them.
#[derive(Debug)]
pub struct RedisLeases {
    redis: Arc<Redis>,
    limits: Limits,
    unused_for: Duration,
    watchers: Watchers,
}

impl RedisLeases {
    /// Leases within limits. What is made under them lives for `unused_for` after its last use, as
    /// other results.
    pub fn new(redis: Arc<Redis>, limits: Limits, unused_for: Duration) -> Self {
        Self {
            watchers: Watchers::new(redis.clone()),
            redis,
            limits,
            unused_for,
        }
    }

    fn request(&self, script: &'static Script, key: &LeaseKey) -> Request {
        let held = self.redis.keys.held(Tag::of_lease(key));
        Request::script(script, vec![self.redis.keys.lease(key), held])
    }

    /// How many may be held of one tag: four times its share, since keys do not spread evenly.
    fn limit(&self) -> usize {
        (self.limits.keys / 64).max(1)
    }

    async fn look(&self, key: &LeaseKey) -> Result<Option<Held>, Fault> {
        let look = Request::script(&scripts::LOOK, vec![self.redis.keys.lease(key)]);
        let answer = self.redis.one("lease", look).await?;
        if matches!(answer, Value::Nil) {
            return Ok(None);
        }
        let answer = answer::array(answer)?;
        Ok(Some(parse_held(&answer)?))
    }

    /// Whether a fence is the latest grant of its key. Needed only if the result is in another slot.
    async fn is_latest(&self, fence: &Fence) -> Result<bool, Fault> {
        let number = Request::command("HGET", &self.redis.keys.lease(&fence.key)).arg("n");
        let number = answer::bytes(self.redis.one("lease", number).await?)?;
        Ok(number.is_some_and(|number| number == fence.number.to_string()))
    }
}

/// Number, holder, since when, how long yet.
fn parse_held(values: &[Value]) -> Result<Held, Fault> {
    let number = |at: usize| answer::count(values.get(at).unwrap_or(&Value::Nil));
    Ok(Held {
        number: number(0)?,
        holder: answer::text(values.get(1))?,
        held_for: Duration::from_micros(number(2)?),
        runs_out_in: Duration::from_micros(number(3)?),
    })
}

impl LeaseStore for RedisLeases {
    fn acquire<'a>(
        &'a self,
        key: &'a LeaseKey,
        holder: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Acquired, Fault>> {
        Box::pin(async move {
            let token = random_token()?;
            let ttl = ttl.clamp(self.limits.shortest, self.limits.longest);
            let acquire = self
                .request(&scripts::ACQUIRE, key)
                .arg(token.clone())
                .arg(holder.to_owned())
                .number(ttl.as_micros())
                .number(REMEMBERED.as_millis())
                .number(self.limit())
                .arg(keys::lease_name(key))
                .arg(self.redis.keys.channel())
                .matters();
            let answer = answer::array(self.redis.one("acquire", acquire).await?)?;
            let (what, rest) = answer.split_first().unwrap_or((&Value::Nil, &[]));
            match answer::count(what)? {
                1 => {
                    self.redis.counters().leasing.granted.one();
                    let number = answer::count(rest.first().unwrap_or(&Value::Nil))?;
                    Ok(Acquired::Granted(Grant { token, number, ttl }))
                }
                0 => {
                    self.redis.counters().leasing.refused.one();
                    Ok(Acquired::Held(parse_held(rest)?))
                }
                _ => Err(Fault::new(
                    FaultKind::Exhausted,
                    "there are too many leases",
                )),
            }
        })
    }

    fn renew<'a>(
        &'a self,
        key: &'a LeaseKey,
        token: &'a str,
    ) -> BoxFuture<'a, Result<Duration, Fault>> {
        Box::pin(async move {
            let renew = self
                .request(&scripts::RENEW, key)
                .arg(token.to_owned())
                .number(REMEMBERED.as_millis())
                .arg(keys::lease_name(key));
            match self.redis.one("renew", renew).await? {
                Value::Nil => Err(lost()),
                time => Ok(Duration::from_micros(answer::count(&time)?)),
            }
        })
    }

    fn release<'a>(
        &'a self,
        key: &'a LeaseKey,
        token: &'a str,
    ) -> BoxFuture<'a, Result<bool, Fault>> {
        Box::pin(async move {
            let release = self
                .request(&scripts::RELEASE, key)
                .arg(token.to_owned())
                .number(self.limits.remembered.as_millis())
                .arg(keys::lease_name(key))
                .arg(self.redis.keys.channel());
            let own = self.redis.one("release", release).await?;
            Ok(answer::integer(&own)? > 0)
        })
    }

    fn held<'a>(&'a self, key: &'a LeaseKey) -> BoxFuture<'a, Result<Option<Held>, Fault>> {
        Box::pin(self.look(key))
    }

    fn changed<'a>(
        &'a self,
        key: &'a LeaseKey,
        seen: u64,
    ) -> BoxFuture<'a, Result<Option<Held>, Fault>> {
        Box::pin(async move {
            let watcher = self.watchers.watch(keys::lease_name(key));
            loop {
                // Asked to be told first, so that no change is missed between looking and waiting.
                let mut told = std::pin::pin!(watcher.notified());
                told.as_mut().enable();
                let Some(held) = self.look(key).await? else {
                    return Ok(None);
                };
                if held.number != seen {
                    return Ok(Some(held));
                }
                let wait = held.runs_out_in.min(self.watchers.poll_interval());
                tokio::select! {
                    () = told => {}
                    () = tokio::time::sleep(wait) => {}
                }
            }
        })
    }

    fn commit<'a>(
        &'a self,
        key: &'a ActionKey,
        result: Bytes,
        fence: Option<&'a Fence>,
        hole: Option<&'a Bytes>,
    ) -> BoxFuture<'a, Result<Committed, Fault>> {
        Box::pin(async move {
            let superseded = || {
                self.redis.counters().leasing.superseded.one();
                Committed::Superseded
            };
            let tag = Tag::of(&key.action);
            let (here, elsewhere) = match fence {
                Some(fence) if Tag::of_lease(&fence.key) == tag => (Some(fence), None),
                other => (None, other),
            };
            if let Some(fence) = elsewhere
                && !self.is_latest(fence).await?
            {
                return Ok(superseded());
            }
            let lease = here.map(|fence| self.redis.keys.lease(&fence.key));
            let number = here.map_or(0, |fence| fence.number);
            let mut commit = result_request(&self.redis, &COMMIT, key, self.unused_for, lease)
                .arg(result)
                .number(number)
                .matters();
            if let Some(hole) = hole {
                commit.push(hole.clone());
            }
            match self.redis.one("commit", commit).await? {
                Value::Int(0) => Ok(superseded()),
                Value::Int(_) => Ok(Committed::Stored),
                there => {
                    let there = answer::bytes(there)?.unwrap_or_default();
                    Ok(Committed::AlreadyThere(there))
                }
            }
        })
    }

    fn count(&self) -> Option<u64> {
        None
    }
}
