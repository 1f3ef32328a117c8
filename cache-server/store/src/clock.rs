//! The time of day, passed in wherever it is needed, so that tests can set it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// The machine's own clock.
pub fn system() -> Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the clock that programs pass to stores"
    )]
    Arc::new(SystemTime::now)
}

/// Whole seconds since 1970, as stores note times of use: they end in 2106.
pub(crate) fn seconds(clock: &Clock) -> u32 {
    let since = clock().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}
