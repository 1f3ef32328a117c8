//! Results in Redis.
//!
//! A result lives for a time after its last use, and longer if it is pinned. Uses are noted coarsely:
//! each server notes a result once in an eighth of that time, and at most once an hour. So what is
//! read every day costs a read, and not a write as well.
//!
//! | module | subject |
//! |---|---|
//! | `scripts` | what happens to a result, in one step each |
//! | [`pages`] | lists and walks |
//! | `pins` | results that stay |

pub mod pages;
mod pins;
pub(super) mod scripts;

use std::sync::Arc;
use std::time::Duration;

use ashlar_model::cas::ActionKey;
use ashlar_model::executor::BoxFuture;
use bytes::Bytes;

use super::answer;
use super::connection::Redis;
use super::keys::{self, Key, Tag};
use super::recent::Recent;
use super::request::{Request, Script};
use crate::action_cache::{ActionCache, PutMode};
use crate::fault::{Fault, FaultKind};

/// How long a result lives that nobody uses, unless the settings say otherwise.
pub const UNUSED_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How often a use is noted at most.
const NOTED: Duration = Duration::from_secs(60 * 60);

/// Results in Redis.
#[derive(Debug)]
pub struct RedisResults {
    redis: Arc<Redis>,
    unused_for: Duration,
    noted: Recent,
}

/// The keys and the first arguments of a script about a result.
pub(super) fn request(
    redis: &Redis,
    script: &'static Script,
    key: &ActionKey,
    unused_for: Duration,
    more: Option<Key>,
) -> Request {
    let tag = Tag::of(&key.action);
    let mut all = vec![
        redis.keys.result(key),
        redis.keys.list(tag, &key.instance),
        redis.keys.instances(tag),
        redis.keys.pins(tag),
        redis.keys.sums(tag),
    ];
    all.extend(more);
    Request::script(script, all)
        .number(unused_for.as_millis())
        .arg(keys::name(&key.action))
        .arg(key.instance.clone())
}

impl RedisResults {
    /// Results that live for `unused_for` after their last use.
    pub fn new(redis: Arc<Redis>, unused_for: Duration) -> Self {
        // Redis counts in milliseconds, and adds them to the time.
        let unused_for = unused_for.clamp(Duration::from_secs(1), Duration::from_secs(1 << 32));
        Self {
            redis,
            noted: Recent::new((unused_for / 8).min(NOTED)),
            unused_for,
        }
    }

    fn request(&self, script: &'static Script, key: &ActionKey) -> Request {
        request(&self.redis, script, key, self.unused_for, None)
    }

    /// How many results are listed: those that ran out a short while ago included.
    pub async fn count(&self) -> Result<u64, Fault> {
        let sums =
            Tag::all().map(|tag| Request::command("HGET", &self.redis.keys.sums(tag)).arg("r"));
        let sums = self.redis.call("count", sums.collect()).await?;
        sums.iter().map(answer::count).sum()
    }

    /// Notes that results were used. That it fails is no reason to withhold them.
    async fn note<'k>(&self, used: impl Iterator<Item = &'k ActionKey>) {
        let due = self.noted.due(used);
        if due.is_empty() {
            return;
        }
        let notes = due.iter().map(|key| self.request(&scripts::TOUCH, key));
        if let Err(fault) = self.redis.call("touch", notes.collect()).await {
            tracing::debug!(error = %fault, "uses of results are not noted");
            self.noted.undo(due);
        }
    }
}

impl ActionCache for RedisResults {
    fn get<'a>(
        &'a self,
        keys: &'a [ActionKey],
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, Fault>> {
        Box::pin(async move {
            let gets = keys
                .iter()
                .map(|key| Request::command("GET", &self.redis.keys.result(key)));
            let answers = self.redis.call("get", gets.collect()).await?;
            let found: Vec<_> = answers
                .into_iter()
                .map(answer::bytes)
                .collect::<Result<_, _>>()?;
            let used = keys.iter().zip(&found);
            self.note(used.filter_map(|(key, found)| found.as_ref().map(|_| key)))
                .await;
            Ok(found)
        })
    }

    fn put<'a>(
        &'a self,
        key: &'a ActionKey,
        result: Bytes,
        mode: PutMode,
    ) -> BoxFuture<'a, Result<Bytes, Fault>> {
        Box::pin(async move {
            let mode = match mode {
                PutMode::Replace => "r",
                PutMode::IfAbsent => "a",
            };
            let put = self.request(&scripts::PUT, key);
            let put = put.arg(result.clone()).arg(mode).matters();
            let there = answer::bytes(self.redis.one("put", put).await?)?;
            Ok(there.unwrap_or(result))
        })
    }

    fn remove<'a>(&'a self, key: &'a ActionKey) -> BoxFuture<'a, Result<bool, Fault>> {
        Box::pin(async move {
            let remove = self.request(&scripts::REMOVE, key).matters();
            let removed = self.redis.one("remove", remove).await?;
            Ok(answer::integer(&removed)? > 0)
        })
    }

    fn swap<'a>(
        &'a self,
        key: &'a ActionKey,
        old: Option<&'a Bytes>,
        new: Bytes,
    ) -> BoxFuture<'a, Result<bool, Fault>> {
        Box::pin(async move {
            let mut swap = self.request(&scripts::SWAP, key).arg(new);
            if let Some(old) = old {
                swap.push(old.clone());
            }
            // A second time it would find what the first time left.
            let swapped = self.redis.one("swap", swap.matters().once()).await?;
            Ok(answer::integer(&swapped)? > 0)
        })
    }
}

/// The keys of results that were stored under names that no key has: of another version.
fn broken_name(what: &str) -> Fault {
    Fault::new(
        FaultKind::Internal,
        format!("a name in {what} is not one that this version of the server writes"),
    )
}
