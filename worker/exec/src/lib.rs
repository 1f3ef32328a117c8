//! Runs the steps of a build on this machine: sandbox, snapshots, layers.
#![forbid(unsafe_code)]

pub mod copy;
pub mod executor;
pub mod layer;
pub mod sandbox;
