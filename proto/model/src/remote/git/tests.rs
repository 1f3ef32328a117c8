use proptest::prelude::*;

use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn git(text: &str) -> GitSource {
    GitSource::parse(text).unwrap().unwrap()
}

/// Remote, reference and directory.
fn parts(text: &str) -> (String, Option<String>, Option<String>) {
    let source = git(text);
    (source.remote, source.reference, source.subdirectory)
}

fn expected(
    remote: &str,
    reference: Option<&str>,
    directory: Option<&str>,
) -> (String, Option<String>, Option<String>) {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    (remote.to_owned(), owned(reference), owned(directory))
}

/// The cases of BuildKit's `git_ref_test.go`.
#[test]
fn repositories_are_told_from_other_things() {
    for other in [
        "https://example.com/",
        "https://example.com/foo",
        "https://example.com/foo.git/",
        "https://example.com/foo.git.bar",
        "custom.xyz/moby/buildkit.git",
        "https://github.com/moby/buildkit",
        "http://github.com/docker/docker.git:#branch",
        "./.git",
        ".git",
        "../x.git",
        "github.com/moby/buildkit",
        "ftp://example.com/foo.git",
        "a@b",
        "a b@c:d",
        "-oProxyCommand@x:y",
    ] {
        assert_eq!(GitSource::parse(other), Ok(None), "{other}");
    }
    for (text, remote, reference, directory) in [
        (
            "https://example.com/foo.git",
            "https://example.com/foo.git",
            None,
            None,
        ),
        (
            "https://h/foo.git#deadbeef",
            "https://h/foo.git",
            Some("deadbeef"),
            None,
        ),
        (
            "https://h/foo.git#release/1.2",
            "https://h/foo.git",
            Some("release/1.2"),
            None,
        ),
        ("git://example.com/foo", "git://example.com/foo", None, None),
        (
            "ssh://git@h:22/foo#a:b",
            "ssh://git@h:22/foo",
            Some("a"),
            Some("b"),
        ),
        (
            "git@github.com:moby/buildkit",
            "git@github.com:moby/buildkit",
            None,
            None,
        ),
        (
            "git@h:a/b.git#v1:/sub/",
            "git@h:a/b.git",
            Some("v1"),
            Some("sub"),
        ),
        ("https://u:p@h/b.git", "https://u:p@h/b.git", None, None),
        (
            "https://h/bar.git#baz/qux:quux/quuz",
            "https://h/bar.git",
            Some("baz/qux"),
            Some("quux/quuz"),
        ),
        (
            "https://h/docker.git#:myfolder",
            "https://h/docker.git",
            None,
            Some("myfolder"),
        ),
        (
            "https://h/d.git?ref=v1.0.0&subdir=/subdir",
            "https://h/d.git",
            Some("v1.0.0"),
            Some("subdir"),
        ),
        (
            "https://h/d.git#feat%2Fx:a/../b",
            "https://h/d.git",
            Some("feat/x"),
            Some("b"),
        ),
        (
            "git@h:a?branch=main",
            "git@h:a",
            Some("refs/heads/main"),
            None,
        ),
    ] {
        assert_eq!(
            parts(text),
            expected(remote, reference, directory),
            "{text}"
        );
    }
}

#[test]
fn queries_choose_and_set() {
    let source = git(&format!(
        "https://h/x.git?tag=v1&commit={COMMIT}&keep-git-dir&submodules=0&mtime=commit"
    ));
    assert_eq!(source.reference.as_deref(), Some("refs/tags/v1"));
    assert_eq!(source.checksum.as_deref(), Some(COMMIT));
    assert!(source.keeps_git_dir() && !source.submodules);
    assert_eq!(source.times, FileTimes::Commit);
    assert_eq!(source.commit_id(), None);
    // A checksum alone is the reference.
    assert_eq!(
        git(&format!("https://h/x.git?checksum={COMMIT}")).commit_id(),
        Some(COMMIT)
    );
    assert_eq!(
        git("https://h/x.git?checksum=0123").reference.as_deref(),
        Some("0123")
    );
    // And with fetch-by-commit it beats the reference.
    let by_commit = format!("https://h/x.git?ref=main&checksum={COMMIT}&fetch-by-commit=1");
    assert_eq!(git(&by_commit).commit_id(), Some(COMMIT));
    // A directory has no .git.
    assert!(!git("https://h/x.git?keep-git-dir=true&subdir=a").keeps_git_dir());
}

#[test]
fn contradictions_are_errors() {
    for (text, message) in [
        ("https://h/x.git?ref=a#b", "ref conflicts: \"b\" vs \"a\""),
        (
            "https://h/x.git?tag=a&ref=b",
            "ref conflicts: \"b\" vs \"refs/tags/a\"",
        ),
        (
            "https://h/x.git?tag=a&branch=b",
            "branch conflicts with tag",
        ),
        (
            "https://h/x.git?subdir=a#:b",
            "subdir conflicts: \"b\" vs \"a\"",
        ),
        (
            "https://h/x.git?ref=a&ref=a",
            "query \"ref\" has multiple values",
        ),
        ("https://h/x.git?ref", "query \"ref\" has no value"),
        ("https://h/x.git?colour=red", "unexpected query \"colour\""),
        (
            "https://h/x.git?submodules=maybe",
            "invalid submodules value: \"maybe\"",
        ),
        ("https://h/x.git?mtime=now", "invalid mtime value: \"now\""),
        (
            "https://h/x.git?checksum=xyz",
            "invalid checksum xyz for Git URL",
        ),
        ("https://h/x.git#--upload-pack=x", "invalid git ref"),
        ("https://u:secret@h/x.git#%zz", "invalid escape"),
    ] {
        let error = GitSource::parse(text).unwrap_err().to_string();
        assert!(error.contains(message), "{text}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn a_checksum_beside_the_url_chooses_nothing() {
    let mut source = git("https://h/x.git");
    source.set_checksum("abc").unwrap();
    assert_eq!(
        (source.reference.as_deref(), source.commit_id()),
        (None, None)
    );
    source.set_checksum("x").unwrap_err();
    let mut source = git("https://h/x.git?fetch-by-commit&ref=main");
    source.check_commit().unwrap_err();
    source.set_checksum(COMMIT).unwrap();
    source.check_commit().unwrap();
    assert_eq!(source.commit_id(), Some(COMMIT));
}

#[test]
fn the_identity_is_the_commit_and_what_is_taken_of_it() {
    let key = |text: &str, reference: &str| {
        let commit = GitCommit {
            source: git(text),
            reference: reference.to_owned(),
            object: COMMIT.to_owned(),
            commit: COMMIT.to_owned(),
        };
        let mut encoder = KeyEncoder::new("test");
        encoder.value(&commit);
        encoder.finish()
    };
    let plain = key("https://h/x.git", "refs/heads/main");
    assert_eq!(plain, key("git@mirror:x#v1", "refs/tags/v1"));
    assert_ne!(plain, key("https://h/x.git#:sub", "refs/heads/main"));
    assert_ne!(
        plain,
        key("https://h/x.git?submodules=0", "refs/heads/main")
    );
    assert_ne!(
        plain,
        key("https://h/x.git?mtime=commit", "refs/heads/main")
    );
    let kept = key("https://h/x.git?keep-git-dir=1", "refs/heads/main");
    assert_ne!(plain, kept);
    // `.git` says where it came from and by which name.
    assert_ne!(kept, key("https://h/x.git?keep-git-dir=1", "refs/tags/v1"));
    assert_ne!(
        kept,
        key("https://mirror/x.git?keep-git-dir=1", "refs/heads/main")
    );
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC*") {
        let _any = GitSource::parse(&text);
        let _any = GitSource::parse(&format!("https://h/x.git?{text}"));
        let _any = GitSource::parse(&format!("git@h:{text}"));
    }

    #[test]
    fn directories_never_lead_out(path in "[a./]{0,12}") {
        let source = git(&format!("https://h/x.git#:{path}"));
        let directory = source.subdirectory.unwrap_or_default();
        prop_assert!(!directory.split('/').any(|name| name == ".." || name == "."));
        prop_assert!(!directory.starts_with('/') && !directory.ends_with('/'));
    }
}
