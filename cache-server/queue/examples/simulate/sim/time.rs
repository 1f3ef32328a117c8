//! Virtual time, in microseconds.

use std::time::Duration;

/// Microseconds since the start.
pub(crate) type Time = u64;

pub(crate) const MS: Time = 1000;
pub(crate) const SECOND: Time = 1000 * MS;
pub(crate) const MINUTE: Time = 60 * SECOND;

/// As the queue is told: some day in 2027.
pub(crate) fn outside(time: Time) -> Duration {
    Duration::from_secs(1_800_000_000) + Duration::from_micros(time)
}

/// Back again.
pub(crate) fn inside(now: Duration) -> Time {
    let since = now.saturating_sub(Duration::from_secs(1_800_000_000));
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// For people.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn seconds(time: Time) -> f64 {
    time as f64 / 1e6
}
