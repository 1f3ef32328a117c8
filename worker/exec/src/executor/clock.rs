//! The present, for times that are part of a result.

use ashlar_model::layer::Timestamp;

/// Now, in whole seconds: layers keep no more.
pub(super) fn now() -> Timestamp {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    Timestamp {
        seconds: time.tv_sec,
        nanoseconds: 0,
    }
}
