//! ADD of URLs and of git repositories.

use std::fs;

use ashlar_test_support::git::{GitServer, Repository};
use ashlar_test_support::home::TestHome;
use ashlar_test_support::web::{Page, Site, WebServer};
use sha2::{Digest as _, Sha256};

const OLD: &str = "Wed, 21 Oct 2015 07:28:00 GMT";

fn sha256(content: impl AsRef<[u8]>) -> String {
    let digest = Sha256::digest(content);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A tar with one file.
fn tar_of(home: &TestHome, name: &str, content: &str) -> Vec<u8> {
    let directory = home.directory("to-pack");
    fs::write(directory.join(name), content).unwrap();
    let output = std::process::Command::new("tar")
        .args(["-cz", "--owner=7", "--group=8", "-C"])
        .arg(&directory)
        .arg(name)
        .output()
        .unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn a_file_has_its_name_mode_and_time() {
    let (home, site) = (TestHome::sub(), Site::default());
    let web = WebServer::of(&site);
    site.put("/dir/file.txt", Page::new("content").modified(OLD));
    site.put("/", Page::new("root"));
    let context = home.context("context");
    let (file, root) = (web.url("/dir/file.txt?x=/y"), web.url("/"));
    context.file("local", "l").dockerfile(&format!(
        "FROM scratch\nADD {file} /in/\nADD {file} /as\nADD {root} /in/\n\
         ADD --chmod=0755 --chown=3:4 {file} local /both/\n"
    ));
    let tree = home.build_tree(&context, &[]);
    for path in ["in/file.txt", "as"] {
        tree.at(path).has_content("content").is_owned(0o600, 0, 0);
    }
    tree.at("in/__unnamed__").has_content("root");
    tree.at("both/file.txt").is_owned(0o755, 3, 4);
    tree.at("both/local").has_content("l").is_owned(0o755, 3, 4);
    let times = home.build_times(&context, &[]);
    assert_eq!(times["as"], "2015-10-21 07:28:00");
    assert_eq!(times["in/__unnamed__"], "1970-01-01 00:00:00");
}

#[test]
fn archives_of_urls_are_unpacked_only_if_that_is_wanted() {
    let (home, site) = (TestHome::sub(), Site::default());
    let web = WebServer::of(&site);
    let tar = tar_of(&home, "inside", "x");
    site.put("/a.tar.gz", Page::new(tar.clone()));
    let url = web.url("/a.tar.gz");
    let context = home.context("context");
    context.file("local.tgz", tar).dockerfile(&format!(
        "FROM scratch\nADD {url} local.tgz /as-it-is/\nADD --unpack=true {url} /unpacked/\n"
    ));
    let tree = home.build_tree(&context, &[]);
    tree.at("as-it-is/a.tar.gz").is_owned(0o600, 0, 0);
    // The local one is, in the same instruction.
    tree.at("as-it-is/inside").has_content("x");
    tree.at("unpacked/inside")
        .has_content("x")
        .is_owned(0o644, 7, 8);
}

#[test]
fn a_cached_build_with_a_checksum_asks_nobody() {
    let (home, site) = (TestHome::sub(), Site::default());
    let web = WebServer::of(&site);
    site.put("/file", Page::new("content"));
    let context = home.context("context");
    context.dockerfile(&format!(
        "FROM scratch\nARG SUM={}\nADD --checksum=$SUM {} /x\n",
        sha256("content"),
        web.url("/file")
    ));
    assert_eq!(home.build_text(&context, "x", &[]), "content");
    assert_eq!(web.take_lines(), ["GET /file"]);
    let again = home.build(&context, &[]);
    again.success().stderr_has("CACHED");
    assert!(web.take_requests().is_empty());
    // Even a step that runs anew needs no download.
    home.build(&context, &["--no-cache"]).success();
    assert!(web.take_requests().is_empty());
}

#[test]
fn without_a_checksum_the_server_is_asked_and_nothing_is_fetched_twice() {
    let (home, site) = (TestHome::sub(), Site::default());
    let web = WebServer::of(&site);
    site.put("/file", Page::new("one").etag("1"));
    let context = home.context("context");
    context.dockerfile(&format!("FROM scratch\nADD {} /x\n", web.url("/file")));
    assert_eq!(home.build_text(&context, "x", &[]), "one");
    web.take_requests();
    home.build(&context, &[]).success().stderr_has("CACHED");
    assert_eq!(web.take_lines(), ["HEAD /file"]);
    site.put("/file", Page::new("two").etag("2"));
    assert_eq!(home.build_text(&context, "x", &[]), "two");
    // Another name in the URL, the same bytes: what follows is the same.
    site.put("/mirror/file", Page::new("two"));
    context.dockerfile(&format!(
        "FROM scratch\nADD {} /x\n",
        web.url("/mirror/file")
    ));
    home.build(&context, &[]).success().stderr_has("CACHED");
}

#[test]
fn what_goes_wrong_is_told_with_its_line() {
    let (home, site) = (TestHome::sub(), Site::default());
    let web = WebServer::of(&site);
    site.put("/file", Page::new("evil"));
    let context = home.context("context");
    let missing = web.url("/missing");
    context.dockerfile(&format!("FROM scratch\n\nADD {missing} /x\n"));
    home.build(&context, &[])
        .exit_code(1)
        .stderr_has("Dockerfile:3")
        .stderr_has("invalid response status 404");
    context.dockerfile(&format!(
        "FROM scratch\nADD --checksum={} {} /x\n",
        sha256("good"),
        web.url("/file")
    ));
    home.build(&context, &[])
        .exit_code(1)
        .stderr_has("Dockerfile:2")
        .stderr_has("digest mismatch")
        .stderr_has(&sha256("evil"));
    context.dockerfile(&format!("FROM scratch\nCOPY {missing} /x\n"));
    home.build(&context, &[])
        .exit_code(1)
        .stderr_has("source can't be a URL for COPY");
    let port = ashlar_test_support::registry::free_port();
    context.dockerfile(&format!("FROM scratch\nADD http://127.0.0.1:{port}/x /x\n"));
    home.build(&context, &[])
        .exit_code(3)
        .stderr_has("cannot fetch http://127.0.0.1");
    home.assert_clean();
}

/// A repository with two commits, the first of them tagged.
fn sample(server: &GitServer) -> (Repository, String) {
    let repository = server.repository("app");
    repository
        .file("a", "one")
        .file("dir/run", "#!/bin/sh")
        .program("dir/run")
        .symlink("link", "a");
    let first = repository.commit_at(1_600_000_000);
    repository.git(["tag", "--annotate", "--message=x", "v1"]);
    repository.file("a", "two").commit();
    (repository, first)
}

#[test]
fn repositories_are_checked_out() {
    let (home, server) = (TestHome::sub(), GitServer::start());
    let (_repository, first) = sample(&server);
    let url = server.url("app");
    let context = home.context("context");
    context.dockerfile(&format!(
        "FROM scratch\nARG REF=v1\nADD {url} /main\nADD {url}#$REF /tag\nADD {url}#{first}:dir /dir\n\
         ADD --exclude=dir --chown=5:6 {url}?branch=main /part\nADD --keep-git-dir=true {url} /kept/\n\
         ADD --checksum={first} {url}#v1 /checked\n"
    ));
    let tree = home.build_tree(&context, &[]);
    tree.at("main/a").has_content("two").is_owned(0o644, 0, 0);
    tree.at("main/dir/run").is_owned(0o755, 0, 0);
    tree.at("main/link").links_to("a");
    tree.at("tag/a").has_content("one");
    tree.at("dir/run").has_content("#!/bin/sh");
    tree.at("part/a").is_owned(0o644, 5, 6);
    tree.at("kept/.git/HEAD").is_owned(0o644, 0, 0);
    tree.at("checked/a").has_content("one");
    assert!(tree.get("main/.git").is_none() && tree.get("part/dir").is_none());
}

#[test]
fn a_new_commit_with_the_same_files_runs_nothing() {
    let (home, server) = (TestHome::sub(), GitServer::start());
    let (repository, first) = sample(&server);
    let url = server.url("app");
    let context = home.context("context");
    context.dockerfile(&format!("FROM scratch\nADD {url}#:dir /x\n"));
    home.build(&context, &[]).success().stderr_lacks("CACHED");
    repository.file("elsewhere", "x").commit();
    home.build(&context, &[]).success().stderr_has("CACHED");
    // A commit by its id needs no server at all, once it is here.
    context.dockerfile(&format!("FROM scratch\nADD {url}#{first} /x\n"));
    home.build(&context, &[]).success();
    drop(server);
    home.build(&context, &[]).success().stderr_has("CACHED");
    home.build(&context, &["--no-cache"]).success();
}

#[test]
fn git_errors_say_what_to_do() {
    let (home, server) = (TestHome::sub(), GitServer::start());
    let (_repository, first) = sample(&server);
    let url = server.url("app");
    let context = home.context("context");
    for (source, code, message, hint) in [
        (
            format!("{url}#nowhere"),
            1,
            "does not contain ref nowhere",
            "name a branch",
        ),
        (
            format!("{url}#{}", &first[..7]),
            1,
            "does not contain ref",
            "all 40 digits",
        ),
        (
            format!("{url}?ref=main&checksum={first}"),
            1,
            "expected checksum to match",
            "",
        ),
        (format!("{url}#:none"), 1, "failed to open subdir none", ""),
        (format!("{url}?what=1"), 1, "unexpected query", ""),
    ] {
        context.dockerfile(&format!("FROM scratch\nADD {source} /x\n"));
        home.build(&context, &[])
            .exit_code(code)
            .stderr_has("Dockerfile:2")
            .stderr_has(message)
            .stderr_has(hint);
    }
    context.dockerfile(&format!("FROM scratch\nADD {url} /x\n"));
    home.build_command(&context, &[])
        .env("PATH", "/nonexistent")
        .run()
        .exit_code(3)
        .stderr_has("failed to find git binary")
        .stderr_has("install git");
    home.assert_clean();
}

#[test]
fn a_secret_logs_in() {
    let home = TestHome::sub();
    // x-access-token:t0ken
    let server = GitServer::with_login("basic eC1hY2Nlc3MtdG9rZW46dDBrZW4=");
    server.repository("app").file("f", "inside").commit();
    let context = home.context("context");
    context.dockerfile(&format!("FROM scratch\nADD {} /r/\n", server.url("app")));
    home.build(&context, &[]).stderr_has("GIT_AUTH_TOKEN");
    let token = home.path("token");
    fs::write(&token, "t0ken").unwrap();
    let secret = format!("id=GIT_AUTH_TOKEN,src={}", token.display());
    home.build_tree(&context, &["--secret", &secret])
        .at("r/f")
        .has_content("inside");
}
