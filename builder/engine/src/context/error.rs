//! What can go wrong with a build context.

use std::io;
use std::path::PathBuf;

use ashlar_model::layer::LayerPath;
use ashlar_model::select::{PatternError, SelectError};

/// Why a context could not be opened, or files of it not selected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// The context's directory cannot be used.
    #[error("cannot open the build context {}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A source is no pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A source names something that is not in the context. (The words are BuildKit's.)
    #[error("\"{path}\": not found")]
    NotFound {
        /// The source as written, cleaned.
        path: LayerPath,
        /// Whether it is there, but left out by the ignore file.
        ignored: bool,
    },
    /// A source cannot be followed to a file.
    #[error(transparent)]
    Select(SelectError<ReadError>),
    /// Something in the context cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why something in a context could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A directory could not be listed.
    #[error("cannot read the directory {}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file's metadata could not be read.
    #[error("cannot look at {}", path.display())]
    Metadata {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file's content could not be read.
    #[error("cannot read the file {}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file was written to whenever it was read.
    #[error("the file {} keeps changing while it is read", path.display())]
    Changing {
        /// Which.
        path: PathBuf,
    },
}

impl ContextError {
    /// What to do about it, if there is anything to say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound {
                path,
                ignored: true,
            } => Some(format!(
                "{path} is in the context, but the .dockerignore file excludes it"
            )),
            Self::Read(error) => error.hint(),
            _ => None,
        }
    }
}

impl ReadError {
    /// What to do about it, if there is anything to say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Directory { source, .. } | Self::Content { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Some("make it readable, or exclude it in the .dockerignore file".into())
            }
            Self::Changing { .. } => {
                Some("stop what writes to it, or exclude it in the .dockerignore file".into())
            }
            _ => None,
        }
    }

    /// Which of several errors to show: the one whose path comes first, so that a build that
    /// fails twice fails alike.
    pub(super) const fn path(&self) -> &PathBuf {
        match self {
            Self::Directory { path, .. }
            | Self::Metadata { path, .. }
            | Self::Content { path, .. }
            | Self::Changing { path } => path,
        }
    }
}
