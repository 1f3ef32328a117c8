//! Which commit a reference is.

use ashlar_model::remote::git::is_commit_id;
use ashlar_model::remote::{GitCommit, GitSource};

use super::GitFetcher;
use super::command::Git;
use super::error::GitError;
use super::repository::{REMOTE, from_remote, remote_of};

/// Asks the remote, unless the commit is named whole.
pub(super) async fn resolve(
    fetcher: &GitFetcher,
    source: &GitSource,
) -> Result<GitCommit, GitError> {
    source.check_commit()?;
    if let Some(id) = source.commit_id() {
        check(source, &[id])?;
        let by_name = source.reference.as_deref().filter(|name| *name != id);
        return Ok(GitCommit {
            source: source.clone(),
            reference: by_name.map_or_else(|| id.to_owned(), full_name),
            object: id.to_owned(),
            commit: id.to_owned(),
        });
    }
    let git = remote_of(Git::new(fetcher, None), source);
    let found = match &source.reference {
        None => {
            let listed = ask(
                &git,
                source,
                &["ls-remote", "--symref", "--", REMOTE, "HEAD"],
            )
            .await?;
            default_branch(&listed).ok_or_else(|| GitError::NoDefaultBranch {
                remote: remote(source),
            })?
        }
        Some(name) => {
            let peeled = format!("{name}^{{}}");
            let listed = ask(&git, source, &["ls-remote", "--", REMOTE, name, &peeled]).await?;
            choose(&listed, name).ok_or_else(|| GitError::NoReference {
                remote: remote(source),
                reference: name.clone(),
            })?
        }
    };
    let ids: Vec<&str> = std::iter::once(found.object.as_str())
        .chain(found.peeled.as_deref())
        .collect();
    check(source, &ids)?;
    Ok(GitCommit {
        source: source.clone(),
        commit: found.peeled.unwrap_or_else(|| found.object.clone()),
        reference: found.name,
        object: found.object,
    })
}

async fn ask(git: &Git<'_>, source: &GitSource, arguments: &[&str]) -> Result<String, GitError> {
    from_remote(git, source, arguments).await
}

fn remote(source: &GitSource) -> String {
    ashlar_model::remote::without_credentials(&source.remote)
}

/// Checks that one of the ids begins as it must.
fn check(source: &GitSource, ids: &[&str]) -> Result<(), GitError> {
    match &source.checksum {
        Some(expected)
            if !ids
                .iter()
                .any(|id| id.starts_with(&expected.to_ascii_lowercase())) =>
        {
            Err(GitError::Checksum {
                expected: expected.clone(),
                actual: ids.join(" or "),
            })
        }
        _ => Ok(()),
    }
}

/// A name alone is a branch's.
fn full_name(name: &str) -> String {
    if name.starts_with("refs/") {
        name.to_owned()
    } else {
        format!("refs/heads/{name}")
    }
}

/// A reference that the remote has.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    /// Its full name.
    name: String,
    /// What it names.
    object: String,
    /// The commit that an annotated tag is for.
    peeled: Option<String>,
}

fn lines(listed: &str) -> impl Iterator<Item = (&str, &str)> {
    listed.lines().filter_map(|line| line.split_once('\t'))
}

/// What `HEAD` is: the branch's name and its commit.
fn default_branch(listed: &str) -> Option<Found> {
    let head = |wanted: fn(&str) -> bool| {
        lines(listed).find_map(|(value, name)| (name == "HEAD" && wanted(value)).then_some(value))
    };
    let name = head(|value| value.starts_with("ref: "))?.strip_prefix("ref: ")?;
    Some(Found {
        name: name.to_owned(),
        object: head(is_commit_id)?.to_owned(),
        peeled: None,
    })
}

/// The reference that a name means, of those listed: `refs/<name>` before a branch before a tag.
fn choose(listed: &str, name: &str) -> Option<Found> {
    let bare = |prefix: &str| name.strip_prefix(prefix).unwrap_or(name).to_owned();
    let find = |wanted: &str| {
        lines(listed).find_map(|(id, name)| (name == wanted && is_commit_id(id)).then_some(id))
    };
    let candidates = [
        format!("refs/{}", bare("refs/")),
        format!("refs/heads/{}", bare("refs/heads/")),
        format!("refs/tags/{}", bare("refs/tags/")),
    ];
    let (name, object) = candidates
        .into_iter()
        .find_map(|name| find(&name).map(|id| (name, id)))?;
    let peeled = find(&format!("{name}^{{}}")).map(str::to_owned);
    Some(Found {
        name,
        object: object.to_owned(),
        peeled,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn found(name: &str, object: &str, peeled: Option<&str>) -> Option<Found> {
        Some(Found {
            name: name.to_owned(),
            object: object.to_owned(),
            peeled: peeled.map(str::to_owned),
        })
    }

    #[test]
    fn branches_come_before_tags() {
        let listed = format!("{A}\trefs/heads/v1\n{B}\trefs/tags/v1\n{A}\trefs/tags/v1^{{}}");
        assert_eq!(choose(&listed, "v1"), found("refs/heads/v1", A, None));
        assert_eq!(
            choose(&listed, "refs/tags/v1"),
            found("refs/tags/v1", B, Some(A))
        );
        assert_eq!(
            choose(&listed, "tags/v1"),
            found("refs/tags/v1", B, Some(A))
        );
        assert_eq!(choose(&listed, "heads/v1"), found("refs/heads/v1", A, None));
    }

    #[test]
    fn the_ends_of_other_names_do_not_count() {
        // ls-remote lists all names that end so.
        let listed = format!("{A}\trefs/heads/x/main\n{B}\trefs/pull/1/head");
        assert_eq!(choose(&listed, "main"), None);
        assert_eq!(
            choose(&listed, "pull/1/head"),
            found("refs/pull/1/head", B, None)
        );
        assert_eq!(choose("warning: no\trefs/heads/main", "main"), None);
    }

    #[test]
    fn the_default_branch_has_name_and_commit() {
        let listed = format!("ref: refs/heads/trunk\tHEAD\n{A}\tHEAD");
        assert_eq!(default_branch(&listed), found("refs/heads/trunk", A, None));
        assert_eq!(default_branch(&format!("{A}\tHEAD")), None);
        assert_eq!(default_branch(""), None);
    }
}
