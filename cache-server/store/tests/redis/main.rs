//! The stores in Redis, over real servers: see `ashlar_test_support::redis`.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "whatever goes wrong is the failure of a test"
)]

mod cluster;
mod conformance;
mod failover;
mod faults;
mod footing;
mod index;
mod leases;
mod queue;
mod results;
mod tls;
