//! The scripts of the index.
//!
//! Those about blobs are about blobs of one tag. Where they change something, the first key is the
//! sums, and the others are blobs: so the sums change with the blobs, and doing the same twice changes
//! them once.
//!
//! A server without memory refuses a script at its first write, if that takes memory; later ones it
//! lets pass. So what needs memory begins with that, and what frees some does not.
//!
//! Those about objects have the keys objects, lengths, condemned.

use std::sync::LazyLock;

use super::super::request::{Script, StaticScript};

/// The places of blobs.
pub(super) static PLACES: StaticScript = LazyLock::new(|| {
    Script::new(&[r"
local places = {}
for i, key in ipairs(KEYS) do places[i] = redis.call('HGET', key, 'p') end
return places
"])
});

/// The places of those blobs that one of some namespaces holds.
pub(super) static HELD: StaticScript = LazyLock::new(|| {
    Script::new(&[r"
local places = {}
for i, key in ipairs(KEYS) do
  local fields = redis.call('HMGET', key, 'p', unpack(ARGV))
  places[i] = false
  for holder = 2, #ARGV + 1 do
    if fields[holder] then places[i] = fields[1] end
  end
end
return places
"])
});

/// Notes the places of blobs, one argument each.
pub(super) static ADD: StaticScript = LazyLock::new(|| {
    Script::new(&[r"
local new = 0
for i = 2, #KEYS do new = new + redis.call('HSET', KEYS[i], 'p', ARGV[i - 1]) end
if new > 0 then redis.call('HINCRBY', KEYS[1], 'b', new) end
"])
});

/// Forgets the blobs that lie in an object: an object and a length for each. Whoever holds one of
/// them holds it no more.
pub(super) static FORGET: StaticScript = LazyLock::new(|| {
    Script::new(&[r"
local function less(field, by)
  if redis.call('HINCRBY', KEYS[1], field, '-' .. by) <= 0 then redis.call('HDEL', KEYS[1], field) end
end
for i = 2, #KEYS do
  local object, size = ARGV[2 * i - 3], ARGV[2 * i - 2]
  local place = redis.call('HGET', KEYS[i], 'p')
  if place and string.sub(place, 1, #object) == object then
    local fields = redis.call('HKEYS', KEYS[i])
    redis.call('DEL', KEYS[i])
    for _, field in ipairs(fields) do
      if field ~= 'p' and size ~= '0' then less(field, size) end
    end
    less('b', 1)
  end
end
"])
});

/// Notes that a namespace (1) holds blobs, if they are in the index: a length for each.
pub(super) static HOLD: StaticScript = LazyLock::new(|| {
    Script::new(&[r"
local bytes = 0
for i = 2, #KEYS do
  if redis.call('HEXISTS', KEYS[i], 'p') == 1 then
    bytes = bytes + redis.call('HSETNX', KEYS[i], ARGV[1], '') * ARGV[i]
  end
end
if bytes > 0 then redis.call('HINCRBY', KEYS[1], ARGV[1], string.format('%.0f', bytes)) end
"])
});

/// Notes an object (1) of a length (2), used now.
pub(super) static ADD_OBJECT: StaticScript = LazyLock::new(|| {
    Script::new(&[r"
local before = redis.call('HGET', KEYS[2], ARGV[1]) or 0
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('HINCRBY', KEYS[2], '', string.format('%.0f', ARGV[2] - before))
redis.call('ZADD', KEYS[1], redis.call('TIME')[1], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
"])
});

/// Notes that objects are used now, those that there are.
pub(super) static TOUCH: StaticScript = LazyLock::new(|| {
    Script::new(&[r"
local now = redis.call('TIME')[1]
for _, name in ipairs(ARGV) do redis.call('ZADD', KEYS[1], 'XX', now, name) end
"])
});

/// Condemns an object (1), to be deleted at a time (2, milliseconds).
pub(super) static CONDEMN: StaticScript = LazyLock::new(|| {
    Script::new(&[r"
local length = redis.call('HGET', KEYS[2], ARGV[1])
if length then
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('HINCRBY', KEYS[2], '', string.format('%.0f', -length))
end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
"])
});
