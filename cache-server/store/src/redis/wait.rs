//! How long to wait before another try.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(500);

/// Between half of a time and the whole, so that many who wait do not come back together.
pub(super) fn jittered(time: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let half = nanos / 2;
    Duration::from_nanos(half + random % (half + 1))
}

/// Before the next try, behind so many that failed.
pub(super) fn backoff(failures: u32) -> Duration {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1).min(16));
    let time = FIRST.saturating_mul(doubled.unwrap_or(u32::MAX));
    jittered(time.min(LONGEST))
}

/// What failed is not tried again at once by everybody: until its time has come, all are given the
/// same error.
#[derive(Debug)]
pub(super) struct Backoff<E> {
    failures: u32,
    last: Option<(Instant, E)>,
}

impl<E> Default for Backoff<E> {
    fn default() -> Self {
        Self {
            failures: 0,
            last: None,
        }
    }
}

impl<E> Backoff<E> {
    /// The last error, if it is too early for another try.
    pub(super) fn refuses(&self) -> Option<&E> {
        let (until, error) = self.last.as_ref()?;
        (Instant::now() < *until).then_some(error)
    }

    /// It went well.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// It did not.
    pub(super) fn failed(&mut self, error: E) {
        self.failures = self.failures.saturating_add(1);
        self.last = Some((Instant::now() + backoff(self.failures), error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_bound() {
        for failures in 0..100 {
            let wait = backoff(failures);
            assert!(wait >= FIRST / 2 && wait <= LONGEST, "{wait:?}");
        }
        assert!(backoff(100) >= LONGEST / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_tries_again_too_early() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.refuses(), None);
        backoff.failed("away");
        assert_eq!(backoff.refuses(), Some(&"away"));
        tokio::time::advance(FIRST).await;
        assert_eq!(backoff.refuses(), None);
        backoff.failed("away");
        backoff.succeeded();
        assert_eq!(backoff.refuses(), None);
    }
}
