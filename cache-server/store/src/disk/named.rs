//! Small values under names, changed only by whoever knows the last value; and pins.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ashlar_model::cas::ActionKey;
use bytes::Bytes;

use super::key::{Key, Kind};
use super::writer::{Answer, Condition, Work};
use super::{DiskStore, blocking};
use crate::fault::{Fault, FaultKind};

/// A value under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The value.
    pub value: Bytes,
    /// A number that is higher for each later value of the name.
    pub generation: u64,
}

/// Some results of all instances.
#[derive(Debug)]
pub struct Walked {
    /// The results, with the times of their last use, which are coarse.
    pub results: Vec<(ActionKey, SystemTime)>,
    /// Where to go on; `None` at the end.
    pub next: Option<String>,
}

/// How many entries are looked at in one go.
const PAGE: usize = 1000;

/// Names a place in the order of the index.
fn token(key: &Key) -> String {
    hex::encode(key.as_bytes())
}

impl DiskStore {
    /// The place to go on with a walk behind this result, whether it is there or not.
    pub fn behind(result: &ActionKey) -> String {
        token(&Key::result(result))
    }

    /// The value under a name.
    pub async fn named(&self, name: &str) -> Result<Option<Named>, Fault> {
        /// How often the value may change while it is read.
        const ATTEMPTS: usize = 8;
        let key = Key::name(name);
        for _ in 0..ATTEMPTS {
            let before = self.sequence(key.clone()).await?;
            let value = self.value(key.clone()).await?;
            if before == self.sequence(key.clone()).await? {
                return Ok(match (value, before) {
                    (Some(value), Some(generation)) => Some(Named { value, generation }),
                    _ => None,
                });
            }
        }
        Err(Fault::new(
            FaultKind::Unavailable,
            format!("the value of {name} changes faster than it can be read"),
        ))
    }

    pub(super) async fn sequence(&self, key: Key) -> Result<Option<u64>, Fault> {
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let entry = shared.index.read(|index| index.entry(&key))?;
            Ok(entry.map(|entry| entry.sequence))
        })
        .await
    }

    /// Stores a value under a name, if the value there is of the generation `replaces` (0: if there
    /// is none). Gives the new generation, or `None` if another value is there.
    pub async fn set_named(
        &self,
        name: &str,
        value: Bytes,
        replaces: u64,
    ) -> Result<Option<u64>, Fault> {
        let condition = Condition::IfSequence(replaces);
        match self.put_value(Key::name(name), value, condition).await? {
            Answer::Stored(generation) => Ok(Some(generation)),
            _ => Ok(None),
        }
    }

    /// Keeps a result, and all blobs that it names, until some time: it is not evicted. A later
    /// call for the same result replaces an earlier one. Whether there is such a result.
    pub async fn pin(&self, key: &ActionKey, until: SystemTime) -> Result<bool, Fault> {
        if self.sequence(Key::result(key)).await?.is_none() {
            return Ok(false);
        }
        let seconds = until
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO)
            .as_secs();
        let value = Bytes::copy_from_slice(&seconds.to_le_bytes());
        self.put_value(Key::pin(key), value, Condition::Always)
            .await?;
        self.shared.pin_changes.fetch_add(1, Ordering::Release);
        Ok(true)
    }

    /// Takes a pin back. Whether there was one.
    pub async fn unpin(&self, key: &ActionKey) -> Result<bool, Fault> {
        let key = Key::pin(key);
        Ok(self.work(Work::Remove { key }).await? != Answer::Absent)
    }

    /// A result, without counting as a use of it: for those who only look.
    pub async fn peek(&self, key: &ActionKey) -> Result<Option<Bytes>, Fault> {
        self.value(Key::result(key)).await
    }

    /// Results of all instances in the order of the index, behind the place that `after` names. Does
    /// not count as use.
    pub async fn walk(&self, after: Option<&str>, limit: usize) -> Result<Walked, Fault> {
        let (first, end) = Key::bounds(Kind::Result);
        let from = match after {
            None => first.to_vec(),
            Some(token) => {
                let key = hex::decode(token).ok();
                let key = key.filter(|key| Key::from_bytes(key).is_some());
                let mut key =
                    key.ok_or_else(|| Fault::invalid("the page token is none of this server's"))?;
                // The next key that there can be.
                key.push(0);
                key
            }
        };
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let page = shared
                .index
                .read(|index| index.page(&from, &end, limit.max(1)))?;
            let is_last = page.len() < limit.max(1);
            let last = page.last().map(|(key, _)| token(key));
            let results = page.iter().filter_map(|(key, entry)| {
                let used = UNIX_EPOCH + Duration::from_secs(u64::from(entry.used));
                Some((key.as_result()?, used))
            });
            Ok(Walked {
                results: results.collect(),
                next: last.filter(|_| !is_last),
            })
        })
        .await
    }

    /// The results of an instance with the times of their last use, which are coarse: those used
    /// last first.
    pub async fn results(&self, instance: &str) -> Result<Vec<(ActionKey, SystemTime)>, Fault> {
        let (shared, instance) = (Arc::clone(&self.shared), instance.to_owned());
        blocking(move || {
            let mut found = Vec::new();
            shared.each(Kind::Result, PAGE, |page| {
                for (key, entry) in page {
                    if let Some(key) = key.as_result()
                        && key.instance == instance
                    {
                        found.push((entry.used, key));
                    }
                }
                Ok(true)
            })?;
            found.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
            let time = |seconds: u32| UNIX_EPOCH + Duration::from_secs(u64::from(seconds));
            Ok(found
                .into_iter()
                .map(|(used, key)| (key, time(used)))
                .collect())
        })
        .await
    }
}
