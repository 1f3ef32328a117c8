//! Who is at the other end of a connection. Every request carries it.

use std::sync::Arc;

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where it is: an address and a port, or `unix` and the number of a user.
    pub address: Arc<str>,
}

impl Peer {
    /// A client at an address.
    pub fn at(address: impl Into<Arc<str>>) -> Self {
        Self {
            address: address.into(),
        }
    }
}
