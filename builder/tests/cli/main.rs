//! The program as its users meet it: exit codes, standard output, standard error.
//!
//! Stores are made by hand through `ashlar_store`, so that no test needs a sandbox or a registry.
#![expect(clippy::unwrap_used, reason = "what cannot be set up fails the test")]

mod environment;
mod help;
mod images;
mod inspect;
mod prune;
mod usage;
