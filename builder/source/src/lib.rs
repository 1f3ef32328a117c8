//! Fetches files from elsewhere into the local store: from URLs, and from git repositories.
//!
//! | module | subject |
//! |---|---|
//! | [`http`] | a file behind a URL: which version it is, and its bytes |
//! | [`git`] | a commit of a repository: which one it is, and its files |
//! | [`secrets`] | what servers are told so that they answer |
//!
//! Both come in two halves. *Resolving* finds out which files are meant, as cheaply as can be, for
//! that is done in every build. *Fetching* brings them here, and is done only when a step that
//! needs them has to run.
//!
//! What was fetched lies below `sources/` of the store and is shared by all processes that use it;
//! one of them fetches while the others wait.
#![forbid(unsafe_code)]

pub mod git;
pub mod http;
mod lock;
pub mod secrets;

pub use git::{GitEnvironment, GitError, GitFetcher, GitTree};
pub use http::{FetchedDirectory, FetchedFile, HttpError, HttpFetcher, HttpSettings};
pub use secrets::{NoSecrets, Secrets};
