//! Traces: what builder, server and stores did for one build, as one tree of spans.
//!
//! | module | subject |
//! |---|---|
//! | [`collector`] | where traces are sent |
//! | [`traces`] | collecting spans, and sending them behind everything else |
//! | [`headers`] | the trace that a request belongs to, in its headers |
//!
//! All crates make spans with [`tracing`]; without a subscriber each costs a look at one number.
//! This crate is the only one that knows OpenTelemetry. It stands beside the protocols, for what
//! builder and server have in common here is a header of requests (`traceparent`) and what spans may
//! say.
//!
//! # What spans say
//!
//! Names of operations, keys, digests, namespaces, numbers of bytes, outcomes. Never what comes from a
//! Dockerfile (arguments, values of variables, names of files), from a secret or from a token, and no
//! message of an error. Only spans of our own crates are sent; events, which are for logs, are not.
#![forbid(unsafe_code)]

pub mod collector;
pub mod headers;
mod sender;
pub mod traces;

pub use collector::Collector;
pub use traces::Traces;
