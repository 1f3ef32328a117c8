//! Why a step ran: what of its key differs from that of the nearest earlier result.
//!
//! A build that misses anything writes down, when it is over, what entered the keys of its steps
//! ([`BuildRecord`]). A build that finds all that it wants at once in the local store writes
//! nothing: it would say what builds before it have said. [`explain`] compares the last record with those before it.

mod compare;
mod record;

pub use compare::{
    Cause, Change, Difference, EarlierBuild, Explanation, FileChange, FileChangeKind, explain,
};
pub use record::{BuildRecord, NodeRecord, StoredBuild, builds};

#[cfg(test)]
mod tests;
