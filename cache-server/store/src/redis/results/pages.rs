//! Lists of an instance's results, and walks over all results, page by page.
//!
//! The results of an instance are in 256 sorted sets, one for each tag. A list merges them; a walk
//! takes one after the other.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ashlar_model::cas::ActionKey;
use bytes::Bytes;

use super::super::answer;
use super::super::keys::{self, Tag};
use super::super::request::Request;
use super::{RedisResults, scripts};
use crate::fault::Fault;

/// Some results.
#[derive(Debug, Default)]
pub struct ResultsPage {
    /// The results.
    pub items: Vec<ListedResult>,
    /// Where the next page starts; `None` after the last. A page may have no results and still have
    /// a next one.
    pub next: Option<String>,
}

/// One result of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedResult {
    /// Its name.
    pub key: ActionKey,
    /// When it was last used, as far as that was noted.
    pub last_used: SystemTime,
    /// The result.
    pub result: Bytes,
}

/// A result that is on a list.
struct Listed {
    tag: u8,
    name: Bytes,
    /// Microseconds since 1970.
    used: f64,
}

/// Where a walk is.
struct Cursor {
    tag: u8,
    instance: String,
    /// Redis' own, within the instance's set.
    scan: u64,
}

impl Cursor {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        Some(Self {
            tag: parts.next()?.parse().ok()?,
            scan: parts.next()?.parse().ok()?,
            instance: parts.next()?.to_owned(),
        })
    }

    fn text(&self) -> String {
        format!("{}:{}:{}", self.tag, self.scan, self.instance)
    }
}

fn broken_place() -> Fault {
    Fault::invalid("the place in the list is not one that this server gave")
}

/// A score as Redis reads it: these are whole numbers below 2⁵³.
fn score(score: f64) -> String {
    format!("{score:.0}")
}

impl RedisResults {
    /// Results of an instance, those used last first, behind the place that `after` names.
    pub async fn list(
        &self,
        instance: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ResultsPage, Fault> {
        let place = after.map(|after| {
            let (used, tag) = after.split_once(':').ok_or_else(broken_place)?;
            let used: f64 = used.parse().map_err(|_| broken_place())?;
            Ok::<_, Fault>((used, tag.parse::<u8>().map_err(|_| broken_place())?))
        });
        let place = place.transpose()?;
        let limit = limit.max(1);
        // As many as are likely to be among the first of all tags.
        let each = limit / 64 + 4;
        let questions = (0..=u8::MAX).map(|tag| {
            let most = match place {
                None => "+inf".to_owned(),
                // At the same time, tags are in their order.
                Some((used, last)) if tag > last => score(used),
                Some((used, _)) => format!("({}", score(used)),
            };
            Request::command("ZRANGE", &self.redis.keys.list(Tag::Of(tag), instance))
                .arg(most)
                .arg("-inf")
                .arg("BYSCORE")
                .arg("REV")
                .arg("LIMIT")
                .number(0)
                .number(each)
                .arg("WITHSCORES")
        });
        let answers = self.redis.call("list", questions.collect()).await?;
        let mut all = Vec::new();
        // Of tags that have more, nothing older than their last may be given before it.
        let mut horizon = f64::NEG_INFINITY;
        for (tag, answer) in (0..=u8::MAX).zip(answers) {
            let scores = answer::scores(answer)?;
            if let Some((_, last)) = scores.last()
                && scores.len() >= each
            {
                horizon = horizon.max(*last);
            }
            all.extend(
                scores
                    .into_iter()
                    .map(|(name, used)| Listed { tag, name, used }),
            );
        }
        all.sort_by(|a, b| b.used.total_cmp(&a.used).then(a.tag.cmp(&b.tag)));
        let found = all.len();
        all.retain(|listed| listed.used >= horizon);
        let is_cut = all.len() > limit || all.len() < found || horizon > f64::NEG_INFINITY;
        all.truncate(limit);
        let next = all
            .last()
            .filter(|_| is_cut)
            .map(|last| format!("{}:{}", score(last.used), last.tag));
        let items = self.read(instance, all).await?;
        Ok(ResultsPage { items, next })
    }

    /// Results of all instances, behind the place that `after` names. What is there from beginning
    /// to end is among them; what comes or goes meanwhile may be. Does not count as use.
    pub async fn walk(&self, after: Option<&str>, limit: usize) -> Result<ResultsPage, Fault> {
        let mut cursor = match after {
            Some(after) => Cursor::parse(after).ok_or_else(broken_place)?,
            None => Cursor {
                tag: 0,
                instance: String::new(),
                scan: 0,
            },
        };
        let tag = Tag::Of(cursor.tag);
        let instances = Request::command("SMEMBERS", &self.redis.keys.instances(tag));
        let instances = answer::array(self.redis.one("walk", instances).await?)?;
        let mut instances = instances
            .iter()
            .map(|instance| answer::text(Some(instance)))
            .collect::<Result<Vec<_>, _>>()?;
        instances.sort();
        // One that has no result any more is not there, and the next one begins.
        let at = instances.partition_point(|instance| *instance < cursor.instance);
        let Some(instance) = instances.get(at) else {
            return Ok(ResultsPage {
                items: Vec::new(),
                next: cursor.tag.checked_add(1).map(|tag| format!("{tag}:0:")),
            });
        };
        let scan = if *instance == cursor.instance {
            cursor.scan
        } else {
            0
        };
        let scan = Request::command("ZSCAN", &self.redis.keys.list(tag, instance))
            .number(scan)
            .arg("COUNT")
            .number(limit.max(1));
        let answers = answer::array(self.redis.one("walk", scan).await?)?;
        let mut answers = answers.into_iter();
        let (scan, names) = (answers.next(), answers.next().unwrap_or_default());
        cursor.scan = scan.as_ref().map_or(Ok(0), answer::count)?;
        let listed = answer::scores(names)?.into_iter();
        let listed = listed.map(|(name, used)| Listed {
            tag: cursor.tag,
            name,
            used,
        });
        let items = self.read(instance, listed.collect()).await?;
        cursor.instance.clone_from(instance);
        if cursor.scan > 0 {
            let next = Some(cursor.text());
            return Ok(ResultsPage { items, next });
        }
        let next = match instances.get(at + 1) {
            Some(instance) => Some(Cursor {
                instance: instance.clone(),
                ..cursor
            }),
            None => cursor.tag.checked_add(1).map(|tag| Cursor {
                tag,
                instance: String::new(),
                scan: 0,
            }),
        };
        let next = next.map(|cursor| cursor.text());
        Ok(ResultsPage { items, next })
    }

    /// The results of a list; those that are not there any more are taken off it.
    async fn read(&self, instance: &str, all: Vec<Listed>) -> Result<Vec<ListedResult>, Fault> {
        let named = all.into_iter().map(|listed| {
            let (action, _) = keys::take_name(Tag::Of(listed.tag), &listed.name)
                .ok_or_else(|| super::broken_name("the list of an instance's results"))?;
            let key = ActionKey {
                instance: instance.to_owned(),
                action,
            };
            Ok((key, since_epoch(listed.used)))
        });
        let named: Vec<_> = named.collect::<Result<_, Fault>>()?;
        let gets = named
            .iter()
            .map(|(key, _)| Request::command("GET", &self.redis.keys.result(key)));
        let answers = self.redis.call("list", gets.collect()).await?;
        let (mut items, mut gone) = (Vec::new(), Vec::new());
        for ((key, last_used), answer) in named.into_iter().zip(answers) {
            match answer::bytes(answer)? {
                Some(result) => items.push(ListedResult {
                    key,
                    last_used,
                    result,
                }),
                None => gone.push(self.request(&scripts::TIDY, &key)),
            }
        }
        self.redis.call("tidy", gone).await?;
        Ok(items)
    }

    /// Takes results off the lists that have run out, and pins that have ended: to be called now and
    /// then, by any of the servers. Gives how many results.
    pub async fn tidy(&self) -> Result<u64, Fault> {
        let keys = &self.redis.keys;
        let mut tidied = 0;
        for tag in Tag::all() {
            let pins = Request::script(&scripts::END_PINS, vec![keys.pins(tag)]);
            let instances = Request::command("SMEMBERS", &keys.instances(tag));
            let mut answers = self.redis.call("tidy", vec![pins, instances]).await?;
            let instances = answer::array(answers.pop().unwrap_or_default())?;
            for instance in &instances {
                let instance = answer::text(Some(instance))?;
                tidied += self.tidy_list(tag, instance).await?;
            }
        }
        Ok(tidied)
    }

    async fn tidy_list(&self, tag: Tag, instance: String) -> Result<u64, Fault> {
        let old = Request::script(&scripts::OLD, vec![self.redis.keys.list(tag, &instance)]);
        let old = old.number(self.unused_for.as_millis());
        let names = answer::array(self.redis.one("tidy", old).await?)?;
        let mut requests = Vec::with_capacity(names.len());
        for name in names {
            let name = answer::bytes(name)?.unwrap_or_default();
            let (action, _) = keys::take_name(tag, &name)
                .ok_or_else(|| super::broken_name("the list of an instance's results"))?;
            let key = ActionKey {
                instance: instance.clone(),
                action,
            };
            requests.push(self.request(&scripts::TIDY, &key));
        }
        let tidied = self.redis.call("tidy", requests).await?;
        tidied.iter().map(answer::count).sum()
    }
}

/// A time of use.
fn since_epoch(microseconds: f64) -> SystemTime {
    let since = Duration::try_from_secs_f64(microseconds / 1e6).unwrap_or_default();
    UNIX_EPOCH + since
}
