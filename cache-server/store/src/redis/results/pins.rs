//! Results that stay until a time, however long nobody uses them.

use std::time::{SystemTime, UNIX_EPOCH};

use ashlar_model::cas::ActionKey;

use super::super::answer;
use super::super::keys::{self, Tag};
use super::super::request::Request;
use super::{RedisResults, broken_name, scripts};
use crate::fault::Fault;

fn milliseconds(time: SystemTime) -> u128 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    // Whole numbers up to here are exact as a score.
    since.as_millis().min(1 << 53)
}

impl RedisResults {
    /// Keeps a result until then. [`FaultKind::NotFound`](crate::FaultKind::NotFound): there is none.
    pub async fn pin(&self, key: &ActionKey, until: SystemTime) -> Result<(), Fault> {
        let pin = self.request(&scripts::PIN, key).number(milliseconds(until));
        let pinned = self.redis.one("pin", pin.matters()).await?;
        if answer::integer(&pinned)? > 0 {
            return Ok(());
        }
        Err(Fault::not_found(format!("a result of {}", key.action)))
    }

    /// Ends that.
    pub async fn unpin(&self, key: &ActionKey) -> Result<(), Fault> {
        let unpin = self.request(&scripts::UNPIN, key).matters();
        self.redis.one("pin", unpin).await?;
        Ok(())
    }

    /// The results that are pinned at a time.
    pub async fn pinned(&self, now: SystemTime) -> Result<Vec<ActionKey>, Fault> {
        let questions = Tag::all().map(|tag| {
            Request::command("ZRANGEBYSCORE", &self.redis.keys.pins(tag))
                .arg(format!("({}", milliseconds(now)))
                .arg("+inf")
        });
        let answers = self.redis.call("pinned", questions.collect()).await?;
        let mut pinned = Vec::new();
        for (tag, answer) in Tag::all().zip(answers) {
            for name in answer::array(answer)? {
                let name = answer::bytes(name)?.unwrap_or_default();
                let key = keys::parse_result_name(tag, &name);
                pinned.push(key.ok_or_else(|| broken_name("the set of pinned results"))?);
            }
        }
        Ok(pinned)
    }
}
