//! A tree of a git repository, in the forms that BuildKit knows.
//!
//! ```text
//! https://host/path.git[?query][#ref[:directory]]     http:// as well; the path ends in .git
//! git://host/path       ssh://[user@]host/path        any path
//! user@host:path                                      SSH, as scp writes it
//! ```
//!
//! Keys of the query: `ref`, `tag`, `branch`, `subdir`, `checksum` (or `commit`), `keep-git-dir`,
//! `submodules`, `mtime`, `fetch-by-commit`. Source: BuildKit's `dfgitutil/git_ref.go` and
//! `gitutil/git_url.go`.

use std::fmt;

use super::query::{boolean, pairs, percent_decoded};
use super::without_credentials;
use crate::content_hash::{ContentHash, KeyEncoder};

/// A tree of a git repository, as somebody asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GitSource {
    /// The repository, as git takes it; may hold credentials.
    pub remote: String,
    /// Branch, tag, other reference or whole commit id; the default branch if there is none.
    pub reference: Option<String>,
    /// What the commit's id must begin with.
    pub checksum: Option<String>,
    /// Directory of the repository whose content is meant, cleaned, without slashes at its ends.
    pub subdirectory: Option<String>,
    /// Whether `.git` stays, if somebody said so.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are fetched too.
    pub submodules: bool,
    /// Modification times of the files.
    pub times: FileTimes,
    /// Whether the server is asked for the commit by its id, and never for the reference.
    pub fetch_by_commit: bool,
}

/// Modification times of the files of a checkout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FileTimes {
    /// When they were checked out.
    #[default]
    Checkout,
    /// When the commit was made.
    Commit,
}

/// A text that means a git repository and is wrong. Words as BuildKit's, where it has any.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GitParseError {
    /// A name of the query has no value.
    #[error("query {0:?} has no value")]
    NoValue(String),
    /// A name of the query is given twice.
    #[error("query {0:?} has multiple values")]
    Twice(String),
    /// Nobody knows this name.
    #[error("unexpected query {0:?}")]
    Unknown(String),
    /// A value is none of those that may be.
    #[error("invalid {name} value: {value:?}")]
    Value {
        /// Name of the query.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// Two places name different references.
    #[error("ref conflicts: {0:?} vs {1:?}")]
    RefConflict(String, String),
    /// Two places name different directories.
    #[error("subdir conflicts: {0:?} vs {1:?}")]
    SubdirectoryConflict(String, String),
    /// Branch and tag at once.
    #[error("branch conflicts with tag")]
    BranchAndTag,
    /// A reference that git would take for an option.
    #[error("invalid git ref {0:?}")]
    Reference(String),
    /// A checksum that no commit id can begin with.
    #[error("invalid checksum {0} for Git URL, expected hex commit hash")]
    Checksum(String),
    /// `fetch-by-commit` without a commit.
    #[error("fetch-by-commit requires a full commit SHA checksum, got {0:?}")]
    NoCommit(String),
    /// An escape such as `%zz`.
    #[error("invalid escape in git URL {0:?}")]
    Escape(String),
}

/// A repository's URL, taken apart.
struct Parts<'a> {
    remote: &'a str,
    query: &'a str,
    fragment: String,
}

impl GitSource {
    /// Understands a git URL; `None` if the text is something else.
    pub fn parse(text: &str) -> Result<Option<Self>, GitParseError> {
        if text.starts_with("./") || text.starts_with("../") {
            return Ok(None);
        }
        let is_git = match scheme_of(text) {
            Some("git" | "ssh") => true,
            Some("http" | "https") => {
                let path = split(text).0;
                let path = path.split_once("://").map_or("", |(_, rest)| rest);
                let path = path.split_once('/').map_or("", |(_, path)| path);
                percent_decoded(path).is_some_and(|path| path.ends_with(".git"))
            }
            Some(_) => false,
            None => is_scp_style(text),
        };
        if is_git {
            Self::of_repository(text).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Takes a text for a repository, whatever its path ends in.
    pub(super) fn of_repository(text: &str) -> Result<Self, GitParseError> {
        let (remote, query, fragment) = split(text);
        let escape = || GitParseError::Escape(without_credentials(text));
        let parts = Parts {
            remote,
            query,
            // What scp writes is no URL, and has no escapes.
            fragment: if scheme_of(text).is_some() {
                percent_decoded(fragment).ok_or_else(escape)?
            } else {
                fragment.to_owned()
            },
        };
        let mut source = Self {
            remote: parts.remote.to_owned(),
            reference: None,
            checksum: None,
            subdirectory: None,
            keep_git_dir: None,
            submodules: true,
            times: FileTimes::default(),
            fetch_by_commit: false,
        };
        let (reference, directory) = parts
            .fragment
            .split_once(':')
            .unwrap_or((&parts.fragment, ""));
        source.reference = Some(reference.to_owned()).filter(|text| !text.is_empty());
        let mut directory = Some(directory.to_owned()).filter(|text| !text.is_empty());
        source.read_query(&pairs(parts.query).ok_or_else(escape)?, &mut directory)?;
        source.subdirectory = directory.and_then(|text| cleaned(&text));
        source.check()?;
        Ok(source)
    }

    fn read_query(
        &mut self,
        pairs: &[(String, String)],
        directory: &mut Option<String>,
    ) -> Result<(), GitParseError> {
        let (mut tag, mut branch) = (None, None);
        for (index, (name, value)) in pairs.iter().enumerate() {
            if pairs[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(GitParseError::Twice(name.clone()));
            }
            let is_flag = matches!(
                name.as_str(),
                "submodules" | "keep-git-dir" | "fetch-by-commit"
            );
            if value.is_empty() && !is_flag {
                return Err(GitParseError::NoValue(name.clone()));
            }
            match name.as_str() {
                "ref" => self.take_reference(value)?,
                "tag" => tag = Some(qualified("refs/tags/", value)),
                "branch" => branch = Some(qualified("refs/heads/", value)),
                "subdir" => match directory {
                    Some(other) if other != value => {
                        let (other, value) = (other.clone(), value.clone());
                        return Err(GitParseError::SubdirectoryConflict(other, value));
                    }
                    _ => *directory = Some(value.clone()),
                },
                "checksum" | "commit" => match &self.checksum {
                    Some(other) if other != value => {
                        return Err(GitParseError::Twice(name.clone()));
                    }
                    _ => self.checksum = Some(value.clone()),
                },
                "keep-git-dir" => self.keep_git_dir = Some(flag("keep-git-dir", value)?),
                "submodules" => self.submodules = flag("submodules", value)?,
                "fetch-by-commit" => self.fetch_by_commit = flag("fetch-by-commit", value)?,
                "mtime" => {
                    self.times = match value.as_str() {
                        "checkout" => FileTimes::Checkout,
                        "commit" => FileTimes::Commit,
                        _ => {
                            return Err(GitParseError::Value {
                                name: "mtime",
                                value: value.clone(),
                            });
                        }
                    };
                }
                _ => return Err(GitParseError::Unknown(name.clone())),
            }
        }
        if tag.is_some() && branch.is_some() {
            return Err(GitParseError::BranchAndTag);
        }
        if let Some(reference) = tag.or(branch) {
            self.take_reference(&reference)?;
        }
        Ok(())
    }

    fn take_reference(&mut self, wanted: &str) -> Result<(), GitParseError> {
        match &self.reference {
            Some(other) if other != wanted => {
                let (other, wanted) = (other.clone(), wanted.to_owned());
                Err(GitParseError::RefConflict(other, wanted))
            }
            _ => {
                self.reference = Some(wanted.to_owned());
                Ok(())
            }
        }
    }

    /// Checks what hangs together, and lets the checksum stand for a reference that is not there.
    fn check(&mut self) -> Result<(), GitParseError> {
        if let Some(checksum) = &self.checksum {
            if !checksum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(GitParseError::Checksum(checksum.clone()));
            }
            if self.reference.is_none() {
                self.reference = Some(checksum.clone());
            }
        }
        match &self.reference {
            Some(reference) if reference.starts_with('-') => {
                Err(GitParseError::Reference(reference.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Demands that the commit's id begins with these digits.
    pub fn set_checksum(&mut self, checksum: &str) -> Result<(), GitParseError> {
        self.checksum = Some(checksum.to_owned());
        let reference = self.reference.clone();
        self.check()?;
        // Said beside the URL it only checks; it chooses nothing.
        self.reference = reference;
        Ok(())
    }

    /// Checks that a commit is named whole where it must be. Not part of understanding the URL:
    /// the checksum may come from beside it.
    pub fn check_commit(&self) -> Result<(), GitParseError> {
        if self.fetch_by_commit && self.commit_id().is_none() {
            let given = self.checksum.clone().unwrap_or_default();
            return Err(GitParseError::NoCommit(given));
        }
        Ok(())
    }

    /// The commit, where its whole id is given and so nobody needs to be asked for it.
    pub fn commit_id(&self) -> Option<&str> {
        let whole = |text: &&str| is_commit_id(text);
        let by_checksum = self.checksum.as_deref().filter(|_| self.fetch_by_commit);
        by_checksum
            .filter(whole)
            .or_else(|| self.reference.as_deref().filter(whole))
    }

    /// Whether the checkout has a `.git`. One of a subdirectory has none, as in BuildKit.
    pub fn keeps_git_dir(&self) -> bool {
        self.keep_git_dir.unwrap_or(false) && self.subdirectory.is_none()
    }
}

impl fmt::Display for GitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_credentials(&self.remote))?;
        if let Some(reference) = &self.reference {
            write!(f, "#{reference}")?;
        }
        match (&self.reference, &self.subdirectory) {
            (Some(_), Some(directory)) => write!(f, ":{directory}"),
            (None, Some(directory)) => write!(f, "#:{directory}"),
            (_, None) => Ok(()),
        }
    }
}

/// The scheme of a URL, in lower case as it should be; `None` if there is no `://`.
fn scheme_of(text: &str) -> Option<&'static str> {
    let (scheme, _) = text.split_once("://")?;
    if scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let known = ["http", "https", "git", "ssh"];
    let found = known
        .iter()
        .find(|known| scheme.eq_ignore_ascii_case(known));
    Some(found.copied().unwrap_or("unknown"))
}

/// Repository, query and fragment.
fn split(text: &str) -> (&str, &str, &str) {
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (remote, query) = text.split_once('?').unwrap_or((text, ""));
    (remote, query, fragment)
}

/// `user@host:path`.
fn is_scp_style(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else {
        return false;
    };
    let Some((host, _)) = rest.split_once(':') else {
        return false;
    };
    let of = |text: &str, others: &[u8]| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || others.contains(&byte);
        !text.is_empty() && !text.starts_with('-') && text.bytes().all(known)
    };
    of(user, b"-_") && of(host, b"-.")
}

fn qualified(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) {
        name.to_owned()
    } else {
        format!("{prefix}{name}")
    }
}

fn flag(name: &'static str, value: &str) -> Result<bool, GitParseError> {
    if value.is_empty() {
        return Ok(true);
    }
    boolean(value).ok_or_else(|| GitParseError::Value {
        name,
        value: value.to_owned(),
    })
}

/// A path without `.`, `..` and slashes at its ends; `None` if nothing is left. `..` does not lead
/// out of the repository.
fn cleaned(path: &str) -> Option<String> {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    (!names.is_empty()).then(|| names.join("/"))
}

/// Whether a text is the whole id of a commit: 40 digits, or 64 in a repository of SHA-256.
pub fn is_commit_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64)
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A commit of a git repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitCommit {
    /// What was asked for.
    pub source: GitSource,
    /// The reference's full name, or the commit's id if that was asked for.
    pub reference: String,
    /// Id of what the reference names: a commit, or an annotated tag.
    pub object: String,
    /// Id of the commit; the same as `object` where that is none, or is not known to be none.
    pub commit: String,
}

impl ContentHash for GitCommit {
    fn encode(&self, encoder: &mut KeyEncoder) {
        // Named one by one, so that a new field cannot be forgotten here.
        let GitSource {
            remote,
            reference: _,
            checksum: _,
            subdirectory,
            keep_git_dir: _,
            submodules,
            times,
            fetch_by_commit: _,
        } = &self.source;
        encoder
            .tag("git")
            .value(&self.commit)
            .value(subdirectory)
            .value(submodules)
            .value(&(*times == FileTimes::Commit));
        // What is in `.git`, and nowhere else.
        let kept = self.source.keeps_git_dir().then(|| {
            let remote = without_credentials(remote);
            (remote, format!("{} {}", self.reference, self.object))
        });
        encoder.value(&kept);
    }
}

#[cfg(test)]
mod tests;
