//! Fair use: what one holder of blobs takes is not taken from the others.
//!
//! | module | subject |
//! |---|---|
//! | [`bucket`] | a rate |
//! | [`quota`] | how many bytes a holder may hold |
//! | here | who has used how much lately |
//!
//! Each server counts for itself. What is remembered is bounded, however many holders there are:
//! those that owe nothing are forgotten first.

pub mod bucket;
pub mod quota;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ashlar_store::counters::Count;

use self::bucket::Bucket;
use self::quota::Estimate;
use crate::namespaces::Limits;

/// So many holders are remembered.
const MOST: usize = 10_000;

/// So many are forgotten together, if none of them owes nothing.
const SOME: usize = MOST / 10;

/// Who has used how much lately.
#[derive(Debug, Default)]
pub struct Fair {
    holders: Mutex<HashMap<Arc<str>, Arc<Holder>>>,
}

/// What a holder has used lately.
#[derive(Debug)]
pub struct Holder {
    /// Its name.
    pub name: Arc<str>,
    requests: Bucket,
    bytes: Bucket,
    /// What it holds, as far as is known.
    pub held: Estimate,
    /// Blobs that it was not let store for want of room.
    pub refused_blobs: Count,
    last: Mutex<Instant>,
}

/// Too much in too little time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooFast {
    /// What was too much.
    pub what: &'static str,
    /// How much is not, in a second.
    pub limit: u64,
    /// How long to wait.
    pub wait: Duration,
}

impl Fair {
    fn holders(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Holder>>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those who were not let store blobs for want of room, and how many blobs: for metrics.
    pub fn refused_blobs(&self) -> Vec<(Arc<str>, u64)> {
        let holders = self.holders();
        let all = holders
            .values()
            .map(|holder| (holder.name.clone(), holder.refused_blobs.get()));
        all.filter(|(_, count)| *count > 0).collect()
    }

    /// A holder.
    pub fn of(&self, name: &str) -> Arc<Holder> {
        let now = Instant::now();
        let mut holders = self.holders();
        if let Some(holder) = holders.get(name) {
            holder.touch(now);
            return holder.clone();
        }
        if holders.len() >= MOST {
            make_room(&mut holders, now);
        }
        let name: Arc<str> = name.into();
        let holder = Arc::new(Holder {
            name: name.clone(),
            requests: Bucket::default(),
            bytes: Bucket::default(),
            held: Estimate::default(),
            refused_blobs: Count::default(),
            last: Mutex::new(now),
        });
        holders.insert(name, holder.clone());
        holder
    }
}

fn make_room(holders: &mut HashMap<Arc<str>, Arc<Holder>>, now: Instant) {
    holders.retain(|_, holder| !holder.is_even(now));
    if holders.len() < MOST {
        return;
    }
    let mut last: Vec<_> = holders.values().map(|holder| holder.last()).collect();
    let (_, limit, _) = last.select_nth_unstable(SOME);
    let limit = *limit;
    holders.retain(|_, holder| holder.last() > limit);
}

impl Holder {
    fn last(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self, now: Instant) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn is_even(&self, now: Instant) -> bool {
        self.requests.is_even(now) && self.bytes.is_even(now)
    }

    /// Counts a request, if it is not one too many.
    pub fn request(&self, limits: &Limits) -> Result<(), TooFast> {
        take(&self.requests, 1, limits.requests, "requests")
    }

    /// Counts bytes that come or go, if none that came before are too many.
    pub fn bytes(&self, bytes: u64, limits: &Limits) -> Result<(), TooFast> {
        take(&self.bytes, bytes, limits.bytes, "bytes")
    }
}

fn take(
    bucket: &Bucket,
    amount: u64,
    limit: Option<u64>,
    what: &'static str,
) -> Result<(), TooFast> {
    let Some(limit) = limit else {
        return Ok(());
    };
    let taken = bucket.take(amount, limit, Instant::now());
    taken.map_err(|wait| TooFast { what, limit, wait })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        held: None,
        requests: Some(1),
        bytes: Some(1000),
    };

    #[test]
    fn one_holders_haste_is_nothing_to_another() {
        let fair = Fair::default();
        let hasty = fair.of("hasty");
        let error = loop {
            if let Err(error) = hasty.request(&LIMITS) {
                break error;
            }
        };
        assert_eq!((error.what, error.limit), ("requests", 1));
        assert!(fair.of("hasty").request(&LIMITS).is_err());
        assert_eq!(fair.of("other").request(&LIMITS), Ok(()));
        assert_eq!(hasty.bytes(100_000, &LIMITS), Ok(()));
        assert_eq!(hasty.bytes(1, &LIMITS).expect_err("too fast").what, "bytes");
        assert_eq!(hasty.bytes(1, &Limits::default()), Ok(()));
    }

    #[test]
    fn made_up_names_fill_no_memory_and_clear_no_debt() {
        let fair = Fair::default();
        let debtor = fair.of("debtor");
        debtor.bytes(100_000_000, &LIMITS).expect("let in");
        for number in 0..3 * MOST {
            drop(fair.of(&format!("made-up/{number}")));
            assert!(fair.holders().len() <= MOST);
        }
        assert!(fair.of("debtor").bytes(1, &LIMITS).is_err());
        // Even if all of them owe something, there are not more.
        for number in 0..2 * MOST {
            let holder = fair.of(&format!("made-up/{number}"));
            holder.bytes(100_000_000, &LIMITS).expect("let in");
            assert!(fair.holders().len() <= MOST);
        }
    }
}
