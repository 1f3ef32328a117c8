//! The scripts of leases. All times are Redis' own, in microseconds.
//!
//! The keys are the lease's record and the set of those that are held. The record outlives the lease:
//! it has the latest fencing number, without which nothing can be committed.

use std::sync::LazyLock;

use super::super::request::{Script, StaticScript};

const COMMON: &str = r"
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local function text(number) return string.format('%.0f', number) end
";

fn script(body: &str) -> Script {
    Script::new(&[COMMON, body])
}

/// Grants a lease: token (1), holder (2), time (3), how long its record outlives it (4,
/// milliseconds), how many may be held (5), its name (6), the channel (7). Gives 1 and its number; or
/// 0 and number, holder, since when, how long yet, of whoever has it; or 2 if there are too many.
///
/// One that asks again with its own token was granted it before, and did not hear of it.
pub(super) static ACQUIRE: StaticScript = LazyLock::new(|| {
    script(
        r"
local l = redis.call('HMGET', KEYS[1], 'n', 't', 'h', 's', 'u')
if l[5] and now < tonumber(l[5]) then
  if l[2] == ARGV[1] then return {1, l[1]} end
  return {0, l[1], l[3], text(now - l[4]), text(l[5] - now)}
end
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[5]) then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', text(now))
  if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[5]) then return {2} end
end
local n = text(math.max((l[1] or 0) + 1, now))
local u = text(now + ARGV[3])
redis.call('HSET', KEYS[1], 'n', n, 't', ARGV[1], 'h', ARGV[2], 's', text(now), 'u', u, 'l', ARGV[3])
redis.call('PEXPIRE', KEYS[1], text(ARGV[3] / 1000 + ARGV[4]))
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', text(now))
redis.call('ZADD', KEYS[2], u, ARGV[6])
redis.call('PUBLISH', ARGV[7], ARGV[6])
return {1, n}
",
    )
});

/// Lets the lease of a token (1) run for its whole time again, and its record outlive it (2,
/// milliseconds). Gives the time, or nothing if it is not the token's. 3 is the name.
pub(super) static RENEW: StaticScript = LazyLock::new(|| {
    script(
        r"
local l = redis.call('HMGET', KEYS[1], 't', 'u', 'l')
if l[1] ~= ARGV[1] or now >= tonumber(l[2]) then return false end
local u = text(now + l[3])
redis.call('HSET', KEYS[1], 'u', u)
redis.call('PEXPIRE', KEYS[1], text(l[3] / 1000 + ARGV[2]))
redis.call('ZADD', KEYS[2], u, ARGV[3])
return l[3]
",
    )
});

/// Ends the lease of a token (1), whose record is kept for a while (2, milliseconds). Whether it was
/// the token's. 3 is the name, 4 the channel.
pub(super) static RELEASE: StaticScript = LazyLock::new(|| {
    script(
        r"
local l = redis.call('HMGET', KEYS[1], 't', 'u')
if l[1] ~= ARGV[1] or now >= tonumber(l[2]) then return 0 end
redis.call('HDEL', KEYS[1], 't', 'h')
redis.call('HSET', KEYS[1], 'u', '0')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('ZREM', KEYS[2], ARGV[3])
redis.call('PUBLISH', ARGV[4], ARGV[3])
return 1
",
    )
});

/// Who holds a lease, whose record is the only key: number, holder, since when, how long yet.
pub(super) static LOOK: StaticScript = LazyLock::new(|| {
    script(
        r"
local l = redis.call('HMGET', KEYS[1], 'n', 'h', 's', 'u')
if not l[4] or now >= tonumber(l[4]) then return false end
return {l[1], l[2], text(now - l[3]), text(l[4] - now)}
",
    )
});
