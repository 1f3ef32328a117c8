//! Why the files of a context did not arrive.

use std::io;
use std::path::PathBuf;

use ashlar_store::fault::Fault;

/// Files could not be sent or fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// A file is not any more what the build's keys were computed from.
    #[error("{} has changed since the build began", .path.display())]
    Changed {
        /// Which.
        path: PathBuf,
    },
    /// A file of the context cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A fetched file cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store refuses, or is not to be reached.
    #[error("cannot {what}")]
    Store {
        /// Completes "cannot …".
        what: &'static str,
        /// What the store says.
        source: Fault,
    },
    /// What a manifest or a listing says cannot be.
    #[error("the files of the context were sent in a form that cannot be: {0}")]
    Malformed(&'static str),
    /// More than is taken from anybody.
    #[error("the context is too large for a farm: {0}")]
    TooLarge(&'static str),
    /// Bytes are not those of the file that the listing names.
    #[error("the file {path} of the context arrived with other contents than it was sent with")]
    Corrupt {
        /// Which, below the context's root.
        path: String,
    },
    /// A thread could not be started, or died.
    #[error("internal error: work on the context's files was broken off")]
    BrokenOff(#[source] Option<Box<dyn std::error::Error + Send + Sync>>),
}

impl ContextError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Changed { .. } => {
                Some("leave the files of the context alone while they are sent, and build again")
            }
            Self::TooLarge(_) => Some("leave out what no step needs, with a .dockerignore"),
            _ => None,
        }
    }

    /// Whether the build's input is at fault, not the farm or this machine.
    pub const fn is_input(&self) -> bool {
        matches!(self, Self::Changed { .. } | Self::TooLarge(_))
    }

    pub(crate) fn broken_off(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::BrokenOff(Some(error.into()))
    }
}
