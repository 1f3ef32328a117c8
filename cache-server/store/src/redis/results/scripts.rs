//! The scripts of results.
//!
//! They all have the keys result, list, instances, pins, sums, and the first arguments time to live
//! (milliseconds), name in the list, instance. So whatever changes a result changes the list of its
//! instance and the sum in the same step.

use std::sync::LazyLock;

use super::super::request::{Script, StaticScript};

/// What is common. `keep` is for a result that is written or used now: it lives for its time from
/// now on, or up to its pin's end if that is later, and is listed.
const COMMON: &str = r"
local function keep()
  local t = redis.call('TIME')
  local now = t[1] * 1000000 + t[2]
  local ttl = tonumber(ARGV[1])
  local pin = redis.call('ZSCORE', KEYS[4], ARGV[2] .. ARGV[3])
  if pin then ttl = math.max(ttl, pin - now / 1000) end
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ttl))
  if redis.call('ZADD', KEYS[2], string.format('%.0f', now), ARGV[2]) == 1 then
    redis.call('SADD', KEYS[3], ARGV[3])
    redis.call('HINCRBY', KEYS[5], 'r', 1)
  end
end
local function unlist()
  local removed = redis.call('ZREM', KEYS[2], ARGV[2])
  if removed == 1 then
    if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('SREM', KEYS[3], ARGV[3]) end
    if redis.call('HINCRBY', KEYS[5], 'r', -1) <= 0 then redis.call('HDEL', KEYS[5], 'r') end
  end
  return removed
end
local function store(result)
  redis.call('SET', KEYS[1], result, 'PX', ARGV[1])
  keep()
end
";

fn script(body: &str) -> Script {
    Script::new(&[COMMON, body])
}

/// It is used now.
pub(super) static TOUCH: StaticScript = LazyLock::new(|| {
    script(
        r"
if redis.call('EXISTS', KEYS[1]) == 1 then keep() end
",
    )
});

/// Stores a result (4); if there is one already and 5 says `a`, gives that instead.
pub(super) static PUT: StaticScript = LazyLock::new(|| {
    script(
        r"
if ARGV[5] == 'a' then
  local there = redis.call('GET', KEYS[1])
  if there then
    keep()
    return there
  end
end
store(ARGV[4])
return false
",
    )
});

/// Stores a result (4) if the one that is there is 5, or if there is none and there is no 5.
pub(super) static SWAP: StaticScript = LazyLock::new(|| {
    script(
        r"
if redis.call('GET', KEYS[1]) ~= (ARGV[5] or false) then return 0 end
store(ARGV[4])
return 1
",
    )
});

/// Stores a result (4), unless there is another than the hole (6, if any). Before that: unless the
/// latest grant of the lease, the sixth key, has another number than 5. Gives 0 if it has, the result
/// that is there if it stays, and 1.
///
/// What stays counts as used, which is a write: so that whoever is told of it waits until replicas
/// have what was written before.
pub(in super::super) static COMMIT: StaticScript = LazyLock::new(|| {
    script(
        r"
if KEYS[6] and redis.call('HGET', KEYS[6], 'n') ~= ARGV[5] then return 0 end
local there = redis.call('GET', KEYS[1])
if there == ARGV[4] then
  keep()
  return 1
end
if there and there ~= ARGV[6] then
  keep()
  return there
end
store(ARGV[4])
return 1
",
    )
});

/// Forgets a result, and its pin.
pub(super) static REMOVE: StaticScript = LazyLock::new(|| {
    script(
        r"
unlist()
redis.call('ZREM', KEYS[4], ARGV[2] .. ARGV[3])
return redis.call('DEL', KEYS[1])
",
    )
});

/// Takes a result off the list that is not there any more. Whether it was on it.
pub(super) static TIDY: StaticScript = LazyLock::new(|| {
    script(
        r"
if redis.call('EXISTS', KEYS[1]) == 0 then return unlist() end
return 0
",
    )
});

/// The names on a list, which is the only key, that were last used longer ago than a time
/// (milliseconds).
pub(super) static OLD: StaticScript = LazyLock::new(|| {
    Script::new(&[r"
local t = redis.call('TIME')
local before = string.format('(%.0f', t[1] * 1000000 + t[2] - ARGV[1] * 1000)
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', before, 'LIMIT', 0, 1000)
"])
});

/// Takes pins away that have ended.
pub(super) static END_PINS: StaticScript = LazyLock::new(|| {
    Script::new(&[r"
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', redis.call('TIME')[1] .. '000')
"])
});

/// Keeps a result until a time (4, milliseconds). Whether there is one.
pub(super) static PIN: StaticScript = LazyLock::new(|| {
    script(
        r"
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('ZADD', KEYS[4], ARGV[4], ARGV[2] .. ARGV[3])
keep()
return 1
",
    )
});

/// Ends a pin.
pub(super) static UNPIN: StaticScript = LazyLock::new(|| {
    script(
        r"
redis.call('ZREM', KEYS[4], ARGV[2] .. ARGV[3])
if redis.call('EXISTS', KEYS[1]) == 1 then keep() end
",
    )
});
