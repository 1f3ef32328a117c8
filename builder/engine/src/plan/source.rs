//! Where images and context files come from: what a plan asks of its surroundings.

use std::path::Path;
use std::sync::Arc;

use ashlar_model::config::ImageConfig;
use ashlar_model::digest::{BlobDigest, LayerId};
use ashlar_model::executor::{BoxFuture, StepOutput};
use ashlar_model::platform::Platform;
use ashlar_model::remote::{RemoteFiles, RemoteSource};
use ashlar_model::select::SourceQuery;
use ashlar_model::step::Selection;

use super::options::NamedContext;
use crate::context::{Context, ContextError};

/// An image that a stage stands on. Its layers need not be here yet.
#[derive(Debug, Clone)]
pub struct BaseImage {
    /// How people call it, with its digest: `docker.io/library/debian:12@sha256:…`.
    pub name: String,
    /// Digest of the manifest, or of the configuration for an image that has none yet.
    pub digest: BlobDigest,
    /// Its configuration.
    pub config: ImageConfig,
    /// Its layers, bottom first; the store has a record of each.
    pub layers: Vec<LayerId>,
}

/// An image or context could not be had.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// What failed.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Whose affair it is.
    pub fault: Fault,
    /// The error below.
    #[source]
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Whose affair an error is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// What was asked for is wrong: a missing file, an unknown image.
    Input,
    /// The machine or a server: unreachable, full, forbidden.
    Environment,
}

/// Finds images.
pub trait ImageSource: Send + Sync {
    /// Finds an image for a platform and reads its configuration.
    fn image<'a>(
        &'a self,
        context: &'a NamedContext,
        platform: &'a Platform,
    ) -> BoxFuture<'a, Result<BaseImage, SourceError>>;
}

/// Finds and fetches files from elsewhere: of URLs, and of git repositories.
pub trait RemoteSources: Send + Sync {
    /// Finds out which files a source is now, as cheaply as can be.
    fn resolve<'a>(
        &'a self,
        source: &'a RemoteSource,
    ) -> BoxFuture<'a, Result<RemoteFiles, SourceError>>;

    /// Brings the files here. What is worth saying on the way goes to `output`.
    fn fetch<'a>(
        &'a self,
        files: &'a RemoteFiles,
        output: Option<Arc<dyn StepOutput>>,
    ) -> BoxFuture<'a, Result<Arc<dyn ContextSource>, SourceError>>;
}

/// A directory of files to copy from.
pub trait ContextSource: Send + Sync {
    /// The directory.
    fn root(&self) -> &Path;

    /// When its content was made, in seconds since 1970, if it has one time as a whole: that of a
    /// commit, or what a web server says of an archive. A directory has none.
    fn modified(&self) -> Option<i64> {
        None
    }

    /// The files that sources of copies stand for, hashed: one selection for each source.
    fn select(&self, sources: &[SourceQuery]) -> Result<Vec<Arc<Selection>>, SourceError>;

    /// The source of a copy, cleaned, if the ignore file leaves it out for certain.
    fn left_out(&self, source: &str) -> Option<String> {
        let _ = source;
        None
    }
}

/// A context without files, for those who look at a build that would have one.
pub(super) struct NoFiles;

impl ContextSource for NoFiles {
    fn root(&self) -> &Path {
        Path::new("/")
    }

    fn select(&self, sources: &[SourceQuery]) -> Result<Vec<Arc<Selection>>, SourceError> {
        Ok(sources.iter().map(|_| Arc::default()).collect())
    }
}

impl ContextSource for Context {
    fn root(&self) -> &Path {
        Self::root(self)
    }

    fn select(&self, sources: &[SourceQuery]) -> Result<Vec<Arc<Selection>>, SourceError> {
        match Self::select(self, sources) {
            Ok(selections) => Ok(selections.into_iter().map(Arc::new).collect()),
            Err(error) => Err(error.into()),
        }
    }

    fn left_out(&self, pattern: &str) -> Option<String> {
        Self::left_out(self, pattern)
    }
}

impl From<ContextError> for SourceError {
    fn from(error: ContextError) -> Self {
        Self {
            message: error.to_string(),
            hint: error.hint(),
            fault: Fault::Input,
            cause: None,
        }
        .with_cause_of(error)
    }
}

impl SourceError {
    fn with_cause_of(mut self, error: ContextError) -> Self {
        // The error's own message is ours already; what is below it is the cause.
        if std::error::Error::source(&error).is_some() {
            self.cause = Some(Box::new(error));
        }
        self
    }
}
