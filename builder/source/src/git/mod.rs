//! A commit of a git repository.
//!
//! The work is git's own: the program `git` is run, in an environment that holds nothing of the
//! user's or the machine's configuration that would change results. SSH is the exception: the
//! user's keys, agent and known hosts are what lets private repositories be fetched.
//!
//! ```text
//! ref ──ls-remote──▶ commit ──fetch, shallow──▶ sources/git/<remote>/repository
//!                                                   │ read-tree, checkout-index, submodules
//!                                                   ▼
//!                                        sources/tree/<commit and options>/tree
//! ```
//!
//! A whole commit id needs no network when the commit, or its tree, is here.
//!
//! | module | subject |
//! |---|---|
//! | [`environment`] | what git inherits |
//! | `command` | one run of git |
//! | `resolve` | which commit a reference is |
//! | `repository` | what was fetched of a remote |
//! | `checkout` | from a commit to files |
//! | `keep` | a checkout with its `.git` |
//! | `tidy` | modes and times of what was checked out |
//! | `error` | what can go wrong |

mod checkout;
mod command;
pub mod environment;
mod error;
mod keep;
mod repository;
mod resolve;
mod tidy;

use std::path::PathBuf;
use std::sync::Arc;

use ashlar_http::retry::RetryPolicy;
use ashlar_model::executor::StepOutput;
use ashlar_model::layer::Timestamp;
use ashlar_model::remote::{GitCommit, GitSource};
use ashlar_store::home::Home;

pub use self::environment::GitEnvironment;
pub use self::error::GitError;
use crate::secrets::Secrets;

/// Fetches commits of git repositories. Nothing is run before it is needed.
#[derive(Debug, Clone)]
pub struct GitFetcher {
    home: Home,
    environment: Arc<GitEnvironment>,
    secrets: Arc<dyn Secrets>,
    retry: RetryPolicy,
}

/// Files of a commit that are here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitTree {
    /// The directory; not to be changed.
    pub path: PathBuf,
    /// When the commit was made.
    pub time: Option<Timestamp>,
}

impl GitFetcher {
    /// A fetcher into a store.
    pub fn new(
        home: Home,
        environment: GitEnvironment,
        secrets: Arc<dyn Secrets>,
        retry: RetryPolicy,
    ) -> Self {
        Self {
            home,
            environment: Arc::new(environment),
            secrets,
            retry,
        }
    }

    /// Finds out which commit is meant. A whole commit id needs no network.
    pub async fn resolve(&self, source: &GitSource) -> Result<GitCommit, GitError> {
        resolve::resolve(self, source).await
    }

    /// Brings the files of a commit here, unless they are. What git says goes to `output`.
    pub async fn fetch(
        &self,
        commit: &GitCommit,
        output: Option<Arc<dyn StepOutput>>,
    ) -> Result<GitTree, GitError> {
        checkout::checkout(self, commit, output).await
    }
}
