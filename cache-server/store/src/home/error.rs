//! What can go wrong in a store.

use std::io;
use std::path::{Path, PathBuf};

use ashlar_model::digest::BlobDigest;

use super::gc::{CollectError, RemoveError};
use super::quota::QuotaFull;

/// A store operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The directory holds another version's store.
    #[error(
        "{} holds a store of format `{found}`, which this version does not know; \
         set ASHLAR_HOME to another directory, or remove this one",
        root.display()
    )]
    Format {
        /// The store's directory.
        root: PathBuf,
        /// Its format line.
        found: String,
    },
    /// A blob's bytes are not what its name says.
    #[error("blob {expected} has the wrong content: its digest is {actual}, its size {size} bytes")]
    WrongContent {
        /// What it should be.
        expected: BlobDigest,
        /// What it is.
        actual: BlobDigest,
        /// How many bytes there are.
        size: u64,
    },
    /// A blob has the wrong length.
    #[error("blob {digest} has {actual} bytes instead of {expected}")]
    WrongSize {
        /// Which blob.
        digest: BlobDigest,
        /// Length by its descriptor.
        expected: u64,
        /// Length of the file.
        actual: u64,
    },
    /// A blob is not there.
    #[error("blob {0} is not in the store")]
    NoBlob(BlobDigest),
    /// The store's quota leaves no room.
    #[error(transparent)]
    Quota(QuotaFull),
    /// Room should have been made, but something could not be removed.
    #[error("cannot make room in the store")]
    Remove(#[from] RemoveError),
}

impl StoreError {
    /// An error of the operating system, with what was tried and where.
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        if let Some(full) = QuotaFull::of_io(&source) {
            return Self::Quota(*full);
        }
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// What to do about it, if there is anything to say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Quota(full) => Some(full.hint()),
            Self::Io { source, .. } => io_hint(source),
            _ => None,
        }
    }
}

/// What to do about an error of the operating system that hinders a store.
pub fn io_hint(error: &io::Error) -> Option<String> {
    if let Some(full) = QuotaFull::of_io(error) {
        return Some(full.hint());
    }
    let hint = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk or your quota is full: free some space, run `ashlar prune`, or set \
             ASHLAR_HOME to a directory on another disk"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "Ashlar keeps its store in $ASHLAR_HOME (or --home), else in ~/.local/share/ashlar: \
             choose a directory that you may write to"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Quota(full) => full.into(),
            error => Self::other(error),
        }
    }
}

impl From<CollectError> for StoreError {
    fn from(error: CollectError) -> Self {
        match error {
            CollectError::Store(error) => error,
            CollectError::Remove(error) => Self::Remove(error),
        }
    }
}
