//! What clients of shared caches did and saw, and whether a cache that keeps its word can have
//! answered so.
//!
//! Clients note each call with its begin and its end, and what it gave ([`Operation`]); whoever
//! makes the trouble notes what it took away ([`Loss`]). Afterwards [`check`] looks at all of it:
//!
//! | rule | what it says |
//! |---|---|
//! | one result | a key's results follow each other as if one thing at a time had happened: stored if there was none, found as it was stored, gone only if it was invalidated or taken away. So no key has two results, no accepted one is lost, and none comes from nowhere |
//! | readable | of a result that was found, all blobs can be read, with the right bytes |
//! | fences | fencing numbers of a key grow from grant to grant, and nothing is stored under one after a larger one was granted |
//! | one holder | nobody gets a lease that somebody holds |
//! | ends | every call ends in time |
//!
//! Nothing here talks to a server: the rules are checked with histories made by hand.

mod check;
mod register;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use check::{Violation, check};

/// When something was, counted from the beginning of the history.
pub type Time = Duration;

/// Something with results, by number.
pub type Key = u64;

/// A result, by number. No two attempts to make one give the same.
pub type Value = u64;

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Who called.
    pub client: u64,
    /// About what.
    pub key: Key,
    /// When the call was begun.
    pub begin: Time,
    /// When it ended; `None` if it had not when the history was looked at.
    pub end: Option<Time>,
    /// What was called and what came of it.
    pub what: What,
}

/// What was called and what came of it. `None`: the client was told nothing, so that it may have
/// been done or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A lease was asked for.
    Acquire {
        /// How long it is held without renewal.
        ttl: Duration,
        /// What came of it.
        outcome: Option<Acquired>,
    },
    /// A lease was renewed.
    Renew {
        /// Its fencing number.
        number: u64,
        /// How long it is held from then on.
        ttl: Duration,
        /// Whether it was still the caller's.
        ours: Option<bool>,
    },
    /// A lease was given back.
    Release {
        /// Its fencing number.
        number: u64,
    },
    /// A result was to be stored, unless there was one.
    Commit {
        /// The result.
        value: Value,
        /// The fencing number under which it was made.
        under: Option<u64>,
        /// What came of it.
        outcome: Option<Committed>,
    },
    /// A result was looked up.
    Probe {
        /// What was found.
        found: Option<Found>,
    },
    /// All blobs of a result that was found were read.
    Read {
        /// The result.
        value: Value,
        /// How they were.
        blobs: Option<Blobs>,
    },
    /// The key's result was removed.
    Invalidate {
        /// Whether that was confirmed.
        done: Option<()>,
    },
}

/// What came of asking for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acquired {
    /// It was granted, with this fencing number.
    Granted(u64),
    /// Somebody else holds it.
    Held,
}

/// What came of storing a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It is stored.
    Stored,
    /// This one was there before.
    There(Value),
    /// The lease was lost.
    Superseded,
    /// It was refused for another reason, such as a missing blob.
    Refused,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A result.
    Hit(Value),
    /// None.
    Miss,
}

/// How a result's blobs were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blobs {
    /// All there, with the right bytes.
    Right,
    /// One was missing.
    Missing,
    /// One had wrong bytes.
    Wrong,
}

/// What was taken away from the cache by those who make the trouble, of all keys alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// From when on something may have been lost.
    pub begin: Time,
    /// Until when the cache may find out that it was.
    pub end: Time,
    /// What was lost.
    pub what: Lost,
}

/// What may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// All records: results, leases, where blobs are.
    Records,
    /// Blobs.
    Blobs,
    /// Changes of which nobody was told that they are done, and leases: the database's copy took
    /// over.
    Unconfirmed,
}

/// What happened, as it is being noted.
#[derive(Debug)]
pub struct Recorder {
    start: Instant,
    history: Mutex<History>,
}

/// A call that has begun.
#[derive(Debug)]
#[must_use = "a call that does not end is one that hangs"]
pub struct Call(usize);

/// What happened.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The calls.
    pub operations: Vec<Operation>,
    /// What was taken away.
    pub losses: Vec<Loss>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            history: Mutex::default(),
        }
    }
}

impl Recorder {
    /// How long ago the history began.
    pub fn now(&self) -> Time {
        self.start.elapsed()
    }

    /// Notes that a call begins. Until it ends it is one that nobody has answered.
    pub fn begin(&self, client: u64, key: Key, what: What) -> Call {
        let begin = self.now();
        let mut history = self.lock();
        history.operations.push(Operation {
            client,
            key,
            begin,
            end: None,
            what,
        });
        Call(history.operations.len() - 1)
    }

    /// Notes that a call has ended, and what came of it.
    pub fn end(&self, call: &Call, what: What) {
        let now = self.now();
        if let Some(operation) = self.lock().operations.get_mut(call.0) {
            operation.end = Some(now);
            operation.what = what;
        }
    }

    /// Notes that something was lost, from `begin` until now or `more` later.
    pub fn lost(&self, what: Lost, begin: Time, more: Duration) {
        let end = self.now() + more;
        self.lock().losses.push(Loss { begin, end, what });
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of it, as it is now.
    pub fn history(&self) -> History {
        self.lock().clone()
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            client,
            key,
            begin,
            end,
            what,
        } = self;
        let begin = begin.as_secs_f64();
        match end {
            Some(end) => write!(f, "{begin:.6}..{:.6}", end.as_secs_f64())?,
            None => write!(f, "{begin:.6}..")?,
        }
        write!(f, " client {client} key {key}: {what:?}")
    }
}
