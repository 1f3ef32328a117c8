//! Files that come from elsewhere: a git repository, a URL.
//!
//! | module | subject |
//! |---|---|
//! | [`git`] | `https://host/repository.git#ref:directory`, `git@host:path?tag=v1`, … |
//! | [`http`] | a file behind a URL |
//! | `query` | `?name=value&…` and `%41` |
//!
//! A [`RemoteSource`] is what somebody asked for; [`RemoteFiles`] is what that turned out to be:
//! exactly these files, wherever and whenever they are fetched.

pub mod git;
pub mod http;
mod query;

use std::fmt;

pub use self::git::{FileTimes, GitCommit, GitParseError, GitSource};
pub use self::http::{HttpFile, HttpSource};
use crate::content_hash::{ContentHash, KeyEncoder};

/// Where files are to come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RemoteSource {
    /// A tree of a git repository.
    Git(GitSource),
    /// A file behind a URL.
    Http(HttpSource),
}

impl RemoteSource {
    /// Understands a source of ADD, or a context; `None` if it is a local path. Git comes before
    /// HTTP: a URL whose path ends in `.git` is a repository.
    pub fn parse(text: &str) -> Result<Option<Self>, GitParseError> {
        if let Some(git) = GitSource::parse(text)? {
            return Ok(Some(Self::Git(git)));
        }
        Ok(HttpSource::parse(text).map(Self::Http))
    }

    /// Understands a build context, which may also be written without a scheme:
    /// `github.com/owner/repository`.
    pub fn parse_context(text: &str) -> Result<Option<Self>, GitParseError> {
        if text.starts_with("github.com/") {
            let git = GitSource::of_repository(&format!("https://{text}"))?;
            return Ok(Some(Self::Git(git)));
        }
        Ok(Self::parse(text)?.map(|source| match source {
            Self::Http(http) => Self::Http(http.as_context()),
            git @ Self::Git(_) => git,
        }))
    }
}

impl fmt::Display for RemoteSource {
    /// For people: without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Git(git) => git.fmt(f),
            Self::Http(http) => http.fmt(f),
        }
    }
}

/// What a source is now. The files need not be here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteFiles {
    /// A commit of a git repository.
    Git(GitCommit),
    /// A file by its digest.
    Http(HttpFile),
}

impl ContentHash for RemoteFiles {
    /// The identity of the files: equal ones are the same files, wherever they come from.
    fn encode(&self, encoder: &mut KeyEncoder) {
        match self {
            Self::Git(commit) => commit.encode(encoder),
            Self::Http(file) => file.encode(encoder),
        }
    }
}

/// A URL without the user's name and password, for people.
pub fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        // The user's name of SSH is no secret.
        Some((user, _)) if scheme.eq_ignore_ascii_case("ssh") && !user.contains(':') => {
            url.to_owned()
        }
        Some((_, host)) => format!("{scheme}://xxxxx:xxxxx@{host}{path}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_comes_before_http() {
        let parse = |text| RemoteSource::parse(text).unwrap();
        assert!(matches!(
            parse("https://example.com/a.git"),
            Some(RemoteSource::Git(_))
        ));
        assert!(matches!(
            parse("https://example.com/a.git.tar"),
            Some(RemoteSource::Http(_))
        ));
        assert!(matches!(parse("git@h:a"), Some(RemoteSource::Git(_))));
        for path in [
            "a.git",
            "./a.git",
            "dir/https:",
            "ftp://x/y",
            "github.com/a/b",
        ] {
            assert_eq!(parse(path), None, "{path}");
        }
    }

    #[test]
    fn contexts_of_github_need_no_scheme() {
        let source = RemoteSource::parse_context("github.com/a/b#v1:sub").unwrap();
        let Some(RemoteSource::Git(git)) = source else {
            panic!("{source:?}");
        };
        assert_eq!(git.remote, "https://github.com/a/b");
        assert_eq!(git.reference.as_deref(), Some("v1"));
        assert_eq!(git.subdirectory.as_deref(), Some("sub"));
        let source = RemoteSource::parse_context("http://h/x/y.tar").unwrap();
        let Some(RemoteSource::Http(http)) = source else {
            panic!("{source:?}");
        };
        assert_eq!(http.file_name(), "context");
    }

    #[test]
    fn credentials_are_not_shown() {
        for (url, shown) in [
            ("https://u:p@h/x.git", "https://xxxxx:xxxxx@h/x.git"),
            ("https://token@h/a@b", "https://xxxxx:xxxxx@h/a@b"),
            ("ssh://git@h/x", "ssh://git@h/x"),
            ("ssh://u:p@h/x", "ssh://xxxxx:xxxxx@h/x"),
            ("https://h/a@b", "https://h/a@b"),
            ("git@h:x", "git@h:x"),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
        let source = RemoteSource::parse("https://u:secret@h/x?y")
            .unwrap()
            .unwrap();
        assert!(!source.to_string().contains("secret"));
    }
}
