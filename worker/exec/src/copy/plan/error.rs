//! What can go wrong when a copy is planned.

use ashlar_model::chmod::ModeError;
use ashlar_model::layer::{LayerPath, LayerPathError};
use ashlar_model::select::ResolveError;

use super::super::owner::OwnerError;
use super::super::view::ViewError;

/// Why files cannot be copied, or a directory cannot be made. All but the last two are the
/// Dockerfile's affair.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// A file would replace a directory. (The words are BuildKit's.)
    #[error("cannot replace to directory {path} with file")]
    FileOntoDirectory {
        /// The directory.
        path: LayerPath,
    },
    /// A directory would go where something else is. (The words are BuildKit's.)
    #[error("cannot copy to non-directory: {path}")]
    DirectoryOntoFile {
        /// What is there.
        path: LayerPath,
    },
    /// The way to the destination leads through something that is no directory.
    #[error("mkdir {path}: not a directory")]
    NotADirectory {
        /// What is in the way.
        path: LayerPath,
    },
    /// The destination, or a path below it, cannot be one.
    #[error("the destination cannot be a path")]
    Path(#[from] LayerPathError),
    /// `--chmod` is malformed.
    #[error(transparent)]
    Mode(#[from] ModeError),
    /// `--chown` names nobody.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// The destination path cannot be followed.
    #[error("cannot follow the destination path")]
    Resolve(#[from] ResolveError<ViewError>),
    /// A filesystem cannot be looked into.
    #[error(transparent)]
    View(#[from] ViewError),
}

impl CopyError {
    /// What to do about it, if there is anything to say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::FileOntoDirectory { path } => Some(format!(
                "{path} is a directory already; end the destination with another name"
            )),
            Self::DirectoryOntoFile { path } => Some(format!(
                "{path} is there already and is no directory; a directory's contents can only go \
                 into a directory"
            )),
            Self::NotADirectory { path } => {
                Some(format!("{path} is there already and is no directory"))
            }
            Self::Owner(error) => error.hint(),
            Self::Mode(error) => Some(error.hint().to_owned()),
            _ => None,
        }
    }
}
