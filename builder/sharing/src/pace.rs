//! How much is on its way to or from a cache at once, and how long it may take.
//!
//! A cache that stands still is to be noticed within seconds, and one that is merely slow is not to
//! be given up. So no more is on its way than the cache moves in about a second, as measured; what
//! takes several times as long as it should stands still.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Bytes a second, as long as nothing is known.
const FIRST_RATE: f64 = 1024.0 * 1024.0;
/// The least that is reckoned with.
const LEAST_RATE: f64 = 32.0 * 1024.0;
/// The least that may be on its way, in bytes.
const LEAST_WINDOW: f64 = 256.0 * 1024.0;
/// The most that may be on its way, in bytes.
const LARGEST_WINDOW: f64 = 24.0 * 1024.0 * 1024.0;
/// How long anything may take, however small.
const LEAST_LIMIT: Duration = Duration::from_secs(3);
/// So many times longer than expected something may take.
const PATIENCE: f64 = 3.0;

/// Bytes on their way in one direction.
#[derive(Debug)]
pub struct Pace {
    state: Mutex<State>,
    left: Notify,
}

#[derive(Debug)]
struct State {
    on_way: u64,
    /// Bytes a second.
    rate: f64,
}

/// Leave to transfer some bytes.
#[derive(Debug)]
pub struct Transfer<'a> {
    pace: &'a Pace,
    bytes: u64,
    /// All that was on its way when it began, itself included.
    on_way: u64,
    begin: Instant,
    limit: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                on_way: 0,
                rate: FIRST_RATE,
            }),
            left: Notify::new(),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "nobody transfers so much at once that it matters"
)]
const fn float(bytes: u64) -> f64 {
    bytes as f64
}

impl State {
    /// How much may be on its way.
    fn window(&self) -> f64 {
        self.rate.clamp(LEAST_WINDOW, LARGEST_WINDOW)
    }

    /// How long it may take until all of that is there.
    fn limit(&self, bytes: u64) -> Duration {
        let seconds = PATIENCE * float(bytes) / self.rate.max(LEAST_RATE);
        LEAST_LIMIT + Duration::from_secs_f64(seconds.min(600.0))
    }
}

impl Pace {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room for so many bytes; one transfer may always begin.
    pub async fn begin(&self, bytes: u64) -> Transfer<'_> {
        loop {
            let left = self.left.notified();
            if let Some(transfer) = self.try_begin(bytes) {
                return transfer;
            }
            left.await;
        }
    }

    fn try_begin(&self, bytes: u64) -> Option<Transfer<'_>> {
        let mut state = self.state();
        if state.on_way > 0 && float(state.on_way + bytes) > state.window() {
            return None;
        }
        state.on_way += bytes;
        Some(Transfer {
            pace: self,
            bytes,
            on_way: state.on_way,
            begin: Instant::now(),
            limit: state.limit(state.on_way),
        })
    }
}

impl Transfer<'_> {
    /// How long it may take.
    pub const fn limit(&self) -> Duration {
        self.limit
    }

    /// It went well: that tells how fast the cache is.
    pub fn done(self) {
        let took = self.begin.elapsed().as_secs_f64().max(0.0005);
        let rate = float(self.on_way) / took;
        let mut state = self.pace.state();
        // What went fast shows what can be; what went slow may have waited for others.
        let weight = if rate > state.rate { 0.5 } else { 0.2 };
        state.rate += (rate - state.rate) * weight;
    }
}

impl Drop for Transfer<'_> {
    fn drop(&mut self) {
        self.pace.state().on_way -= self.bytes;
        self.pace.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_fast_cache_gets_more_at_once_and_a_slow_one_less() {
        let pace = Pace::default();
        let first = pace.try_begin(MIB).unwrap();
        assert!(first.limit() <= Duration::from_secs(6));
        assert!(pace.try_begin(1).is_none(), "nothing is known yet");
        first.done();
        // It took no time at all.
        let on_way: Vec<_> = std::iter::from_fn(|| pace.try_begin(2 * MIB)).collect();
        assert!(on_way.len() > 5, "{}", on_way.len());
        assert!(on_way.len() <= 12, "{}", on_way.len());
        drop(on_way);

        pace.state().rate = 100.0 * 1024.0;
        let _one = pace.try_begin(200 * 1024).unwrap();
        assert!(pace.try_begin(200 * 1024).is_none());
    }

    #[test]
    fn standing_still_is_noticed_within_seconds_and_slowness_is_borne() {
        let pace = Pace::default();
        pace.state().rate = 50.0 * 1024.0 * 1024.0;
        let on_way: Vec<_> = std::iter::from_fn(|| pace.try_begin(2 * MIB)).collect();
        assert!(
            on_way
                .iter()
                .all(|one| one.limit() < Duration::from_secs(6))
        );
        drop(on_way);
        pace.state().rate = 64.0 * 1024.0;
        let one = pace.try_begin(2 * MIB).unwrap();
        assert!(one.limit() > Duration::from_secs(60), "{:?}", one.limit());
    }

    #[tokio::test]
    async fn who_waits_comes_in_when_there_is_room() {
        let pace = Pace::default();
        let first = pace.begin(2 * MIB).await;
        let wait = tokio::time::timeout(Duration::from_millis(20), pace.begin(2 * MIB));
        wait.await.unwrap_err();
        let (second, ()) = futures::join!(pace.begin(2 * MIB), async { drop(first) });
        assert_eq!(second.on_way, 2 * MIB);
    }
}
