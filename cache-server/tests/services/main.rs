//! The services as clients meet them, over connections in memory.
#![expect(clippy::panic, reason = "a test that goes another way has failed")]

mod action_cache;
mod byte_stream;
mod cas;
mod chunks;
mod command;
mod ext;
mod harness;
mod leases;
mod server;
mod trust;
