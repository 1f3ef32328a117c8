//! The queue's own time: the caller's, without the times at which the queue itself stood still.
//!
//! A server that was stopped for a minute finds a minute's messages of its workers waiting, and may
//! look at its clock before it reads them. Their leases have not ended: nobody listened.

use std::time::Duration;

/// What time it is.
#[derive(Debug)]
pub(super) struct Clock {
    now: Duration,
    lost: Duration,
    stall: Duration,
}

impl Clock {
    pub(super) const fn new(now: Duration, stall: Duration) -> Self {
        Self {
            now,
            lost: Duration::ZERO,
            stall,
        }
    }

    /// Goes on to `now`, never back.
    pub(super) fn advance(&mut self, now: Duration) {
        let gone = now.saturating_sub(self.now);
        self.lost += gone.saturating_sub(self.stall);
        self.now += gone;
    }

    /// The caller's time: what people are shown.
    pub(super) const fn now(&self) -> Duration {
        self.now
    }

    /// The queue's time: what leases, graces and rests are counted in.
    pub(super) fn time(&self) -> Duration {
        self.now.saturating_sub(self.lost)
    }

    /// When it is `time`, by the caller's clock.
    pub(super) fn outside(&self, time: Duration) -> Duration {
        time + self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standing_still_is_no_time() {
        let s = Duration::from_secs;
        let mut clock = Clock::new(s(100), s(5));
        clock.advance(s(104));
        assert_eq!((clock.now(), clock.time()), (s(104), s(104)));
        clock.advance(s(164));
        assert_eq!((clock.now(), clock.time()), (s(164), s(109)));
        clock.advance(s(150));
        assert_eq!((clock.now(), clock.time()), (s(164), s(109)));
        assert_eq!(clock.outside(s(110)), s(165));
    }
}
