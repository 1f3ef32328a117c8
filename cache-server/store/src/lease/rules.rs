//! The rules of leases, as a state machine that knows no clock and no connection.
//!
//! Time comes with every call, as the time since some start. A lease ends when it is released, or
//! when its time has passed without a renewal:
//!
//! ```text
//!            acquire                    release, or time passes
//!   free ─────────────▶ held by TOKEN ─────────────────────────▶ free
//!                         │      ▲
//!                         └──────┘ renew by TOKEN
//! ```
//!
//! Every grant has a *fencing number*, larger than all before it, of whatever key and whatever
//! start of the server ([`first_number`]). A holder that was cut off and comes back late is known
//! by its number being smaller than the latest of the key ([`Leases::fence`]).
//!
//! After a restart nothing is held: holders that renew learn that their lease is lost, and whoever
//! comes first is granted it.

use std::collections::HashMap;
use std::time::Duration;

/// A number below all fencing numbers of a start of the server, and above those of earlier starts.
/// `epoch` grows with every start; the numbers below it, in the lower half, count the grants.
pub const fn first_number(epoch: u64) -> u64 {
    epoch << 32
}

/// A lease's name: instance name and key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The instance.
    pub instance: String,
    /// The key that the client chose.
    pub key: String,
}

/// Times and numbers that bound leases.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The shortest time for which a lease is granted.
    pub shortest: Duration,
    /// The longest.
    pub longest: Duration,
    /// Keys that are held or remembered at once.
    pub keys: usize,
    /// How long the latest number of a key is remembered once nobody holds it.
    pub remembered: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            shortest: Duration::from_secs(1),
            longest: Duration::from_secs(300),
            keys: 100_000,
            remembered: Duration::from_secs(3600),
        }
    }
}

/// A lease as its holder has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// Larger than that of every grant before.
    pub number: u64,
    /// How long it is held without renewal.
    pub ttl: Duration,
}

/// A lease as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Who holds it.
    pub holder: String,
    /// Tells one grant from the next.
    pub number: u64,
    /// For how long.
    pub held_for: Duration,
    /// When it ends, unless it is renewed.
    pub runs_out_in: Duration,
}

/// What came of an attempt to get a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquired {
    /// It is the caller's.
    Granted(Granted),
    /// It is another's.
    Held(Held),
    /// There are too many leases.
    TooMany,
}

/// The lease is not the caller's any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lease has run out or was given to another")]
pub struct Lost;

/// Whether what was made under a fencing number may still be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// Nobody has been granted the key since.
    Current,
    /// Somebody has.
    Superseded,
}

#[derive(Debug)]
struct Entry {
    /// The latest fencing number.
    number: u64,
    /// When that lease was granted.
    since: Duration,
    /// When it ends, or ended.
    until: Duration,
    ttl: Duration,
    holder: Option<Holder>,
}

#[derive(Debug)]
struct Holder {
    token: String,
    name: String,
}

impl Entry {
    /// Who holds it now.
    fn holder(&self, now: Duration) -> Option<&Holder> {
        self.holder.as_ref().filter(|_| now < self.until)
    }
}

/// All leases.
#[derive(Debug)]
pub struct Leases {
    limits: Limits,
    /// The latest fencing number of all keys.
    number: u64,
    keys: HashMap<Key, Entry>,
}

impl Leases {
    /// No lease. All fencing numbers will be larger than `number`: see [`first_number`].
    pub fn new(number: u64, limits: Limits) -> Self {
        Self {
            limits,
            number,
            keys: HashMap::new(),
        }
    }

    /// Grants a key to `holder`, unless somebody holds it. `token` is what the holder will prove
    /// itself with: nobody else must know it.
    pub fn acquire(
        &mut self,
        key: &Key,
        holder: &str,
        token: &str,
        ttl: Duration,
        now: Duration,
    ) -> Acquired {
        if let Some(held) = self.held(key, now) {
            return Acquired::Held(held);
        }
        if self.keys.len() >= self.limits.keys && !self.keys.contains_key(key) {
            self.forget(now);
            if self.keys.len() >= self.limits.keys {
                return Acquired::TooMany;
            }
        }
        let ttl = ttl.clamp(self.limits.shortest, self.limits.longest);
        self.number += 1;
        let entry = Entry {
            number: self.number,
            since: now,
            until: now.saturating_add(ttl),
            ttl,
            holder: Some(Holder {
                token: token.to_owned(),
                name: holder.to_owned(),
            }),
        };
        self.keys.insert(key.clone(), entry);
        Acquired::Granted(Granted {
            number: self.number,
            ttl,
        })
    }

    /// Lets a lease run for its full time again.
    pub fn renew(&mut self, key: &Key, token: &str, now: Duration) -> Result<Duration, Lost> {
        let entry = self.keys.get_mut(key).ok_or(Lost)?;
        match entry.holder(now) {
            Some(holder) if holder.token == token => {
                entry.until = now.saturating_add(entry.ttl);
                Ok(entry.ttl)
            }
            _ => Err(Lost),
        }
    }

    /// Gives a lease back. Whether it was the caller's.
    pub fn release(&mut self, key: &Key, token: &str, now: Duration) -> bool {
        let Some(entry) = self.keys.get_mut(key) else {
            return false;
        };
        let own = entry
            .holder(now)
            .is_some_and(|holder| holder.token == token);
        if own {
            entry.holder = None;
            entry.until = now;
        }
        own
    }

    /// Who holds a key.
    pub fn held(&self, key: &Key, now: Duration) -> Option<Held> {
        let entry = self.keys.get(key)?;
        let holder = entry.holder(now)?;
        Some(Held {
            holder: holder.name.clone(),
            number: entry.number,
            held_for: now.saturating_sub(entry.since),
            runs_out_in: entry.until.saturating_sub(now),
        })
    }

    /// Whether what was made under a key and a fencing number may be stored. A lease that ran out
    /// and that nobody has been granted since does no harm; nor does one of before a restart.
    pub fn fence(&self, key: &Key, number: u64) -> Fence {
        match self.keys.get(key) {
            Some(entry) if entry.number > number => Fence::Superseded,
            _ => Fence::Current,
        }
    }

    /// How many keys are held.
    pub fn count(&self, now: Duration) -> usize {
        let entries = self.keys.values();
        entries.filter(|entry| entry.holder(now).is_some()).count()
    }

    /// Forgets keys that nobody has held for long.
    pub fn forget(&mut self, now: Duration) {
        let remembered = self.limits.remembered;
        self.keys.retain(|_, entry| {
            entry.holder(now).is_some() || now < entry.until.saturating_add(remembered)
        });
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
