//! Deleting directories whose files may belong to others.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Removes trees that have files of subordinate ids, which only the sandbox can.
pub trait TreeRemover: Send + Sync {
    /// Removes these directories with all that is in them. One that is gone already is no error.
    fn remove(&self, paths: &[PathBuf]) -> Result<(), Box<dyn Error + Send + Sync>>;
}

impl fmt::Debug for dyn TreeRemover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TreeRemover")
    }
}

/// Something cannot be deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// The operating system refused.
    #[error("cannot remove {}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The sandbox could not do it either.
    #[error("cannot remove {} with files of subordinate ids", count(paths.len()))]
    Trees {
        /// Which.
        paths: Vec<PathBuf>,
        /// Why not.
        source: Box<dyn Error + Send + Sync>,
    },
}

fn count(directories: usize) -> String {
    match directories {
        1 => "a directory".to_owned(),
        many => format!("{many} directories"),
    }
}

/// Deletes what it can at once, and leaves the rest to a [`TreeRemover`] in one call.
pub(super) struct Removal<'a> {
    remover: &'a dyn TreeRemover,
    forbidden: Vec<PathBuf>,
}

impl<'a> Removal<'a> {
    pub(super) const fn new(remover: &'a dyn TreeRemover) -> Self {
        Self {
            remover,
            forbidden: Vec::new(),
        }
    }

    /// Deletes a file or a directory with all that is in it.
    pub(super) fn remove(&mut self, path: &Path) -> Result<(), RemoveError> {
        let result = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                self.forbidden.push(path.to_owned());
                Ok(())
            }
            Err(source) => Err(RemoveError::Io {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Lets the remover delete what could not be deleted directly.
    pub(super) fn finish(&mut self) -> Result<(), RemoveError> {
        if self.forbidden.is_empty() {
            return Ok(());
        }
        let paths = std::mem::take(&mut self.forbidden);
        self.remover
            .remove(&paths)
            .map_err(|source| RemoveError::Trees { paths, source })
    }
}
