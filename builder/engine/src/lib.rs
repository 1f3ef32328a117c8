//! The build engine: from a Dockerfile's text to a graph of steps, their keys, and their order.
//!
//! It makes no kernel calls beyond reading files, knows no terminal and never reads `$HOME`.
#![forbid(unsafe_code)]

#[cfg(test)]
mod conformance;
pub mod dockerfile;
pub mod driver;
pub mod event;
pub mod explain;
pub mod graph;
pub mod key;
pub mod lint;
pub mod plan;
pub mod schedule;
pub mod segment;
pub mod share;

pub mod context;

pub use ashlar_store::task;
