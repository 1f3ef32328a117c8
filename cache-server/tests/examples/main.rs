//! What `examples/farm` and `docs/farm.md` say is so: settings and flags exist, ports and probes
//! agree, metrics that are shown and alerted on are there.

mod files;
mod kubernetes;
mod metrics;
mod settings;
