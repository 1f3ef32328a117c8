//! What things are called.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// An operation, for as long as it is remembered. Chosen at random by whoever submits, so that two
/// servers never choose the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OperationId(pub u128);

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for OperationId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

/// Someone who waits for an operation: a stream of Execute or WaitExecution. Chosen by the caller,
/// never twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(pub u64);

/// A stream of a build's client. Chosen by the caller, never twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A stream of a worker. Chosen by the caller, never twice: a worker that comes again has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A build, as its client calls it. Clients choose the name, so it counts within their namespace
/// and for their user only: nobody can join another's build, or cancel it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BuildKey {
    /// The instance name.
    pub namespace: Arc<str>,
    /// Who asks.
    pub user: Arc<str>,
    /// `Placement.build`, or the tool invocation id. If it is empty, each operation is a build of
    /// its own.
    pub build: Arc<str>,
}

/// An action: what its digest is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Action {
    /// The digest function, by its number on the wire.
    pub function: i32,
    /// The digest's hash.
    pub hash: Arc<str>,
    /// The digest's size.
    pub size: i64,
}

/// An operation that was given to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Assignment {
    /// What was given.
    pub operation: OperationId,
    /// Grows with each grant of the whole farm, also over restarts. What comes under an older one
    /// is refused.
    pub fencing: u64,
}
