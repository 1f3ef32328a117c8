//! What can go wrong with a repository.

use std::io;
use std::path::PathBuf;

use ashlar_model::remote::GitParseError;
use ashlar_store::home::StoreError;

/// A commit could not be fetched. [`hint`](Self::hint) says what to do about it. URLs are without
/// credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GitError {
    /// There is no git.
    #[error("failed to find git binary: the program `git` is not in PATH")]
    Missing,
    /// Git could not be run.
    #[error("cannot run git")]
    Spawn(#[source] io::Error),
    /// Git ended with an error.
    #[error("git {command} failed: {messages}")]
    Failed {
        /// The subcommand.
        command: String,
        /// What git said.
        messages: String,
    },
    /// The remote cannot be read.
    #[error("failed to fetch remote {remote}")]
    Remote {
        /// The repository.
        remote: String,
        /// What git said.
        source: Box<Self>,
    },
    /// The source contradicts itself.
    #[error(transparent)]
    Source(#[from] GitParseError),
    /// The repository has no default branch.
    #[error("could not find default branch for repository: {remote}")]
    NoDefaultBranch {
        /// The repository.
        remote: String,
    },
    /// The repository has no such reference.
    #[error("repository {remote} does not contain ref {reference}")]
    NoReference {
        /// The repository.
        remote: String,
        /// What was asked for.
        reference: String,
    },
    /// The repository has no such commit.
    #[error("repository {remote} does not contain commit {commit}")]
    NoCommit {
        /// The repository.
        remote: String,
        /// What was asked for.
        commit: String,
    },
    /// The commit is another one.
    #[error("expected checksum to match {expected}, got {actual}")]
    Checksum {
        /// What the id must begin with.
        expected: String,
        /// What it is.
        actual: String,
    },
    /// The commit has no such directory.
    #[error("failed to open subdir {directory} of {what}: {problem}")]
    Subdirectory {
        /// The directory.
        directory: String,
        /// The repository and reference.
        what: String,
        /// What is there instead.
        problem: String,
    },
    /// What git made cannot be read or changed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The local store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The work was called off.
    #[error("the fetching of a git repository was called off")]
    Cancelled,
}

impl GitError {
    /// What git said, in lower case.
    pub(super) fn said(&self) -> String {
        match self {
            Self::Failed { messages, .. } => messages.to_lowercase(),
            Self::Remote { source, .. } => source.said(),
            _ => String::new(),
        }
    }

    /// Whether the server refused this way of asking, and another may do.
    pub(super) fn is_refusal(&self) -> bool {
        let said = self.said();
        [
            "not our ref",
            "unadvertised object",
            "shallow",
            "--depth",
            "couldn't find remote ref",
            "no such ref",
            "unable to find",
            "does not support",
        ]
        .iter()
        .any(|words| said.contains(words))
    }

    /// Whether the same may succeed later.
    pub(super) fn is_transient(&self) -> bool {
        let said = self.said();
        [
            "could not resolve host",
            "connection reset",
            "connection refused",
            "connection timed out",
            "timed out",
            "early eof",
            "hung up unexpectedly",
            "rpc failed",
            "requested url returned error: 429",
            "requested url returned error: 5",
        ]
        .iter()
        .any(|words| said.contains(words))
            && !self.wants_login()
    }

    fn wants_login(&self) -> bool {
        let said = self.said();
        [
            "could not read username",
            "could not read password",
            "authentication failed",
            "permission denied",
            "requested url returned error: 401",
            "requested url returned error: 403",
        ]
        .iter()
        .any(|words| said.contains(words))
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing => Some("install git: sources from git repositories need it".to_owned()),
            Self::Failed { .. } | Self::Remote { .. } if self.wants_login() => Some(
                "a private repository needs a login, and one that does not exist looks the same: \
                 give a token with --secret id=GIT_AUTH_TOKEN,src=FILE, or use SSH \
                 (git@host:path) with a key that your agent has"
                    .to_owned(),
            ),
            Self::Failed { .. } | Self::Remote { .. } if self.said().contains("host key") => Some(
                "compare the host's key, and correct ~/.ssh/known_hosts if it has changed rightly"
                    .to_owned(),
            ),
            Self::Remote { .. } => {
                Some("check the URL, the network, and the proxy variables".to_owned())
            }
            Self::NoReference { reference, .. }
                if reference.len() < 40
                    && reference.len() >= 4
                    && reference.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
            {
                Some("if it is a commit, write all 40 digits of its id".to_owned())
            }
            Self::NoReference { .. } => {
                Some("name a branch, a tag, or a whole commit id".to_owned())
            }
            Self::Store(source) => source.hint(),
            _ => None,
        }
    }

    /// Whether what was asked for is wrong, and not the machine or a server.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Source(_)
            | Self::NoDefaultBranch { .. }
            | Self::NoReference { .. }
            | Self::NoCommit { .. }
            | Self::Checksum { .. }
            | Self::Subdirectory { .. } => true,
            Self::Failed { .. } | Self::Remote { .. } => {
                let said = self.said();
                said.contains("not found") || said.contains("does not exist")
            }
            _ => false,
        }
    }
}
