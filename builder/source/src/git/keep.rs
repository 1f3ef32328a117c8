//! A checkout with its `.git`: one commit deep, as if cloned from the remote.
//!
//! It is as much the same for each checkout as git makes it; the index has times and inodes.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ashlar_model::remote::git::is_commit_id;
use ashlar_model::remote::without_credentials;

use super::checkout::{Work, io};
use super::error::GitError;
use super::repository::object_format;

/// Clones the commit into the tree. Returns where its `.git` is.
pub(super) async fn clone(work: &Work<'_>) -> Result<PathBuf, GitError> {
    let git_dir = work.tree.join(".git");
    let commit = work.commit;
    let format = format!("--object-format={}", object_format(&commit.object));
    let init = work.git(&git_dir);
    init.run(&["init", "--quiet", "--template=", &format])
        .await?;
    // `init` notes where the files are now; they will be elsewhere.
    let unset = init.run(&["config", "--unset", "core.worktree"]).await;
    drop(unset);
    let from = format!("file://{}", work.repository.path.display());
    let mut wanted = format!("+refs/ashlar/{}", commit.object);
    if !is_commit_id(&commit.reference) {
        wanted = format!("{wanted}:{}", commit.reference);
    }
    let fetch = work.git(&git_dir).local();
    fetch
        .run(&[
            "fetch",
            "--quiet",
            "--update-head-ok",
            "--depth=1",
            "--no-tags",
            &from,
            &wanted,
        ])
        .await?;
    fetch
        .run(&["checkout", "--quiet", "--force", "--detach", "FETCH_HEAD"])
        .await?;
    Ok(git_dir)
}

/// Makes it look as cloned from the remote, and takes out what must not get into an image.
pub(super) async fn finish(work: &Work<'_>, git_dir: &Path) -> Result<(), GitError> {
    let git = work.git(git_dir);
    let remote = &work.commit.source.remote;
    let shown = without_credentials(remote);
    git.run(&["config", "remote.origin.url", &shown]).await?;
    let all = "+refs/heads/*:refs/remotes/origin/*";
    git.run(&["config", "remote.origin.fetch", all]).await?;
    git.run(&["reflog", "expire", "--all", "--expire=now"])
        .await?;
    for name in ["FETCH_HEAD", "ORIG_HEAD"] {
        let path = git_dir.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(io("remove", &path, error));
            }
            _ => {}
        }
    }
    if shown != *remote {
        hide_credentials(git_dir, remote)?;
    }
    Ok(())
}

/// Takes the credentials of a URL out of all configurations: URLs of submodules are made of the
/// remote's.
fn hide_credentials(git_dir: &Path, remote: &str) -> Result<(), GitError> {
    let (_, rest) = remote.split_once("://").unwrap_or_default();
    let authority = &rest[..rest.find('/').unwrap_or(rest.len())];
    let Some((credentials, _)) = authority.rsplit_once('@') else {
        return Ok(());
    };
    let secret = format!("{credentials}@");
    let mut pending = vec![git_dir.to_owned()];
    while let Some(directory) = pending.pop() {
        let entries = fs::read_dir(&directory).map_err(|e| io("list", &directory, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| io("list", &directory, e))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(|e| io("look at", &path, e))?;
            if kind.is_dir() {
                if entry.file_name() != "objects" {
                    pending.push(path);
                }
            } else if entry.file_name() == "config" {
                let text = fs::read_to_string(&path).map_err(|e| io("read", &path, e))?;
                fs::write(&path, text.replace(&secret, "")).map_err(|e| io("write", &path, e))?;
            }
        }
    }
    Ok(())
}
