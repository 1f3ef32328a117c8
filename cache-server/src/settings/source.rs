//! Where settings come from, so that they can be read again while the server runs.

use std::path::{Path, PathBuf};

use super::env::{Environment, VariableError};
use super::file::{self, FileError};
use super::{Options, Settings, SettingsError};

/// Settings that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file is no good.
    #[error(transparent)]
    File(#[from] FileError),
    /// They do not go together.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

/// A file, and what flags and environment say in its place.
#[derive(Debug, Clone)]
pub struct Source {
    file: Option<PathBuf>,
    above: Options,
}

impl Source {
    /// Flags over environment over file. The environment may name the file, too.
    pub fn new(
        file: Option<PathBuf>,
        flags: Options,
        environment: &Environment,
    ) -> Result<Self, VariableError> {
        Ok(Self {
            file: file.or_else(|| environment.config()),
            above: flags.over(environment.options()?),
        })
    }

    /// The file, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The settings as they are now.
    pub fn read(&self) -> Result<Settings, SourceError> {
        let from_file = self.file.as_deref().map(file::read).transpose()?;
        let options = self.above.clone().over(from_file.unwrap_or_default());
        Ok(Settings::resolve(options)?)
    }
}
