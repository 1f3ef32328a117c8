//! What was fetched of a remote: one bare repository for each, shared by all who build.
//!
//! Every commit that was ever needed is held by a reference `refs/ashlar/<id>`, so that it stays
//! whatever happens to the branches of the remote.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_http::retry::Attempts;
use ashlar_model::executor::StepOutput;
use ashlar_model::remote::git::is_commit_id;
use ashlar_model::remote::http::host_of;
use ashlar_model::remote::{GitCommit, GitSource, without_credentials};
use ashlar_store::home::gc::measure;
use ashlar_store::home::lock::FileLock;
use ashlar_store::home::sources::{DirectoryRecord, SourceClass, SourceKey};

use super::GitFetcher;
use super::command::Git;
use super::error::GitError;
use crate::lock::acquire;
use crate::secrets::git_authorization;

/// What the remote is called in commands: its URL may hold credentials, and commands are seen by
/// others.
pub(super) const REMOTE: &str = "source";

/// Tells git where the remote is and how to log in there.
pub(super) fn remote_of<'a>(git: Git<'a>, source: &GitSource) -> Git<'a> {
    let git = git.setting(format!("remote.{REMOTE}.url"), &source.remote);
    with_login(git, source)
}

/// Tells git how to log in at the remote, and at its submodules if they are beside it.
pub(super) fn with_login<'a>(git: Git<'a>, source: &GitSource) -> Git<'a> {
    let secrets = git.fetcher().secrets.as_ref();
    match git_authorization(secrets, host_of(&source.remote)) {
        Some(value) if source.remote.starts_with("http") => {
            let scope = token_scope(&source.remote);
            git.setting(
                format!("http.{scope}.extraheader"),
                format!("Authorization: {value}"),
            )
        }
        _ => git,
    }
}

/// What a login is for: this repository. At GitHub one is good for all repositories, as BuildKit
/// and actions/checkout have it.
fn token_scope(remote: &str) -> String {
    let github = ["https://github.com/", "https://www.github.com/"];
    let known = github.iter().find(|prefix| remote.starts_with(*prefix));
    if let Some(prefix) = known {
        return (*prefix).to_owned();
    }
    let (scheme, rest) = remote.split_once("://").unwrap_or_default();
    let authority = rest.find('/').unwrap_or(rest.len());
    let host = rest[..authority].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[host..])
}

/// Runs a command that talks to the remote, again if it fails for a cause that may pass.
pub(super) async fn from_remote(
    git: &Git<'_>,
    source: &GitSource,
    arguments: &[&str],
) -> Result<String, GitError> {
    let mut attempts = Attempts::new(git.fetcher().retry);
    loop {
        match git.run(arguments).await {
            Err(error) if error.is_transient() && attempts.wait(None).await => {}
            Err(error @ GitError::Failed { .. }) => {
                return Err(GitError::Remote {
                    remote: without_credentials(&source.remote),
                    source: Box::new(error),
                });
            }
            outcome => return outcome,
        }
    }
}

/// The bare repository of a remote, held against other processes.
pub(super) struct Repository<'a> {
    pub(super) path: PathBuf,
    fetcher: &'a GitFetcher,
    output: Option<Arc<dyn StepOutput>>,
    _lock: FileLock,
}

impl<'a> Repository<'a> {
    /// Opens the repository of a remote, making it if there is none.
    pub(super) async fn open(
        fetcher: &'a GitFetcher,
        commit: &GitCommit,
        output: Option<Arc<dyn StepOutput>>,
    ) -> Result<Self, GitError> {
        let home = &fetcher.home;
        let format = object_format(&commit.object);
        let key = SourceKey::new(SourceClass::Git, &[&commit.source.remote, format]);
        let lock = acquire(&home.source_lock_path(&key)).await?;
        let repository = |path, lock| Self {
            path,
            fetcher,
            output,
            _lock: lock,
        };
        if let Some((path, _)) = home.source_directory(&key)? {
            let probe = Git::new(fetcher, None).repository(&path);
            match probe.run(&["rev-parse", "--git-dir"]).await {
                Ok(_) => {
                    // Left by a process that was killed.
                    drop(std::fs::remove_file(path.join("shallow.lock")));
                    return Ok(repository(path, lock));
                }
                Err(GitError::Failed { .. }) => home.forget_source(&key)?,
                Err(error) => return Err(error),
            }
        }
        let scratch = home.scratch()?;
        let made = scratch.path().join("repository");
        init(fetcher, &made, format).await?;
        let record = DirectoryRecord {
            what: without_credentials(&commit.source.remote),
            time: None,
        };
        let path = home.put_source_directory(&key, &made, &record)?;
        drop(std::fs::remove_dir_all(scratch.path()));
        Ok(repository(path, lock))
    }

    /// Runs git in it.
    pub(super) fn git(&self) -> Git<'a> {
        Git::new(self.fetcher, self.output.clone()).repository(&self.path)
    }

    /// Bytes on disk, where they matter: in a store with a quota. Git asks nobody before it writes,
    /// so what it has written is admitted afterwards.
    pub(super) fn size(&self) -> u64 {
        if self.fetcher.home.meter().is_limited() {
            measure(&self.path)
        } else {
            0
        }
    }

    /// Whether an object is here.
    async fn has(&self, object: &str) -> bool {
        let git = Git::new(self.fetcher, None).repository(&self.path);
        git.run(&["cat-file", "-e", object]).await.is_ok()
    }

    /// Brings a commit here, unless it is. The cheapest way first: the commit alone, by its id;
    /// its reference alone, if the server does not give out commits by their ids; everything.
    pub(super) async fn bring(&self, commit: &GitCommit) -> Result<(), GitError> {
        let GitCommit { source, object, .. } = commit;
        let held = format!("refs/ashlar/{object}");
        if self.has(&held).await {
            return Ok(());
        }
        let git = remote_of(self.git(), source);
        let alone = format!("+{object}:{held}");
        let mut ways = vec![vec!["fetch", "--depth=1", "--no-tags", REMOTE, &alone]];
        let by_name = format!("+{}:refs/ashlar/tip", commit.reference);
        if !source.fetch_by_commit {
            if !is_commit_id(&commit.reference) {
                ways.push(vec!["fetch", "--depth=1", "--no-tags", REMOTE, &by_name]);
            }
            let mut all = vec!["fetch", "--no-tags"];
            if self.path.join("shallow").exists() {
                all.push("--unshallow");
            }
            all.extend([REMOTE, "+refs/*:refs/ashlar/remote/*"]);
            ways.push(all);
        }
        for way in ways {
            match from_remote(&git, source, &way).await {
                Ok(_) => {}
                Err(error) if error.is_refusal() => continue,
                Err(error) => return Err(error),
            }
            if self.has(object).await {
                self.git().run(&["update-ref", &held, object]).await?;
                return Ok(());
            }
        }
        Err(GitError::NoCommit {
            remote: without_credentials(&source.remote),
            commit: object.clone(),
        })
    }
}

/// Makes an empty bare repository.
pub(super) async fn init(fetcher: &GitFetcher, path: &Path, format: &str) -> Result<(), GitError> {
    let format = format!("--object-format={format}");
    let git = Git::new(fetcher, None).repository(path);
    git.run(&["init", "--quiet", "--bare", "--template=", &format])
        .await
        .map(drop)
}

/// The hash of a repository's objects, by the length of their ids.
pub(super) const fn object_format(id: &str) -> &'static str {
    if id.len() == 64 { "sha256" } else { "sha1" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_for_one_repository_but_at_github() {
        for (remote, scope) in [
            ("https://h/a/b.git", "https://h/a/b.git"),
            ("https://u:p@h:1/a@b.git", "https://h:1/a@b.git"),
            ("https://github.com/a/b.git", "https://github.com/"),
        ] {
            assert_eq!(token_scope(remote), scope);
        }
    }
}
