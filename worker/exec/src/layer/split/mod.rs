//! Split layers, version 1: how a cache keeps the tar of a layer.
//!
//! ```text
//!            split                                        assemble, receive
//!   tar ─────────────▶ headers ─▶ chunks of about  32 KiB ─────────────────▶ tar
//!                └───▶ contents ─▶ chunks of about 128 KiB ───┘
//! ```
//!
//! Headers change with every build, since times are in them; contents do not. So each has chunks of
//! its own, cut where the bytes themselves say (FastCDC), and a layer whose files were written anew
//! shares nearly all chunks of contents with the one before.
//!
//! `docs/formats.md` has the format. Any bytes at all can be split and come back as they were: what
//! is no tar counts as headers.
//!
//! | module | subject |
//! |---|---|
//! | `frames` | how headers say where contents belong |
//! | `walk` | which bytes of a tar are contents |
//! | `cut` | streams into chunks |
//! | `splitter` | a tar into chunks |
//! | `assemble` | chunks into a tar |
//! | `receive` | chunks into the tar of a layer of the store |

mod assemble;
mod cut;
mod frames;
mod receive;
mod splitter;
mod walk;

use std::io;

use ashlar_model::cas::CasDigest;
use bytes::Bytes;

pub use assemble::{AssembleError, assemble};
pub use receive::{Beside, ReceiveError, WrongLayer, receive};
pub use splitter::{SplitError, SplitLayer, split};

/// One of the two streams that a tar is split into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// All that is no content of a file, and where contents belong.
    Headers,
    /// The bytes of regular files, one after the other.
    Contents,
}

/// A chunk of a split layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Which stream it is of.
    pub part: Part,
    /// Its digest.
    pub digest: CasDigest,
    /// Its bytes.
    pub bytes: Bytes,
}

/// Gives the chunks of a split layer.
///
/// Which part is asked for next only the headers tell, so each should be fetched ahead on its own:
/// whoever waits for one part until the other moves waits for ever.
pub trait ChunkSource {
    /// The next chunk of a part, in order; `None` after its last. May block.
    fn next(&mut self, part: Part) -> io::Result<Option<Bytes>>;
}

#[cfg(test)]
mod tests;
