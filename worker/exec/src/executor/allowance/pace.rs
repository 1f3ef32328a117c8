//! How often a container has to be looked at, and how much it may write before it can be stopped.

use std::time::Duration;

/// The longest time between two measurings.
pub(super) const BACKSTOP: Duration = Duration::from_secs(1);

/// The time until the second measuring; it doubles as long as nothing seems to happen.
const FIRST: Duration = Duration::from_millis(50);

/// How long it takes to stop a container once that is decided: messages between three processes.
const STOPPING: Duration = Duration::from_millis(20);

/// What is known of a container's writing from the measurings so far.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes a second, the highest of late.
    rate: u64,
    /// How long it was between the last two measurings.
    between: Duration,
    /// How long it takes to notice something: a glance and a measuring, the longest of late.
    turn: Duration,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self {
            rate: 0,
            between: FIRST,
            turn: Duration::ZERO,
        }
    }

    /// Notes a measuring that found so many bytes more than the last one, which had begun `between`
    /// earlier. It took `turn` from when it was due until its end.
    pub(super) fn note(&mut self, grown: u64, between: Duration, turn: Duration) {
        let micros = between.as_micros().max(1);
        let rate = u128::from(grown) * 1_000_000 / micros;
        // A machine that is busy now and then lets a container write in bursts.
        self.rate = u64::try_from(rate)
            .unwrap_or(u64::MAX)
            .max(self.rate / 4 * 3);
        self.turn = turn.max(self.turn / 4 * 3);
        self.between = between;
    }

    /// What it may write from the beginning of a measuring until it is stopped because of the next
    /// one, if it writes twice as fast as it did.
    pub(super) fn reserve(&self) -> u64 {
        written(self.rate.saturating_mul(2), self.turn + STOPPING)
    }

    /// After which time it has to be measured again if it may write `ahead` bytes: before half of
    /// what is left beside the reserve is written, at twice its speed.
    pub(super) fn interval(&self, ahead: u64) -> Duration {
        let at_most = BACKSTOP.min(self.between * 2);
        if self.rate == 0 {
            // Measuring many files is not to take more than a tenth of the time for nothing.
            return at_most.max(self.turn * 10);
        }
        let left = ahead.saturating_sub(self.reserve()) / 4;
        let micros = u128::from(left) * 1_000_000 / u128::from(self.rate);
        u64::try_from(micros).map_or(at_most, |micros| at_most.min(Duration::from_micros(micros)))
    }
}

fn written(rate: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate) * time.as_micros() / 1_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const TURN: Duration = Duration::from_millis(15);

    #[test]
    fn who_writes_nothing_is_looked_at_once_a_second() {
        let mut pace = Pace::new();
        let mut seen = Vec::new();
        for _ in 0..6 {
            let interval = pace.interval(MIB);
            seen.push(interval.as_millis());
            pace.note(0, interval, TURN);
        }
        assert_eq!(seen, [100, 200, 400, 800, 1000, 1000]);
        pace.note(0, BACKSTOP, Duration::from_millis(300));
        assert_eq!(pace.interval(MIB), Duration::from_secs(3));
        assert_eq!(pace.reserve(), 0);
    }

    #[test]
    fn no_steady_writer_gets_past_what_it_may_write() {
        for rate in [1, 20, 500, 5000] {
            let ahead = 16 * MIB;
            let mut pace = Pace::new();
            let mut written = 0;
            let between = Duration::from_millis(20);
            pace.note(rate * MIB / 50, between, TURN);
            while written + pace.reserve() <= ahead {
                let between = pace.interval(ahead - written) + TURN;
                let grown = rate * MIB * u64::try_from(between.as_micros()).unwrap() / 1_000_000;
                written += grown;
                pace.note(grown, between, TURN);
            }
            let late = rate * MIB * 35 / 1000;
            assert!(rate > 400 || written + late <= ahead, "{rate}: {written}");
            assert!(written <= ahead.max(late * 2), "{rate}: {written}");
        }
    }

    #[test]
    fn a_burst_is_remembered_for_a_while() {
        let mut pace = Pace::new();
        pace.note(10 * MIB, Duration::from_millis(100), TURN);
        let reserve = pace.reserve();
        assert_eq!(reserve, 2 * 100 * MIB * 35 / 1000);
        pace.note(0, Duration::from_millis(100), TURN);
        assert!(pace.reserve() > reserve / 2);
        for _ in 0..20 {
            pace.note(0, Duration::from_millis(100), TURN);
        }
        assert!(pace.reserve() < reserve / 100);
    }
}
