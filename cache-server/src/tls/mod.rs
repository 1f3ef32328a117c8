//! Connections: TLS, and who is at their other end.
//!
//! ```text
//! listen ──▶ handshake (a task each, timed) ──▶ connection with its peer ──▶ services
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`config`] | certificate, key and authorities from files, and from changed files |
//! | [`authority`] | those who stand for certificates of clients |
//! | [`mod@incoming`] | connections, ready for requests |
//! | [`peer`] | who is at the other end |

pub mod authority;
pub mod config;
pub mod incoming;
pub mod peer;

#[cfg(test)]
mod tests;

pub use config::{Tls, TlsError};
pub use incoming::{Accepted, incoming};
pub use peer::Peer;
