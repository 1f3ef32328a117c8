use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use ashlar_model::remote::GitSource;
use ashlar_source::{GitError, GitFetcher, GitTree};
use ashlar_test_support::git::{GitServer, Repository};

use crate::support::Lab;

fn source(url: &str) -> GitSource {
    GitSource::parse(url).unwrap().unwrap()
}

async fn get(fetcher: &GitFetcher, url: &str) -> Result<GitTree, GitError> {
    let commit = fetcher.resolve(&source(url)).await?;
    fetcher.fetch(&commit, None).await
}

/// Names and contents of all files; links with their targets.
fn files(tree: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![tree.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(tree).unwrap().display().to_string();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                pending.push(path);
            } else if metadata.is_symlink() {
                found.insert(name, fs::read_link(&path).unwrap().display().to_string());
            } else {
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

fn expected(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, content): &(&str, &str)| ((*name).to_owned(), (*content).to_owned());
    pairs.iter().map(owned).collect()
}

/// A repository with two commits on `main`, tags at the first, and a branch beside.
fn sample(server: &GitServer) -> (Repository, String, String) {
    let repository = server.repository("app");
    repository
        .file("a", "one")
        .file("dir/run", "#!/bin/sh")
        .program("dir/run")
        .symlink("link", "a");
    let first = repository.commit_at(1_600_000_000);
    repository.git(["tag", "light"]);
    repository.git(["tag", "--annotate", "--message=x", "heavy"]);
    repository.git(["branch", "side"]);
    repository.file("a", "two");
    let second = repository.commit();
    (repository, first, second)
}

#[tokio::test]
async fn references_of_all_kinds_are_found() {
    let (lab, server) = (Lab::new(), GitServer::start());
    let (repository, first, second) = sample(&server);
    let url = server.url("app");
    let git = lab.git();
    for (suffix, commit) in [
        (String::new(), &second),
        ("#main".to_owned(), &second),
        ("?branch=main".to_owned(), &second),
        ("#refs/heads/main".to_owned(), &second),
        ("#light".to_owned(), &first),
        ("?tag=light".to_owned(), &first),
        ("#heavy".to_owned(), &first),
        ("#side".to_owned(), &first),
        (format!("#{first}"), &first),
        (format!("?commit={first}"), &first),
        (format!("?ref=main&checksum={second}"), &second),
        (format!("?tag=heavy&checksum={}", &first[..7]), &first),
        (
            format!("?tag=heavy&checksum={}", repository.id("heavy")),
            &first,
        ),
        (
            format!("?ref=nowhere&checksum={first}&fetch-by-commit=1"),
            &first,
        ),
    ] {
        let found = git
            .resolve(&source(&format!("{url}{suffix}")))
            .await
            .unwrap();
        assert_eq!(found.commit, *commit, "{suffix}");
        let tree = git.fetch(&found, None).await.unwrap();
        let content = if *commit == first { "one" } else { "two" };
        assert_eq!(fs::read_to_string(tree.path.join("a")).unwrap(), content);
    }
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let (lab, server) = (Lab::new(), GitServer::start());
    let (_repository, first, second) = sample(&server);
    let url = server.url("app");
    let short = &first[..8];
    let missing = "0123456789abcdef0123456789abcdef01234567";
    for (suffix, message, hint) in [
        (
            "#nowhere".to_owned(),
            "does not contain ref nowhere",
            "name a branch",
        ),
        (format!("#{short}"), "does not contain ref", "all 40 digits"),
        (format!("#{missing}"), "does not contain commit", ""),
        (
            format!("?ref=main&checksum={first}"),
            "expected checksum to match",
            "",
        ),
        (
            format!("?ref={second}&checksum=0"),
            "expected checksum to match 0, got",
            "",
        ),
        ("#:missing".to_owned(), "failed to open subdir missing", ""),
        ("#:link".to_owned(), "link is not a directory", ""),
    ] {
        let error = get(&lab.git(), &format!("{url}{suffix}"))
            .await
            .unwrap_err();
        assert!(error.is_input(), "{suffix}: {error:?}");
        assert!(error.to_string().contains(message), "{suffix}: {error}");
        assert!(error.hint().unwrap_or_default().contains(hint), "{error:?}");
    }
    let error = get(&lab.git(), &server.url("nothing")).await.unwrap_err();
    assert!(
        error.to_string().contains("failed to fetch remote"),
        "{error}"
    );
    server.repository("empty");
    let error = get(&lab.git(), &server.url("empty")).await.unwrap_err();
    assert!(error.to_string().contains("default branch"), "{error}");
}

#[tokio::test]
async fn files_have_the_modes_of_the_repository_and_no_git_directory() {
    let (lab, server) = (Lab::new(), GitServer::start());
    sample(&server);
    let tree = get(&lab.git(), &server.url("app")).await.unwrap();
    assert_eq!(
        files(&tree.path),
        expected(&[("a", "two"), ("dir/run", "#!/bin/sh"), ("link", "a")])
    );
    for (path, mode) in [
        ("a", 0o644),
        ("dir/run", 0o755),
        ("dir", 0o755),
        ("", 0o755),
    ] {
        let metadata = fs::metadata(tree.path.join(path)).unwrap();
        assert_eq!(metadata.mode() & 0o7777, mode, "{path}");
    }
    assert_eq!(tree.time.unwrap().seconds, 1_700_000_000);
}

#[tokio::test]
async fn a_known_commit_needs_no_network() {
    let (lab, server) = (Lab::new(), GitServer::start());
    let (_repository, first, _second) = sample(&server);
    let url = server.url("app");
    let commit = format!("{url}#{first}");
    get(&lab.git(), &commit).await.unwrap();
    server.web().take_requests();
    // The same, another part of it, and the same with its .git.
    get(&lab.git(), &commit).await.unwrap();
    get(&lab.git(), &format!("{commit}:dir")).await.unwrap();
    get(&lab.git(), &format!("{url}?ref={first}&keep-git-dir=1"))
        .await
        .unwrap();
    assert!(server.web().take_requests().is_empty());
}

#[tokio::test]
async fn fetches_are_shallow() {
    let (lab, server) = (Lab::new(), GitServer::start());
    let (_repository, _first, second) = sample(&server);
    get(&lab.git(), &format!("{}#{second}", server.url("app")))
        .await
        .unwrap();
    let entries = fs::read_dir(lab.home.root().join("sources/git")).unwrap();
    let repository = entries.map(|entry| entry.unwrap().path()).next().unwrap();
    let shallow = fs::read_to_string(repository.join("repository/shallow")).unwrap();
    assert_eq!(shallow.trim(), second);
}

#[tokio::test]
async fn servers_that_give_out_no_commits_are_asked_for_more() {
    let (lab, server) = (Lab::new(), GitServer::old());
    let (repository, first, second) = sample(&server);
    repository.git(["config", "--unset", "uploadpack.allowAnySHA1InWant"]);
    // No name leads to the first commit; it is behind the second.
    repository.git(["tag", "-d", "light", "heavy"]);
    repository.git(["branch", "-D", "side"]);
    let tree = get(&lab.git(), &server.url("app")).await.unwrap();
    assert_eq!(fs::read_to_string(tree.path.join("a")).unwrap(), "two");
    let lines = server.web().take_lines();
    assert!(lines.iter().any(|line| line.contains("git-upload-pack")));
    assert_ne!(first, second);
    let tree = get(&lab.git(), &format!("{}#{first}", server.url("app")))
        .await
        .unwrap();
    assert_eq!(fs::read_to_string(tree.path.join("a")).unwrap(), "one");
}

#[tokio::test]
async fn a_branch_that_moves_on_is_seen() {
    let (lab, server) = (Lab::new(), GitServer::start());
    let (repository, ..) = sample(&server);
    let url = server.url("app");
    get(&lab.git(), &url).await.unwrap();
    repository.file("a", "three").commit();
    let tree = get(&lab.git(), &url).await.unwrap();
    assert_eq!(fs::read_to_string(tree.path.join("a")).unwrap(), "three");
    // Back, as after a force push; and the commit in between is still here.
    let third = repository.id("HEAD");
    repository.git(["reset", "--quiet", "--hard", "HEAD~2"]);
    let tree = get(&lab.git(), &url).await.unwrap();
    assert_eq!(fs::read_to_string(tree.path.join("a")).unwrap(), "one");
    get(&lab.git(), &format!("{url}#{third}:dir"))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_a_branch_was_when_it_was_resolved_is_fetched() {
    let (lab, server) = (Lab::new(), GitServer::start());
    let (repository, ..) = sample(&server);
    let commit = lab
        .git()
        .resolve(&source(&server.url("app")))
        .await
        .unwrap();
    repository.file("a", "later").commit();
    let tree = lab.git().fetch(&commit, None).await.unwrap();
    assert_eq!(fs::read_to_string(tree.path.join("a")).unwrap(), "two");
}

#[tokio::test]
async fn a_subdirectory_is_all_there_is() {
    let (lab, server) = (Lab::new(), GitServer::start());
    sample(&server);
    let url = server.url("app");
    for suffix in ["#main:dir", "#:/dir/", "?subdir=dir&keep-git-dir=1"] {
        let tree = get(&lab.git(), &format!("{url}{suffix}")).await.unwrap();
        assert_eq!(
            files(&tree.path),
            expected(&[("run", "#!/bin/sh")]),
            "{suffix}"
        );
    }
}

#[tokio::test]
async fn submodules_come_along_unless_they_are_not_wanted() {
    let (lab, server) = (Lab::new(), GitServer::start());
    let leaf = server.repository("leaf");
    leaf.file("leaf", "leaf").commit();
    let library = server.repository("library");
    library.file("lib", "lib");
    // Relative to where it is.
    library.git(["submodule", "add", "--quiet", "../../leaf/.git", "leaf"]);
    library.commit();
    let repository = server.repository("app");
    repository.file("a", "a");
    repository.git([
        "submodule",
        "add",
        "--quiet",
        "../../library/.git",
        "library",
    ]);
    repository.commit();
    let url = server.url("app");
    let tree = get(&lab.git(), &url).await.unwrap();
    let found = files(&tree.path);
    assert_eq!(found["library/lib"], "lib");
    assert_eq!(found["library/leaf/leaf"], "leaf");
    assert!(
        !found.keys().any(|name| name.ends_with(".git")),
        "{found:?}"
    );
    let tree = get(&lab.git(), &format!("{url}?submodules=false"))
        .await
        .unwrap();
    assert!(!tree.path.join("library/lib").exists());
    let tree = get(&lab.git(), &format!("{url}?keep-git-dir"))
        .await
        .unwrap();
    assert!(tree.path.join("library/leaf/leaf").is_file());
    let status = git_in(&tree.path, &["submodule", "status", "--recursive"]);
    assert_eq!(status.lines().count(), 2, "{status}");
}

#[tokio::test]
async fn submodules_of_this_machine_are_refused() {
    let (lab, server) = (Lab::new(), GitServer::start());
    let secret = Repository::new(tempfile::tempdir().unwrap().keep().join("secret"));
    secret.file("secret", "x").commit();
    let repository = server.repository("app");
    let path = secret.path().display().to_string();
    repository.git(["submodule", "add", "--quiet", &path, "secret"]);
    repository.commit();
    let error = get(&lab.git(), &server.url("app")).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("not allowed"), "{cause}");
    fs::remove_dir_all(secret.path().parent().unwrap()).unwrap();
}

fn git_in(tree: &Path, arguments: &[&str]) -> String {
    let output = std::process::Command::new("git")
        .args(arguments)
        .current_dir(tree)
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[tokio::test]
async fn a_kept_git_directory_is_a_clean_clone() {
    let (lab, server) = (Lab::new(), GitServer::start());
    let (_repository, first, second) = sample(&server);
    let url = server.url("app");
    for (suffix, commit, name) in [
        ("?keep-git-dir=true".to_owned(), &second, "refs/heads/main"),
        (
            "?tag=heavy&keep-git-dir".to_owned(),
            &first,
            "refs/tags/heavy",
        ),
        (format!("?commit={first}&keep-git-dir"), &first, ""),
    ] {
        let tree = get(&lab.git(), &format!("{url}{suffix}"))
            .await
            .unwrap()
            .path;
        assert_eq!(git_in(&tree, &["rev-parse", "HEAD"]), *commit, "{suffix}");
        assert_eq!(git_in(&tree, &["status", "--porcelain"]), "", "{suffix}");
        assert_eq!(git_in(&tree, &["config", "remote.origin.url"]), url);
        let names = git_in(&tree, &["for-each-ref", "--format=%(refname)"]);
        assert_eq!(names, name, "{suffix}");
        assert_eq!(git_in(&tree, &["rev-list", "--count", "HEAD"]), "1");
        assert!(!tree.join(".git/FETCH_HEAD").exists());
    }
}

#[tokio::test]
async fn times_are_those_of_the_commit_if_that_is_wanted() {
    let (lab, server) = (Lab::new(), GitServer::start());
    sample(&server);
    let url = format!("{}?tag=heavy&mtime=commit", server.url("app"));
    let tree = get(&lab.git(), &url).await.unwrap();
    for path in ["a", "link", "dir", ""] {
        let metadata = fs::symlink_metadata(tree.path.join(path)).unwrap();
        assert_eq!(metadata.mtime(), 1_600_000_000, "{path}");
    }
}

#[tokio::test]
async fn logins_come_from_secrets_and_are_kept_nowhere() {
    // x-access-token:t0ken
    let login = "basic eC1hY2Nlc3MtdG9rZW46dDBrZW4=";
    let server = GitServer::with_login(login);
    sample(&server);
    let url = server.url("app");
    let error = get(&Lab::new().git(), &url).await.unwrap_err();
    assert!(
        error.hint().unwrap().contains("GIT_AUTH_TOKEN"),
        "{error:?}"
    );
    let lab = Lab::with_secrets(&[("GIT_AUTH_TOKEN", "t0ken")]);
    let tree = get(&lab.git(), &format!("{url}?keep-git-dir=1"))
        .await
        .unwrap();
    assert!(tree.path.join("a").is_file());
    assert_no_file_has(lab.home.root(), "t0ken");
    assert_no_file_has(lab.home.root(), "eC1hY2Nlc3MtdG9rZW46dDBrZW4=");
}

#[tokio::test]
async fn credentials_of_urls_are_kept_nowhere() {
    // user:hunter2
    let server = GitServer::with_login("Basic dXNlcjpodW50ZXIy");
    let library = server.repository("library");
    library.file("lib", "lib").commit();
    let (repository, ..) = sample(&server);
    repository.git([
        "submodule",
        "add",
        "--quiet",
        "../../library/.git",
        "library",
    ]);
    repository.commit();
    let lab = Lab::new();
    let url = server.url("app").replace("http://", "http://user:hunter2@");
    let tree = get(&lab.git(), &format!("{url}?keep-git-dir=1"))
        .await
        .unwrap();
    assert_eq!(
        fs::read_to_string(tree.path.join("library/lib")).unwrap(),
        "lib"
    );
    assert_no_file_has(lab.home.root(), "hunter2");
    let wrong = url.replace("hunter2", "hunter3");
    let error = get(&lab.git(), &wrong).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(!text.contains("hunter3"), "{text}");
}

fn assert_no_file_has(root: &Path, text: &str) {
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        if path.is_symlink() {
        } else if path.is_dir() {
            pending.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else {
            let content = fs::read(&path).unwrap();
            let found = content
                .windows(text.len())
                .any(|part| part == text.as_bytes());
            assert!(!found, "{}", path.display());
        }
    }
}

#[tokio::test]
async fn a_damaged_repository_is_made_anew() {
    let (lab, server) = (Lab::new(), GitServer::start());
    let (repository, ..) = sample(&server);
    let url = server.url("app");
    get(&lab.git(), &url).await.unwrap();
    for entry in fs::read_dir(lab.home.root().join("sources/git")).unwrap() {
        let path = entry.unwrap().path().join("repository");
        fs::remove_file(path.join("HEAD")).unwrap();
        fs::write(path.join("shallow.lock"), "").unwrap();
    }
    repository.file("a", "three").commit();
    let tree = get(&lab.git(), &url).await.unwrap();
    assert_eq!(fs::read_to_string(tree.path.join("a")).unwrap(), "three");
}

#[tokio::test]
async fn without_git_there_is_a_hint() {
    let lab = Lab::new();
    let error = lab
        .git_in("/nonexistent")
        .resolve(&source("https://example.com/x.git"))
        .await
        .unwrap_err();
    assert!(matches!(error, GitError::Missing), "{error:?}");
    assert!(error.hint().unwrap().contains("install git"));
}

#[tokio::test]
async fn several_at_once_fetch_once() {
    let (lab, server) = (Lab::new(), GitServer::start());
    let (_repository, first, _second) = sample(&server);
    let url = format!("{}#{first}", server.url("app"));
    let fetchers: Vec<GitFetcher> = (0..3).map(|_| lab.git()).collect();
    let all = futures::future::join_all(fetchers.iter().map(|one| get(one, &url))).await;
    assert!(
        all.into_iter()
            .all(|tree| tree.unwrap().path.join("a").is_file())
    );
    let lines = server.web().take_lines();
    let packs = lines
        .iter()
        .filter(|line| line.contains("info/refs"))
        .count();
    assert_eq!(packs, 1, "{lines:?}");
}
