//! Which server has the farm's queue, and its journal: what is to outlive that server.
//!
//! One server *leads*, for as long as it says so in time. Each time another one does, the *epoch*
//! grows; it also grows beyond the seconds since 1970, so that it does even if Redis was lost. The
//! journal is written under an epoch, and refused under an older one than the latest: looking and
//! writing are one step. All of it has one tag.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use redis::Value;

use super::answer;
use super::connection::Redis;
use super::request::{Request, Script, StaticScript};
use crate::fault::Fault;

/// Entries that are asked for in one go.
const PAGE: u32 = 200;

/// Leads, or goes on leading: token (1), address (2), time (3, microseconds). Gives 1 and the epoch if
/// the token leads already, 2 and the epoch if it does so from now on, and else 0, address and how
/// long yet of whoever leads.
static ELECT: StaticScript = LazyLock::new(|| {
    Script::new(&[r"
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local function text(number) return string.format('%.0f', number) end
local l = redis.call('HMGET', KEYS[1], 'e', 't', 'a', 'u')
local is_on = l[4] and now < tonumber(l[4])
if l[2] == ARGV[1] then
  redis.call('HSET', KEYS[1], 'u', text(now + ARGV[3]))
  return {1, l[1]}
end
if is_on then return {0, l[3], text(l[4] - now)} end
local e = text(math.max((l[1] or 0) + 1, tonumber(t[1])))
redis.call('HSET', KEYS[1], 'e', e, 't', ARGV[1], 'a', ARGV[2], 'u', text(now + ARGV[3]))
return {2, e}
"])
});

/// A token (1) leads no more. Whether it did.
static RESIGN: StaticScript = LazyLock::new(|| {
    Script::new(&[r"
if redis.call('HGET', KEYS[1], 't') ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 't', 'a', 'u')
return 1
"])
});

/// Writes the journal (2) for the token (1) that leads: pairs of an entry's name and what it is to
/// be, empty for nothing. Whether the token leads.
static WRITE: StaticScript = LazyLock::new(|| {
    Script::new(&[r"
if redis.call('HGET', KEYS[1], 't') ~= ARGV[1] then return 0 end
for at = 2, #ARGV, 2 do
  if ARGV[at + 1] == '' then
    redis.call('HDEL', KEYS[2], ARGV[at])
  else
    redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1])
  end
end
return 1
"])
});

/// What came of wanting to lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elected {
    /// The caller leads from now on.
    New {
        /// Larger than every one before.
        epoch: u32,
    },
    /// The caller leads, as it did before, or since an answer that was lost.
    Still {
        /// As it was.
        epoch: u32,
    },
    /// Another server leads.
    Other {
        /// Where the others see it.
        address: String,
        /// For how long, unless it says so again.
        left: Duration,
    },
}

fn epoch(value: &Value) -> Result<u32, Fault> {
    Ok(u32::try_from(answer::count(value)?).unwrap_or(u32::MAX))
}

/// An entry of the journal, and what it is to be: empty for nothing.
pub type Entry = (Bytes, Bytes);

/// The queue's place in Redis.
#[derive(Debug, Clone)]
pub struct RedisQueue {
    redis: Arc<Redis>,
}

impl RedisQueue {
    /// That of a farm.
    pub const fn new(redis: Arc<Redis>) -> Self {
        Self { redis }
    }

    /// Leads for a time, unless another server does. `token` is of this term alone: whoever has led
    /// before, and does not any more, comes with another.
    pub async fn elect(
        &self,
        token: &str,
        address: &str,
        time: Duration,
    ) -> Result<Elected, Fault> {
        let elect = Request::script(&ELECT, vec![self.redis.keys.leader()])
            .arg(token.to_owned())
            .arg(address.to_owned())
            .number(time.as_micros())
            .matters();
        let answer = answer::array(self.redis.one("elect", elect).await?)?;
        let at = |place: usize| answer.get(place).unwrap_or(&Value::Nil);
        match answer::count(at(0))? {
            0 => Ok(Elected::Other {
                address: answer::text(answer.get(1))?,
                left: Duration::from_micros(answer::count(at(2))?),
            }),
            1 => Ok(Elected::Still {
                epoch: epoch(at(1))?,
            }),
            _ => Ok(Elected::New {
                epoch: epoch(at(1))?,
            }),
        }
    }

    /// Leads no more. Whether it did.
    pub async fn resign(&self, token: &str) -> Result<bool, Fault> {
        let resign = Request::script(&RESIGN, vec![self.redis.keys.leader()]);
        let resigned = self
            .redis
            .one("resign", resign.arg(token.to_owned()))
            .await?;
        Ok(answer::integer(&resigned)? > 0)
    }

    /// Writes entries, all or none. Whether the token still leads: if not, nothing was written.
    pub async fn write(&self, token: &str, entries: &[Entry]) -> Result<bool, Fault> {
        let keys = vec![self.redis.keys.leader(), self.redis.keys.journal()];
        let mut write = Request::script(&WRITE, keys)
            .arg(token.to_owned())
            .matters();
        for (name, value) in entries {
            write.push(name.clone());
            write.push(value.clone());
        }
        let written = self.redis.one("journal", write).await?;
        Ok(answer::integer(&written)? > 0)
    }

    /// All entries. Whoever leads asks before it writes: nobody else does meanwhile.
    pub async fn read(&self) -> Result<Vec<Entry>, Fault> {
        let mut entries = std::collections::HashMap::new();
        let mut cursor = "0".to_owned();
        loop {
            let scan = Request::command("HSCAN", &self.redis.keys.journal())
                .arg(cursor)
                .arg("COUNT")
                .number(PAGE);
            let mut answer = answer::array(self.redis.one("journal", scan).await?)?.into_iter();
            cursor = answer::text(answer.next().as_ref())?;
            let mut some = answer::array(answer.next().unwrap_or_default())?.into_iter();
            while let (Some(name), Some(value)) = (some.next(), some.next()) {
                let name = answer::bytes(name)?.unwrap_or_default();
                // One that is given twice is the same.
                entries.insert(name, answer::bytes(value)?.unwrap_or_default());
            }
            if cursor == "0" {
                return Ok(entries.into_iter().collect());
            }
        }
    }
}
