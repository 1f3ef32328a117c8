//! From a commit to files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_model::executor::StepOutput;
use ashlar_model::layer::Timestamp;
use ashlar_model::remote::{FileTimes, GitCommit, without_credentials};
use ashlar_store::home::gc::measure;
use ashlar_store::home::sources::{DirectoryRecord, SourceClass, SourceKey};

use super::command::Git;
use super::error::GitError;
use super::repository::{Repository, init, object_format, with_login};
use super::{GitFetcher, GitTree, keep, tidy};
use crate::lock::acquire;

/// Brings the files of a commit here, unless they are.
pub(super) async fn checkout(
    fetcher: &GitFetcher,
    commit: &GitCommit,
    output: Option<Arc<dyn StepOutput>>,
) -> Result<GitTree, GitError> {
    let home = &fetcher.home;
    let key = key_of(commit);
    if let Some((path, record)) = home.source_directory(&key)? {
        let time = record.time;
        return Ok(GitTree { path, time });
    }
    let _lock = acquire(&home.source_lock_path(&key)).await?;
    if let Some((path, record)) = home.source_directory(&key)? {
        let time = record.time;
        return Ok(GitTree { path, time });
    }
    let repository = Repository::open(fetcher, commit, output.clone()).await?;
    let before = repository.size();
    repository.bring(commit).await?;
    drop(home.admit(repository.size().saturating_sub(before))?);
    let scratch = home.scratch()?;
    let work = Work {
        fetcher,
        commit,
        repository: &repository,
        output,
        tree: scratch.path().join("tree"),
        git: scratch.path().join("git"),
    };
    let made = work.run().await;
    let made = match made {
        Ok((files, time)) => {
            let record = DirectoryRecord {
                what: commit.source.to_string(),
                time: Some(time),
            };
            if home.meter().is_limited() {
                // Git has asked nobody.
                drop(home.admit(measure(&files))?);
            }
            home.put_source_directory(&key, &files, &record)
                .map(|path| GitTree {
                    path,
                    time: Some(time),
                })
                .map_err(GitError::from)
        }
        Err(error) => Err(error),
    };
    // What cannot be removed now is swept later.
    drop(fs::remove_dir_all(scratch.path()));
    made
}

/// Names a checkout: the commit, and all that decides which files it becomes.
fn key_of(commit: &GitCommit) -> SourceKey {
    let source = &commit.source;
    let kept = source.keeps_git_dir();
    let times = match source.times {
        FileTimes::Checkout => "checkout",
        FileTimes::Commit => "commit",
    };
    let words = [
        // Submodules may be named relative to it.
        source.remote.as_str(),
        commit.object.as_str(),
        if kept { &commit.reference } else { "" },
        source.subdirectory.as_deref().unwrap_or(""),
        if source.submodules { "submodules" } else { "" },
        times,
    ];
    SourceKey::new(SourceClass::Tree, &words)
}

/// One checkout under way.
pub(super) struct Work<'a> {
    pub(super) fetcher: &'a GitFetcher,
    pub(super) commit: &'a GitCommit,
    pub(super) repository: &'a Repository<'a>,
    pub(super) output: Option<Arc<dyn StepOutput>>,
    /// Where the files go.
    pub(super) tree: PathBuf,
    /// A repository for the time of the checkout.
    git: PathBuf,
}

impl Work<'_> {
    /// Makes the files. Returns where they are, and the time of the commit.
    async fn run(&self) -> Result<(PathBuf, Timestamp), GitError> {
        let source = &self.commit.source;
        fs::create_dir(&self.tree).map_err(|e| io("create", &self.tree, e))?;
        let keeps = source.keeps_git_dir();
        let git_dir = if keeps {
            keep::clone(self).await?
        } else {
            self.bare().await?;
            self.git.clone()
        };
        if source.submodules && self.tree.join(".gitmodules").is_file() {
            self.submodules(&git_dir).await?;
        }
        if keeps {
            keep::finish(self, &git_dir).await?;
        }
        let time = self.time().await?;
        let files = self.subdirectory()?;
        let tidying = tidy::Tidy {
            root: files.clone(),
            drop_git: !keeps,
            time: (source.times == FileTimes::Commit).then_some(time),
        };
        tokio::task::spawn_blocking(move || tidying.run())
            .await
            .map_err(|_| GitError::Cancelled)??;
        Ok((files, time))
    }

    /// Git in some repository, with the files of this checkout.
    pub(super) fn git(&self, repository: &Path) -> Git<'_> {
        Git::new(self.fetcher, self.output.clone())
            .repository(repository)
            .work_tree(&self.tree)
    }

    /// Checks the commit out with a repository of its own beside the files, which borrows the
    /// objects of the shared one: submodules are noted in it, and shall not be in that.
    async fn bare(&self) -> Result<(), GitError> {
        init(self.fetcher, &self.git, object_format(&self.commit.object)).await?;
        let alternates = self.git.join("objects/info/alternates");
        let objects = self.repository.path.join("objects");
        let write = || {
            fs::create_dir_all(self.git.join("objects/info"))?;
            fs::write(&alternates, format!("{}\n", objects.display()))
        };
        write().map_err(|e| io("write", &alternates, e))?;
        let git = self.git(&self.git);
        git.run(&["read-tree", &self.commit.object]).await?;
        git.run(&["checkout-index", "--all", "--force"]).await?;
        Ok(())
    }

    async fn submodules(&self, git_dir: &Path) -> Result<(), GitError> {
        let source = &self.commit.source;
        let git = with_login(self.git(git_dir), source);
        // In a file: a setting of the environment would reach into the submodules too, whose own
        // submodules are relative to *them*.
        git.run(&["config", "remote.origin.url", &source.remote])
            .await?;
        let shallow = ["submodule", "update", "--init", "--recursive", "--depth=1"];
        let outcome = match git.run(&shallow).await {
            Err(error @ GitError::Failed { .. }) if error.is_refusal() => {
                git.run(&["submodule", "update", "--init", "--recursive"])
                    .await
            }
            outcome => outcome,
        };
        outcome.map(drop).map_err(|error| GitError::Remote {
            remote: format!(
                "submodules of {}",
                without_credentials(&self.commit.source.remote)
            ),
            source: Box::new(error),
        })
    }

    async fn time(&self) -> Result<Timestamp, GitError> {
        let commit = format!("{}^{{commit}}", self.commit.object);
        let git = self.repository.git();
        let seconds = git
            .run(&["log", "-1", "--no-show-signature", "--format=%ct", &commit])
            .await?;
        Ok(Timestamp {
            // Commits with times that are no times exist; 1970 is as good as any.
            seconds: seconds.parse().unwrap_or(0),
            nanoseconds: 0,
        })
    }

    /// The directory that is meant. No part of its path may be a link: it could lead anywhere.
    fn subdirectory(&self) -> Result<PathBuf, GitError> {
        let mut path = self.tree.clone();
        let Some(directory) = &self.commit.source.subdirectory else {
            return Ok(path);
        };
        for name in directory.split('/') {
            path.push(name);
            let problem = match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_dir() => continue,
                Ok(_) => format!("{name} is not a directory"),
                Err(_) => "no such directory".to_owned(),
            };
            return Err(GitError::Subdirectory {
                directory: directory.clone(),
                what: self.commit.source.to_string(),
                problem,
            });
        }
        Ok(path)
    }
}

pub(super) fn io(action: &'static str, path: &Path, source: std::io::Error) -> GitError {
    GitError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
