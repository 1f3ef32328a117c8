//! How much more work is taken: slots, and what memory and processors say.
//!
//! A decision over numbers; [`pressure`](crate::pressure) reads them.

use crate::pressure::Pressure;

/// Tasks waited for memory in so much of the last ten seconds, in percent: the machine begins to
/// thrash.
const MEMORY_STALLED: f64 = 10.0;
/// The same for processors. They are meant to be busy; more than this, and everything is slow.
const CPU_STALLED: f64 = 80.0;

/// How much more this worker takes now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capacity {
    /// How many more segments.
    pub free: u32,
    /// Whether it stops taking any for good.
    pub is_draining: bool,
    /// Why it takes less than its slots have room for, for people.
    pub why: String,
}

/// What a worker is set to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many segments run at once.
    pub slots: u32,
    /// Memory that is left to others, if any is.
    pub memory_reserve: Option<u64>,
}

/// How much more is taken while so many slots are taken.
pub fn capacity(limits: Limits, taken: u32, is_draining: bool, pressure: &Pressure) -> Capacity {
    if is_draining {
        return Capacity {
            free: 0,
            is_draining,
            why: "it is being stopped".to_owned(),
        };
    }
    let free = limits.slots.saturating_sub(taken);
    let (most, why) = bound(limits, taken, pressure);
    Capacity {
        free: free.min(most),
        is_draining,
        why: if free > most { why } else { String::new() },
    }
}

/// How many more the machine bears, and why not more.
fn bound(limits: Limits, taken: u32, pressure: &Pressure) -> (u32, String) {
    if let (Some(reserve), Some(available)) = (limits.memory_reserve, pressure.available)
        && available < reserve
    {
        let why = format!("{} MB of memory are left", available >> 20);
        return (0, why);
    }
    // Work of ours may be what everybody waits for; where there is none, waiting does not help.
    if taken == 0 {
        return (u32::MAX, String::new());
    }
    if let Some(stalled) = pressure.memory
        && stalled > MEMORY_STALLED
    {
        return (
            0,
            format!("tasks wait for memory {stalled:.0}% of the time"),
        );
    }
    if let Some(stalled) = pressure.cpu
        && stalled > CPU_STALLED
        && taken >= processors()
    {
        let why = format!("tasks wait for a processor {stalled:.0}% of the time");
        return (0, why);
    }
    (u32::MAX, String::new())
}

/// Fewer steps than there are processors cannot be what keeps them busy.
fn processors() -> u32 {
    let number = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        slots: 1000,
        memory_reserve: Some(100 << 20),
    };

    fn free(taken: u32, pressure: Pressure) -> (u32, String) {
        let capacity = capacity(LIMITS, taken, false, &pressure);
        (capacity.free, capacity.why)
    }

    #[test]
    fn an_idle_machine_takes_what_it_has_slots_for() {
        assert_eq!(free(0, Pressure::default()), (1000, String::new()));
        assert_eq!(free(999, Pressure::default()), (1, String::new()));
        assert_eq!(free(2000, Pressure::default()), (0, String::new()));
    }

    #[test]
    fn want_of_memory_stops_it_always_and_stalls_only_while_it_works() {
        let short = Pressure {
            available: Some(50 << 20),
            ..Pressure::default()
        };
        assert_eq!(free(0, short), (0, "50 MB of memory are left".to_owned()));
        let stalled = Pressure {
            memory: Some(30.0),
            available: Some(1 << 30),
            cpu: None,
        };
        assert_eq!(free(0, stalled).0, 1000);
        assert_eq!(free(1, stalled).0, 0);
    }

    #[test]
    fn busy_processors_stop_it_when_its_own_work_may_be_why() {
        let busy = Pressure {
            cpu: Some(95.0),
            ..Pressure::default()
        };
        assert_eq!(free(0, busy).0, 1000);
        let (none, why) = free(processors(), busy);
        assert_eq!(none, 0);
        assert!(why.contains("95%"), "{why}");
    }

    #[test]
    fn one_that_is_being_stopped_takes_nothing() {
        let capacity = capacity(LIMITS, 0, true, &Pressure::default());
        assert_eq!((capacity.free, capacity.is_draining), (0, true));
    }
}
