//! The wall clock, passed down as a value so that tests can stop it.

use std::time::{SystemTime, UNIX_EPOCH};

use ashlar_model::layer::Timestamp;

/// Tells the time of day.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// The machine's.
    System,
    /// One that stands still.
    Stopped(Timestamp),
}

impl Clock {
    /// The present.
    pub fn now(self) -> Timestamp {
        match self {
            Self::Stopped(time) => time,
            Self::System => {
                #[expect(clippy::disallowed_methods, reason = "this is the clock")]
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                // A machine whose clock is before 1970 has other troubles than our timestamps.
                let now = now.unwrap_or_default();
                Timestamp {
                    seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
                    nanoseconds: now.subsec_nanos(),
                }
            }
        }
    }
}
