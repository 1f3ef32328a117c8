//! The services as clients meet them, over connections in memory.
#![expect(clippy::panic, reason = "a test that goes another way has failed")]

mod action_cache;
mod admin;
mod attacks;
mod byte_stream;
mod cas;
mod chunks;
mod command;
mod ext;
mod fair;
mod harness;
mod leases;
mod namespaces;
mod queue;
mod server;
mod teams;
mod trust;
