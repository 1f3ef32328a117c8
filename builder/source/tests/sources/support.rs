//! A store, and fetchers into it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ashlar_http::RetryPolicy;
use ashlar_source::{GitEnvironment, GitFetcher, HttpFetcher, HttpSettings, Secrets};
use ashlar_store::home::Home;
use tempfile::TempDir;

/// Secrets by their ids.
#[derive(Debug, Default)]
pub(crate) struct Known(pub(crate) HashMap<String, String>);

impl Secrets for Known {
    fn secret(&self, id: &str) -> Option<Vec<u8>> {
        self.0.get(id).map(|value| value.as_bytes().to_vec())
    }
}

pub(crate) struct Lab {
    _directory: TempDir,
    pub(crate) home: Home,
    secrets: Arc<Known>,
}

/// Short waits.
const RETRY: RetryPolicy = RetryPolicy {
    attempts: 3,
    first_delay: Duration::from_millis(1),
    longest_delay: Duration::from_millis(5),
};

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with_secrets(&[])
    }

    pub(crate) fn with_secrets(secrets: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let pairs = secrets
            .iter()
            .map(|(id, value)| ((*id).to_owned(), (*value).to_owned()));
        Self {
            _directory: directory,
            home,
            secrets: Arc::new(Known(pairs.collect())),
        }
    }

    pub(crate) fn http(&self) -> HttpFetcher {
        let settings = HttpSettings {
            retry: RETRY,
            idle_timeout: Duration::from_secs(20),
            ..HttpSettings::default()
        };
        HttpFetcher::new(self.home.clone(), settings, self.secrets.clone())
    }

    pub(crate) fn git(&self) -> GitFetcher {
        self.git_in("/usr/local/bin:/usr/bin:/bin")
    }

    /// With this `PATH`.
    pub(crate) fn git_in(&self, path: &str) -> GitFetcher {
        let environment = GitEnvironment::from_lookup(|name| (name == "PATH").then(|| path.into()));
        GitFetcher::new(self.home.clone(), environment, self.secrets.clone(), RETRY)
    }
}
