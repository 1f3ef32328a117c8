//! Servers of a farm as processes, over a real Redis and a real S3 server.
#![expect(clippy::panic, reason = "a test that goes another way has failed")]

mod away;
mod commands;
mod peers;
#[expect(dead_code, reason = "the tests of services use more of it")]
#[path = "../services/queue/farm.rs"]
mod players;
mod queue;
mod server;
mod sharing;
