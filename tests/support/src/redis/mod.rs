//! Real Redis servers for tests: one alone, a cluster of three, a master with a replica and three
//! Sentinels.
//!
//! | module | subject |
//! |---|---|
//! | [`server`] | one server: started, killed, stopped, started again |
//! | [`cluster`] | three masters that share the slots, with replicas if so asked |
//! | [`sentinel`] | a master, its replica, and three Sentinels that watch them |
//! | [`client`] | a client of a few lines, which shares nothing with the one under test |
//!
//! They listen on free ports of the loopback interface, and keep what they have in temporary
//! directories. Everything ends with the value that stands for it, also if the test panics.

pub mod client;
pub mod cluster;
pub mod sentinel;
pub mod server;

pub use client::{Client, Reply};
pub use cluster::RedisCluster;
pub use sentinel::RedisSentinels;
pub use server::{RedisServer, free_port};

use std::thread;
use std::time::{Duration, Instant};

/// How long anything of these servers may take until it is so.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something is so.
#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
