//! The queue, event by event.

mod bench;
mod builds;
mod chance;
mod check;
mod fleet;
mod journal;
mod leases;
mod listing;
mod placement;
mod retries;
mod shares;
mod submissions;
