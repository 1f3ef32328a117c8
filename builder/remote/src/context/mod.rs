//! Files of a build's context on their way to workers.
//!
//! What a copy takes of a directory is a [`Selection`](ashlar_model::step::Selection): entries, and
//! the digests of the files. It travels as blobs of a content-addressed store (CAS):
//!
//! ```text
//! manifest   the digests of the other two, in order (a postcard of `manifest::Manifest`)
//! listing    the selection as a postcard, cut in chunks at places that its content gives
//! contents   what the files contain, each content once, in the order of the entries:
//!            small files many to a blob (a *bundle*), large ones a blob each, giant ones in chunks
//! ```
//!
//! Which files are in one bundle follows from their digests and sizes alone: a file that changes
//! changes its own bundle, seldom one more, and no other. What the bundles of unchanged files are is
//! remembered ([`Hints`]), so that nothing need be read to know that a farm has them.
//!
//! Nobody's word is taken: who sends checks that the files still are what was hashed, and who
//! fetches checks the listing, and each file against the digest that the listing gives, which the
//! step's key was computed from.
//!
//! | module | subject |
//! |---|---|
//! | `contents` | what the files of a selection contain, each content once |
//! | `group` | which contents go into one blob |
//! | `manifest` | manifest and listing as bytes |
//! | `check` | what no honest listing says |
//! | [`hints`] | blobs of files that have not changed |
//! | `read` | files into blobs |
//! | `send`, `fetch` | to a store, and from there |
//! | `place` | where fetched files go |
//! | [`error`] | what can go wrong |

mod check;
mod contents;
pub mod error;
mod fetch;
mod group;
pub mod hints;
mod manifest;
mod place;
mod read;
mod send;

#[cfg(test)]
mod tests;

use ashlar_model::cas::CasDigest;
use serde::{Deserialize, Serialize};

pub use error::ContextError;
pub use fetch::{Fetched, Listing, fetch, list};
pub use hints::Hints;
pub use send::{Sent, send};

/// Names the files of one selection in a CAS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContextRef {
    /// Its manifest.
    pub manifest: CasDigest,
}

/// What is taken from others at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a manifest.
    pub manifest: u64,
    /// Bytes of a listing. An entry has 60 to 200.
    pub listing: u64,
    /// Bytes of all files.
    pub contents: u64,
}

impl Default for Limits {
    /// Half a million files, as large as they like to be.
    fn default() -> Self {
        Self {
            manifest: 32 << 20,
            listing: 64 << 20,
            contents: 1 << 40,
        }
    }
}
