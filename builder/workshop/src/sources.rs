//! Files from elsewhere: between the engine and those who fetch.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_engine::context::Context;
use ashlar_engine::plan::source::Fault;
use ashlar_engine::plan::{ContextSource, RemoteSources, SourceError};
use ashlar_http::environment::HttpEnvironment;
use ashlar_http::retry::RetryPolicy;
use ashlar_model::executor::{BoxFuture, StepOutput};
use ashlar_model::layer::Timestamp;
use ashlar_model::remote::{HttpFile, RemoteFiles, RemoteSource};
use ashlar_model::select::{PathRules, SourceQuery};
use ashlar_model::step::Selection;
use ashlar_source::{
    FetchedFile, GitEnvironment, GitError, GitFetcher, HttpError, HttpFetcher, HttpSettings,
    Secrets,
};
use ashlar_store::home::Home;
use ashlar_store::home::quota::Meter;

use crate::variables::Variables;

/// Those who fetch. Nothing is started before it is needed.
#[derive(Debug, Clone)]
pub struct Sources {
    home: Home,
    http: HttpFetcher,
    git: GitFetcher,
}

impl Sources {
    /// Fetchers into a store.
    pub fn new(home: Home, variables: &Variables, secrets: Arc<dyn Secrets>) -> Self {
        let lookup = |name: &str| variables.get(name);
        let http = HttpSettings {
            environment: HttpEnvironment::from_lookup(lookup),
            ..HttpSettings::default()
        };
        Self {
            http: HttpFetcher::new(home.clone(), http, Arc::clone(&secrets)),
            git: GitFetcher::new(
                home.clone(),
                GitEnvironment::from_lookup(lookup),
                secrets,
                RetryPolicy::default(),
            ),
            home,
        }
    }

    /// The local store.
    pub const fn home(&self) -> &Home {
        &self.home
    }

    /// Brings a file here as a blob of the store.
    pub async fn file(&self, file: &HttpFile) -> Result<FetchedFile, SourceError> {
        self.http.fetch(file).await.map_err(of_http)
    }

    /// Brings files here. Returns their directory, and the time that stands for all of them.
    pub async fn directory(
        &self,
        files: &RemoteFiles,
        output: Option<Arc<dyn StepOutput>>,
    ) -> Result<(PathBuf, Option<Timestamp>), SourceError> {
        match files {
            RemoteFiles::Git(commit) => {
                let tree = self.git.fetch(commit, output).await.map_err(of_git)?;
                Ok((tree.path, tree.time))
            }
            RemoteFiles::Http(file) => {
                let fetched = self.http.fetch_directory(file).await.map_err(of_http)?;
                Ok((fetched.path, fetched.modified))
            }
        }
    }
}

impl RemoteSources for Sources {
    fn resolve<'a>(
        &'a self,
        source: &'a RemoteSource,
    ) -> BoxFuture<'a, Result<RemoteFiles, SourceError>> {
        Box::pin(async move {
            match source {
                RemoteSource::Git(source) => self
                    .git
                    .resolve(source)
                    .await
                    .map(RemoteFiles::Git)
                    .map_err(of_git),
                RemoteSource::Http(source) => self
                    .http
                    .resolve(source)
                    .await
                    .map(RemoteFiles::Http)
                    .map_err(of_http),
            }
        })
    }

    fn fetch<'a>(
        &'a self,
        files: &'a RemoteFiles,
        output: Option<Arc<dyn StepOutput>>,
    ) -> BoxFuture<'a, Result<Arc<dyn ContextSource>, SourceError>> {
        Box::pin(async move {
            let (path, time) = self.directory(files, output).await?;
            // No ignore file has a say in what comes from elsewhere, as in BuildKit.
            let cache = Some(stat_cache(&self.home, &path));
            let context = Context::open(&path, PathRules::default(), cache)?;
            let opened = OpenContext {
                context,
                modified: time.map(|time| time.seconds),
                meter: self.home.meter(),
            };
            Ok(Arc::new(opened) as Arc<dyn ContextSource>)
        })
    }
}

/// A directory of files, and the time that stands for all of them, if they have one.
#[derive(Debug)]
pub struct OpenContext {
    /// The files.
    pub context: Context,
    /// Seconds since 1970.
    pub modified: Option<i64>,
    /// What is asked before anything is written to the store.
    pub meter: Meter,
}

impl ContextSource for OpenContext {
    fn root(&self) -> &Path {
        self.context.root()
    }

    fn modified(&self) -> Option<i64> {
        self.modified
    }

    fn select(&self, sources: &[SourceQuery]) -> Result<Vec<Arc<Selection>>, SourceError> {
        let selected = ContextSource::select(&self.context, sources);
        // Only speed is lost if the cache cannot be written.
        drop(self.context.save_stat_cache(&self.meter));
        selected
    }

    fn left_out(&self, source: &str) -> Option<String> {
        self.context.left_out(source)
    }
}

/// Where the digests of a context's files are remembered: one file for each directory.
pub fn stat_cache(home: &Home, directory: &Path) -> PathBuf {
    home.hints().join(format!("context-{}", name_of(directory)))
}

/// Where it is remembered in which form a farm has a context's files: one file for each directory.
pub fn bundle_hints(home: &Home, directory: &Path) -> PathBuf {
    home.hints().join(format!("bundles-{}", name_of(directory)))
}

fn name_of(directory: &Path) -> String {
    let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let name = blake3::hash(directory.as_os_str().as_encoded_bytes()).to_hex();
    name[..32].to_owned()
}

const fn fault(is_input: bool) -> Fault {
    if is_input {
        Fault::Input
    } else {
        Fault::Environment
    }
}

fn of_http(error: HttpError) -> SourceError {
    SourceError {
        message: error.to_string(),
        hint: error.hint(),
        fault: fault(error.is_input()),
        cause: std::error::Error::source(&error)
            .is_some()
            .then(|| Box::new(error).into()),
    }
}

fn of_git(error: GitError) -> SourceError {
    SourceError {
        message: error.to_string(),
        hint: error.hint(),
        fault: fault(error.is_input()),
        cause: std::error::Error::source(&error)
            .is_some()
            .then(|| Box::new(error).into()),
    }
}
