//! Leases: who may make what alone.
//!
//! A lease ends when it is released or not renewed in time. Each grant has a *fencing number*,
//! larger than those of all earlier grants of the key. A lease is no lock: its holder may be cut
//! off without knowing it. So results that were made under a lease are stored by
//! [`LeaseStore::commit`], which looks at the number and stores the result in one step: what a
//! holder sends late, after another was granted the key, is refused.
//!
//! | module | subject |
//! |---|---|
//! | [`rules`] | the rules, as a state machine |
//! | [`local`] | the leases of one process |
//! | [`counted`] | leases whose outcomes are counted |
//!
//! Those that several servers share are in Redis: `crate::redis::leases`.

pub mod counted;
pub mod local;
pub mod rules;

use std::fmt;
use std::time::Duration;

use ashlar_model::cas::ActionKey;
use ashlar_model::executor::BoxFuture;
use bytes::Bytes;
pub use rules::{Held, Key as LeaseKey, Limits};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::fault::{Fault, FaultKind};

/// A lease as its holder has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Proof of holding it; nobody else is told.
    pub token: String,
    /// Larger than that of every earlier grant of the key.
    pub number: u64,
    /// How long it is held without renewal.
    pub ttl: Duration,
}

/// What came of an attempt to get a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquired {
    /// It is the caller's.
    Granted(Grant),
    /// It is another's.
    Held(Held),
}

/// Under which lease something was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The lease's key.
    pub key: LeaseKey,
    /// Its fencing number.
    pub number: u64,
}

/// What came of an attempt to store a result that was made under a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// It is stored.
    Stored,
    /// There was one before, which stays.
    AlreadyThere(Bytes),
    /// Another has been granted the lease since: the result is not stored.
    Superseded,
}

/// Leases, and storing what was made under them. All times are those of the store.
pub trait LeaseStore: Send + Sync + fmt::Debug {
    /// Grants a key to `holder` (its name, for others to read), unless somebody holds it.
    /// [`FaultKind::Exhausted`]: there are too many leases.
    fn acquire<'a>(
        &'a self,
        key: &'a LeaseKey,
        holder: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Acquired, Fault>>;

    /// Lets a lease run for its full time again, which it gives. [`FaultKind::NotFound`]: it has run
    /// out or was given to another.
    fn renew<'a>(
        &'a self,
        key: &'a LeaseKey,
        token: &'a str,
    ) -> BoxFuture<'a, Result<Duration, Fault>>;

    /// Gives a lease back. Whether it was the caller's.
    fn release<'a>(
        &'a self,
        key: &'a LeaseKey,
        token: &'a str,
    ) -> BoxFuture<'a, Result<bool, Fault>>;

    /// Who holds a key now.
    fn held<'a>(&'a self, key: &'a LeaseKey) -> BoxFuture<'a, Result<Option<Held>, Fault>>;

    /// Waits until the key is held under another number than `seen`, or by nobody; gives the holder.
    fn changed<'a>(
        &'a self,
        key: &'a LeaseKey,
        seen: u64,
    ) -> BoxFuture<'a, Result<Option<Held>, Fault>>;

    /// Stores a result, unless the action has one already or the lease `fence` was granted to
    /// another since. One that is there and equal to `hole` counts as none: blobs that it names are
    /// gone. Looking and storing are one step if the lease's key is the action's hash in
    /// hexadecimal, as Ashlar's builders have it; for other keys a store of several servers looks
    /// first and stores then.
    fn commit<'a>(
        &'a self,
        key: &'a ActionKey,
        result: Bytes,
        fence: Option<&'a Fence>,
        hole: Option<&'a Bytes>,
    ) -> BoxFuture<'a, Result<Committed, Fault>>;

    /// How many keys are held, as far as that is known without asking others.
    fn count(&self) -> Option<u64>;
}

/// What tells a holder that its lease is not its own any more.
pub fn lost() -> Fault {
    Fault::new(FaultKind::NotFound, rules::Lost.to_string())
}

/// A token that nobody can guess.
pub fn random_token() -> Result<String, Fault> {
    let mut bytes = [0; 16];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..)
        && !rest.is_empty()
    {
        filled += getrandom(rest, GetRandomFlags::empty()).map_err(|errno| {
            Fault::new(FaultKind::Internal, "the kernel gives no random numbers").caused_by(errno)
        })?;
    }
    Ok(hex::encode(bytes))
}
