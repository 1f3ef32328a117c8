//! Connections: who is at their other end.

pub mod peer;

pub use peer::Peer;
