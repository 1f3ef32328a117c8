//! Files from elsewhere, as they are written.
//!
//! What is read is understood anew by those who understand Dockerfiles, so that no order can name a
//! source that no Dockerfile could.

use ashlar_model::digest::BlobDigest;
use ashlar_model::remote::{FileTimes, GitCommit, GitSource, HttpFile, HttpSource, RemoteFiles};
use serde::{Deserialize, Serialize};

use super::OrderError;

/// What a source from elsewhere is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum WireRemote {
    Http(WireHttp),
    Git(WireGit),
}

/// A file behind a URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WireHttp {
    url: String,
    checksum: Option<BlobDigest>,
    /// It is a build context.
    is_context: bool,
    digest: BlobDigest,
}

/// A commit of a git repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WireGit {
    remote: String,
    wanted: Option<String>,
    checksum: Option<String>,
    subdirectory: Option<String>,
    keep_git_dir: Option<bool>,
    submodules: bool,
    commit_times: bool,
    fetch_by_commit: bool,
    reference: String,
    object: String,
    commit: String,
}

impl From<&RemoteFiles> for WireRemote {
    fn from(files: &RemoteFiles) -> Self {
        match files {
            RemoteFiles::Http(file) => {
                let HttpFile { source, digest } = file;
                let plain = HttpSource::parse(&source.url);
                let is_context = plain.is_some_and(|plain| plain.file_name() != source.file_name());
                Self::Http(WireHttp {
                    url: source.url.clone(),
                    checksum: source.checksum,
                    is_context,
                    digest: *digest,
                })
            }
            RemoteFiles::Git(found) => {
                // Named one by one, so that a new field cannot be forgotten here.
                let GitCommit {
                    source,
                    reference,
                    object,
                    commit,
                } = found.clone();
                let GitSource {
                    remote,
                    reference: wanted,
                    checksum,
                    subdirectory,
                    keep_git_dir,
                    submodules,
                    times,
                    fetch_by_commit,
                } = source;
                Self::Git(WireGit {
                    remote,
                    wanted,
                    checksum,
                    subdirectory,
                    keep_git_dir,
                    submodules,
                    commit_times: times == FileTimes::Commit,
                    fetch_by_commit,
                    reference,
                    object,
                    commit,
                })
            }
        }
    }
}

impl WireRemote {
    /// What it is, if it is anything.
    pub(super) fn read(&self) -> Result<RemoteFiles, OrderError> {
        match self {
            Self::Http(http) => http.read().map(RemoteFiles::Http),
            Self::Git(git) => git.read().map(RemoteFiles::Git),
        }
    }
}

impl WireHttp {
    fn read(&self) -> Result<HttpFile, OrderError> {
        let source = HttpSource::parse(&self.url);
        let source = source.filter(|_| !has_control_characters(&self.url));
        let source =
            source.ok_or_else(|| OrderError::Wrong("a source's URL is none".to_owned()))?;
        let mut source = match self.is_context {
            true => source.as_context(),
            false => source,
        };
        source.checksum = self.checksum;
        Ok(HttpFile {
            source,
            digest: self.digest,
        })
    }
}

impl WireGit {
    fn read(&self) -> Result<GitCommit, OrderError> {
        let wrong = |what: &str| OrderError::Wrong(format!("a git source's {what} is none"));
        // The same text, understood anew: protocols that git would take for commands are no source.
        let as_text = GitSource::parse(&self.remote).ok().flatten();
        let is_github = |text: &str| {
            let parsed = ashlar_model::remote::RemoteSource::parse_context(text);
            matches!(parsed, Ok(Some(ashlar_model::remote::RemoteSource::Git(_))))
        };
        let is_known = match &as_text {
            Some(source) => source.remote == self.remote,
            // Without `.git` at its end, a repository of a context.
            None => self.remote.strip_prefix("https://").is_some_and(is_github),
        };
        if !is_known || has_control_characters(&self.remote) {
            return Err(wrong("repository"));
        }
        let is_name = |text: &&String| !text.starts_with('-') && !has_control_characters(text);
        if [Some(&self.reference), self.wanted.as_ref()]
            .iter()
            .flatten()
            .any(|text| !is_name(text))
        {
            return Err(wrong("reference"));
        }
        let is_id = |text: &String| {
            !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
        };
        if ![
            Some(&self.object),
            Some(&self.commit),
            self.checksum.as_ref(),
        ]
        .iter()
        .flatten()
        .all(|text| is_id(text))
        {
            return Err(wrong("commit"));
        }
        if let Some(directory) = &self.subdirectory
            && (has_control_characters(directory)
                || directory
                    .split('/')
                    .any(|part| matches!(part, "" | "." | "..")))
        {
            return Err(wrong("directory"));
        }
        Ok(GitCommit {
            source: GitSource {
                remote: self.remote.clone(),
                reference: self.wanted.clone(),
                checksum: self.checksum.clone(),
                subdirectory: self.subdirectory.clone(),
                keep_git_dir: self.keep_git_dir,
                submodules: self.submodules,
                times: match self.commit_times {
                    true => FileTimes::Commit,
                    false => FileTimes::Checkout,
                },
                fetch_by_commit: self.fetch_by_commit,
            },
            reference: self.reference.clone(),
            object: self.object.clone(),
            commit: self.commit.clone(),
        })
    }
}

fn has_control_characters(text: &str) -> bool {
    text.chars().any(char::is_control)
}
