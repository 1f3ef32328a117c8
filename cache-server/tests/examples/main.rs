//! What `examples/farm` and `docs/farm.md` say is so: settings and flags exist, ports and probes
//! agree, metrics that are shown and alerted on are there.

#![allow(clippy::panic, reason = "what a file lacks is a failed test")]

mod files;
mod kubernetes;
mod metrics;
mod settings;
