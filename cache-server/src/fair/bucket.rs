//! A rate: so much a second, a little more at once.
//!
//! Whatever is let in is paid for afterwards, however much it is: a blob that is larger than a
//! second's worth passes as a whole, and those that come next wait until it is paid for. So a stream
//! never breaks off in the middle.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What may be used ahead, in seconds' worth.
const AHEAD: Duration = Duration::from_secs(5);

/// What one thing costs at most: whoever has taken more than a day's worth waits a day.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What was used, at some rate.
#[derive(Debug, Default)]
pub struct Bucket {
    /// When all that was used will be paid for.
    paid: Mutex<Option<Instant>>,
}

impl Bucket {
    /// Uses some, or says how long to wait until some can be used.
    pub fn take(&self, amount: u64, a_second: u64, now: Instant) -> Result<(), Duration> {
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let from = paid.map_or(now, |paid| paid.max(now));
        let debt = from.saturating_duration_since(now);
        if debt > AHEAD {
            return Err(debt - AHEAD);
        }
        let nanoseconds = u128::from(amount) * 1_000_000_000 / u128::from(a_second.max(1));
        let cost = u64::try_from(nanoseconds).unwrap_or(u64::MAX);
        let cost = Duration::from_nanos(cost).min(LONGEST);
        *paid = from.checked_add(cost);
        Ok(())
    }

    /// Whether all that was used is paid for, so that nothing is lost with it.
    pub fn is_even(&self, now: Instant) -> bool {
        let paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        paid.is_none_or(|paid| paid <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_little_more_is_let_in_at_once_and_then_so_much_a_second() {
        let bucket = Bucket::default();
        let start = Instant::now();
        // Ten a second: five seconds' worth ahead, and the one that tips the scales.
        let taken = (0..100)
            .take_while(|_| bucket.take(1, 10, start).is_ok())
            .count();
        assert_eq!(taken, 51);
        let wait = bucket.take(1, 10, start).expect_err("too fast");
        assert_eq!(wait, Duration::from_millis(100));
        // Whoever waits for that long is let in.
        let later = start + wait;
        assert_eq!(bucket.take(1, 10, later), Ok(()));
        assert!(bucket.take(1, 10, later).is_err());
        let taken = (1..=1000)
            .filter(|tick| {
                let now = later + Duration::from_millis(10 * tick);
                bucket.take(1, 10, now).is_ok()
            })
            .count();
        assert_eq!(taken, 100);
    }

    #[test]
    fn what_is_too_large_passes_once_and_is_paid_for() {
        let bucket = Bucket::default();
        let start = Instant::now();
        assert_eq!(bucket.take(1000, 10, start), Ok(()));
        assert!(!bucket.is_even(start));
        let wait = bucket.take(1, 10, start).expect_err("in debt");
        assert_eq!(wait, Duration::from_secs(95));
        assert_eq!(bucket.take(1, 10, start + wait), Ok(()));
        assert!(bucket.is_even(start + Duration::from_secs(101)));
    }

    #[test]
    fn no_amount_is_too_much_to_count() {
        let bucket = Bucket::default();
        let start = Instant::now();
        assert_eq!(bucket.take(u64::MAX, 1, start), Ok(()));
        let wait = bucket.take(1, 0, start).expect_err("in debt");
        assert_eq!(wait, LONGEST - AHEAD);
    }
}
