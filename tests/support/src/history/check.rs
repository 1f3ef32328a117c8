//! The rules.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::register;
use super::{Acquired, Blobs, Committed, Found, History, Key, Lost, Operation, Time, Value, What};

/// By how much a database may count a lease's time less than it is: it counts milliseconds.
const ROUNDING: Duration = Duration::from_millis(5);

/// What no cache may do that keeps its word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// The results of a key cannot have followed each other.
    Results {
        /// The key.
        key: Key,
        /// Its calls.
        story: Vec<String>,
    },
    /// A result was found, and a blob of it was missing, though nothing was taken away.
    Missing(Box<Operation>),
    /// A blob had wrong bytes.
    WrongBytes(Box<Operation>),
    /// A result was stored under a fencing number after a larger one was granted.
    StaleWon {
        /// The commit.
        commit: Box<Operation>,
        /// The larger number's grant.
        newer: Box<Operation>,
    },
    /// A fencing number is not larger than that of an earlier grant.
    NumberShrank {
        /// The earlier grant.
        earlier: Box<Operation>,
        /// The later one.
        later: Box<Operation>,
    },
    /// A lease was granted that somebody held.
    TwoHolders {
        /// The grant of the one who held it.
        holder: Box<Operation>,
        /// The other grant.
        other: Box<Operation>,
    },
    /// A call did not end, or took too long.
    Hung(Box<Operation>),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Results { key, story } => {
                write!(f, "the results of key {key} fit in no order:")?;
                story.iter().try_for_each(|line| write!(f, "\n  {line}"))
            }
            Self::Missing(read) => write!(f, "a blob was missing: {read}"),
            Self::WrongBytes(read) => write!(f, "a blob was wrong: {read}"),
            Self::StaleWon { commit, newer } => {
                write!(f, "a stale number won: {commit}\n  after {newer}")
            }
            Self::NumberShrank { earlier, later } => {
                write!(f, "a number did not grow: {later}\n  after {earlier}")
            }
            Self::TwoHolders { holder, other } => {
                write!(f, "a lease had two holders: {other}\n  beside {holder}")
            }
            Self::Hung(call) => write!(f, "a call hung: {call}"),
        }
    }
}

/// Everything that is wrong with a history. No call may take longer than `patience`.
pub fn check(history: &History, patience: Duration) -> Vec<Violation> {
    let mut found = Vec::new();
    let keys: BTreeSet<Key> = history.operations.iter().map(|own| own.key).collect();
    for key in keys {
        if let Some(story) = register::contradiction(history, key) {
            found.push(Violation::Results { key, story });
        }
        let own: Vec<&Operation> = history
            .operations
            .iter()
            .filter(|operation| operation.key == key)
            .collect();
        blobs(history, &own, &mut found);
        fences(&own, &mut found);
        holders(history, &own, &mut found);
    }
    for operation in &history.operations {
        let hung = operation
            .end
            .is_none_or(|end| end.saturating_sub(operation.begin) > patience);
        if hung {
            found.push(Violation::Hung(Box::new(operation.clone())));
        }
    }
    found
}

/// When a value was first known to be there.
fn first_seen(own: &[&Operation], value: Value) -> Option<Time> {
    own.iter()
        .filter(|operation| match operation.what {
            What::Probe {
                found: Some(Found::Hit(seen)),
            }
            | What::Commit {
                outcome: Some(Committed::There(seen)),
                ..
            } => seen == value,
            What::Commit {
                value: stored,
                outcome: Some(Committed::Stored),
                ..
            } => stored == value,
            _ => false,
        })
        .map(|operation| operation.begin)
        .min()
}

fn blobs(history: &History, own: &[&Operation], found: &mut Vec<Violation>) {
    for operation in own {
        let What::Read { value, blobs } = operation.what else {
            continue;
        };
        match blobs {
            Some(Blobs::Wrong) => {
                found.push(Violation::WrongBytes(Box::new((*operation).clone())));
            }
            Some(Blobs::Missing) => {
                let since = first_seen(own, value).unwrap_or(operation.begin);
                let taken = history.losses.iter().any(|loss| {
                    loss.end >= since && operation.end.is_none_or(|end| loss.begin <= end)
                });
                if !taken {
                    found.push(Violation::Missing(Box::new((*operation).clone())));
                }
            }
            Some(Blobs::Right) | None => {}
        }
    }
}

/// The grants of a key, with their numbers and their ends.
fn grants<'a>(own: &[&'a Operation]) -> Vec<(&'a Operation, u64, Time)> {
    own.iter()
        .filter_map(|operation| match (&operation.what, operation.end) {
            (
                What::Acquire {
                    outcome: Some(Acquired::Granted(number)),
                    ..
                },
                Some(end),
            ) => Some((*operation, *number, end)),
            _ => None,
        })
        .collect()
}

fn fences(own: &[&Operation], found: &mut Vec<Violation>) {
    let grants = grants(own);
    for (later, number, _) in &grants {
        for (earlier, before, end) in &grants {
            let twice = number == before && !std::ptr::eq(*later, *earlier);
            let in_order = *end < later.begin;
            if (in_order && number <= before) || (twice && earlier.begin <= later.begin) {
                found.push(Violation::NumberShrank {
                    earlier: Box::new((*earlier).clone()),
                    later: Box::new((*later).clone()),
                });
            }
        }
    }
    // What was seen after a commit that told nothing won, too.
    let seen: BTreeSet<Value> = own
        .iter()
        .filter_map(|operation| match operation.what {
            What::Probe {
                found: Some(Found::Hit(value)),
            }
            | What::Commit {
                outcome: Some(Committed::There(value)),
                ..
            } => Some(value),
            _ => None,
        })
        .collect();
    for commit in own {
        let What::Commit {
            value,
            under: Some(under),
            outcome,
        } = commit.what
        else {
            continue;
        };
        let won = match outcome {
            Some(Committed::Stored) => true,
            Some(_) => false,
            None => seen.contains(&value),
        };
        let newer = grants
            .iter()
            .find(|(_, number, end)| *number > under && *end < commit.begin);
        if let (true, Some((newer, _, _))) = (won, newer) {
            found.push(Violation::StaleWon {
                commit: Box::new((*commit).clone()),
                newer: Box::new((*newer).clone()),
            });
        }
    }
}

/// When a lease may be over: when it was given back or counted as lost, or its time ended after
/// the last renewal that was begun for sure.
fn surely_held_until(own: &[&Operation], number: u64, granted: Time, ttl: Duration) -> Time {
    let mut until = granted + ttl;
    for operation in own {
        match operation.what {
            What::Renew {
                number: own,
                ttl,
                ours: Some(true),
            } if own == number => until = until.max(operation.begin + ttl),
            _ => {}
        }
    }
    for operation in own {
        match operation.what {
            What::Release { number: own } if own == number => until = until.min(operation.begin),
            _ => {}
        }
    }
    until.saturating_sub(ROUNDING)
}

fn holders(history: &History, own: &[&Operation], found: &mut Vec<Violation>) {
    let grants = grants(own);
    for (holder, number, end) in &grants {
        let What::Acquire { ttl, .. } = holder.what else {
            continue;
        };
        let until = surely_held_until(own, *number, holder.begin, ttl);
        for (other, _, other_end) in &grants {
            // The whole of it lies in a time when the first one held the lease.
            let inside = other.begin > *end && *other_end < until;
            let lost = history.losses.iter().any(|loss| {
                loss.what != Lost::Blobs && loss.end >= holder.begin && loss.begin <= *other_end
            });
            if inside && !lost {
                found.push(Violation::TwoHolders {
                    holder: Box::new((*holder).clone()),
                    other: Box::new((*other).clone()),
                });
            }
        }
    }
}
