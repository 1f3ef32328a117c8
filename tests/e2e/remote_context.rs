//! Contexts from elsewhere: git repositories, archives and files of URLs; and those with names.

use std::fs;

use ashlar_test_support::bases;
use ashlar_test_support::command::Output;
use ashlar_test_support::git::{GitServer, Repository};
use ashlar_test_support::home::TestHome;
use ashlar_test_support::tree::Tree;
use ashlar_test_support::user::TestUser;
use ashlar_test_support::web::{Page, Site, WebServer};

/// Builds a context that is named as on the command line.
fn build(home: &TestHome, context: &str, options: &[&str]) -> Output {
    home.ashlar(["build", "--progress", "plain"])
        .args(options)
        .arg(context)
        .run()
}

#[track_caller]
fn tree_of(home: &TestHome, context: &str, options: &[&str]) -> Tree {
    let tar = home.path("tree.tar");
    let output = format!("type=tar,dest={}", tar.display());
    let all: Vec<&str> = ["-o", &output].iter().chain(options).copied().collect();
    build(home, context, &all).success();
    let tree = ashlar_test_support::judge::gnu_tar::read(&tar);
    fs::remove_file(&tar).unwrap();
    tree
}

fn sample(server: &GitServer) -> Repository {
    let repository = server.repository("app");
    repository
        .file("Dockerfile", "FROM scratch\nCOPY . /all/\n")
        .file("sub/Dockerfile", "FROM scratch\nCOPY file /only\n")
        .file("sub/other.Dockerfile", "FROM scratch\nCOPY file /other\n")
        .file("sub/file", "in sub")
        .file("a", "a")
        // Nobody heeds it.
        .file(".dockerignore", "a\n");
    repository.commit_at(1_600_000_000);
    repository.git(["tag", "v1"]);
    repository.file("a", "later").commit();
    repository
}

#[test]
fn a_repository_is_a_context() {
    let (home, server) = (TestHome::sub(), GitServer::start());
    sample(&server);
    let url = server.url("app");
    let tree = tree_of(&home, &url, &[]);
    tree.at("all/a").has_content("later").is_owned(0o644, 0, 0);
    tree.at("all/sub/file").has_content("in sub");
    tree.at("all/.dockerignore");
    assert!(tree.get("all/.git").is_none());
    tree_of(&home, &format!("{url}#v1"), &[])
        .at("all/a")
        .has_content("a");
    let sub = format!("{url}#v1:sub");
    tree_of(&home, &sub, &[]).at("only").has_content("in sub");
    let tree = tree_of(
        &home,
        &format!("{url}?tag=v1&subdir=sub"),
        &["-f", "other.Dockerfile"],
    );
    tree.at("other").has_content("in sub");
    let tree = tree_of(
        &home,
        &url,
        &["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"],
    );
    tree.at("all/.git/HEAD");
    build(&home, &url, &[])
        .success()
        .stderr_has("[internal] load git source");
    home.assert_clean();
}

#[test]
fn an_unchanged_repository_is_cached_whatever_happens_beside_it() {
    let (home, server) = (TestHome::sub(), GitServer::start());
    let repository = sample(&server);
    let url = format!("{}#:sub", server.url("app"));
    build(&home, &url, &[]).success().stderr_lacks("CACHED");
    repository.file("elsewhere", "x").commit();
    build(&home, &url, &[]).success().stderr_has("CACHED");
    repository.file("sub/file", "changed").commit();
    build(&home, &url, &[]).success().stderr_lacks("CACHED");
}

#[test]
fn links_of_a_repository_lead_nowhere_else() {
    let (home, server) = (TestHome::sub(), GitServer::start());
    let repository = server.repository("app");
    repository.file("real", "FROM scratch\nCOPY escape /x\n");
    repository.symlink("Dockerfile", "real");
    repository.symlink("escape", "/etc/passwd");
    repository.symlink("outside", "../../../../../../etc/passwd");
    repository.commit();
    let url = server.url("app");
    build(&home, &url, &[]).exit_code(1).stderr_has("not found");
    build(&home, &url, &["-f", "outside"])
        .exit_code(1)
        .stderr_has("failed to read dockerfile: outside");
}

#[test]
fn an_archive_is_a_context() {
    let (home, site) = (TestHome::sub(), Site::default());
    let web = WebServer::of(&site);
    let context = home.context("packed");
    context
        .dockerfile("FROM scratch\nCOPY . /all/\n")
        .file("a", "a")
        .mode("a", 0o640)
        .file("dir/b", "b")
        .file("dir/D", "FROM scratch\nCOPY dir/b /b\n")
        .file(".dockerignore", "a\n");
    for (name, flag) in [("plain.tar", "-c"), ("packed.tar.gz", "-cz")] {
        let output = std::process::Command::new("tar")
            .args([flag, "-C"])
            .arg(context.path())
            .arg(".")
            .output()
            .unwrap();
        site.put(&format!("/{name}"), Page::new(output.stdout).etag(name));
        let url = web.url(&format!("/{name}"));
        let tree = tree_of(&home, &url, &[]);
        tree.at("all/a").has_content("a").is_owned(0o640, 0, 0);
        tree.at("all/dir/b").has_content("b");
        tree_of(&home, &url, &["-f", "dir/D"])
            .at("b")
            .has_content("b");
        web.take_requests();
        build(&home, &url, &[]).success().stderr_has("CACHED");
        assert_eq!(web.take_lines(), [format!("HEAD /{name}")]);
    }
    home.assert_clean();
}

#[test]
fn a_dockerfile_alone_is_a_context_of_one_file() {
    let (home, site) = (TestHome::sub(), Site::default());
    let web = WebServer::of(&site);
    let text = "FROM scratch\nCOPY context /itself\n";
    site.put("/some/Dockerfile", Page::new(text));
    let url = web.url("/some/Dockerfile");
    tree_of(&home, &url, &[]).at("itself").has_content(text);
    site.put(
        "/some/Dockerfile",
        Page::new("FROM scratch\nCOPY other /x\n"),
    );
    build(&home, &url, &[]).exit_code(1).stderr_has("not found");
    site.remove("/some/Dockerfile");
    build(&home, &url, &[])
        .exit_code(1)
        .stderr_has("invalid response status 404");
}

#[test]
fn the_dockerfile_may_come_from_elsewhere_than_the_context() {
    let (home, site, server) = (TestHome::sub(), Site::default(), GitServer::start());
    let web = WebServer::of(&site);
    site.put("/D", Page::new("FROM scratch\nCOPY a /from-url\n"));
    sample(&server);
    let context = home.context("context");
    context.file("a", "local");
    let url = web.url("/D");
    let local = context.path().display().to_string();
    tree_of(&home, &local, &["-f", &url])
        .at("from-url")
        .has_content("local");
    let tree = tree_of(&home, &server.url("app"), &["-f", &url]);
    tree.at("from-url").has_content("later");
    let output = home
        .ashlar(["build", "-f", "-", &server.url("app")])
        .input("FROM scratch\nCOPY missing /x\n")
        .run();
    output.exit_code(1).stderr_has("\"/missing\": not found");
}

#[test]
fn contexts_from_elsewhere_have_names_too() {
    let (home, site, server) = (TestHome::sub(), Site::default(), GitServer::start());
    let web = WebServer::of(&site);
    site.put("/data.bin", Page::new("data").etag("1"));
    sample(&server);
    let git = server.url("app");
    let context = home.context("context");
    context.dockerfile(
        "FROM scratch\nCOPY --from=code /sub /sub\nCOPY --from=code /a /a\n\
         COPY --from=data /context /data\nCOPY --from=base /a /whole\n",
    );
    let (code, data, base) = (
        format!("code={git}#v1"),
        format!("data={}", web.url("/data.bin")),
        format!("base={git}"),
    );
    let options = [
        "--build-context",
        &code,
        "--build-context",
        &data,
        "--build-context",
        &base,
    ];
    let tree = home.build_tree(&context, &options);
    tree.at("sub/file").has_content("in sub");
    tree.at("a").has_content("a");
    tree.at("data").has_content("data").is_owned(0o600, 0, 0);
    tree.at("whole").has_content("later");
    // A stage of its own.
    context.dockerfile("FROM base\nCOPY --from=base /a /b\n");
    let tree = home.build_tree(&context, &options);
    tree.at("sub/file").has_content("in sub");
    tree.at("b").has_content("later");
    home.build(&context, &["--build-context", "x=target:y"])
        .exit_code(2)
        .stderr_has("unsupported context source target for x");
}

#[test]
fn a_named_repository_is_fetched_only_if_a_step_needs_it() {
    let (home, server) = (TestHome::sub(), GitServer::start());
    let repository = sample(&server);
    let named = format!("code={}#{}", server.url("app"), repository.id("v1"));
    let context = home.context("context");
    context.dockerfile("FROM scratch AS unused\nCOPY --from=code /a /a\nFROM scratch\n");
    home.build(&context, &["--build-context", &named]).success();
    assert!(server.web().take_requests().is_empty());
    context.dockerfile("FROM scratch\nCOPY --from=code /a /a\n");
    home.build(&context, &["--build-context", &named]).success();
    assert!(!server.web().take_requests().is_empty());
}

#[test]
fn the_epoch_may_be_that_of_the_context() {
    let (home, server) = (TestHome::sub(), GitServer::start());
    sample(&server);
    let url = format!("{}#v1:sub", server.url("app"));
    let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=context"];
    let tar = home.path("epoch.tar");
    let output = format!("type=tar,dest={}", tar.display());
    build(&home, &url, &[&epoch[..], &["-o", &output]].concat()).success();
    // 1600000000
    let times = ashlar_test_support::judge::gnu_tar::times(&tar);
    assert_eq!(times["only"], "2020-09-13 12:26:40");
}

#[test]
fn a_build_that_needs_the_sandbox_takes_remote_files_too() {
    let (home, server) = (TestHome::sub(), GitServer::start());
    let repository = server.repository("app");
    repository.file("a", "text").file(
        "Dockerfile",
        bases::busybox().dockerfile("COPY a /a\nRUN cat /a > /b\n"),
    );
    repository.commit();
    let tree = tree_of(&home, &server.url("app"), &[]);
    tree.at("b").has_content("text");
}

#[test]
fn a_user_without_subordinate_ids_fetches_as_well() {
    let (home, server) = (TestHome::new(TestUser::One), GitServer::start());
    sample(&server);
    let tree = tree_of(&home, &server.url("app"), &[]);
    tree.at("all/a").has_content("later");
}

#[test]
fn what_was_fetched_is_shown_and_pruned() {
    let (home, server) = (TestHome::sub(), GitServer::start());
    sample(&server);
    build(&home, &server.url("app"), &[]).success();
    let usage = home.ashlar(["du"]).text();
    assert!(usage.contains("Fetched sources"), "{usage}");
    let pruned = home.ashlar(["prune", "--all", "--force"]).text();
    assert!(pruned.contains("Removed 2 sources"), "{pruned}");
    assert_eq!(
        fs::read_dir(home.store().join("sources/git"))
            .unwrap()
            .count(),
        0
    );
    build(&home, &server.url("app"), &[]).success();
}

#[test]
fn a_directory_that_looks_like_a_url_is_a_directory() {
    let home = TestHome::sub();
    let context = home.context("github.com/x/y");
    context
        .dockerfile("FROM scratch\nCOPY a /a\n")
        .file("a", "a");
    tree_of(&home, "github.com/x/y", &[])
        .at("a")
        .has_content("a");
}

#[test]
fn a_mount_takes_a_repository() {
    let (home, server) = (TestHome::sub(), GitServer::start());
    sample(&server);
    let context = home.context("context");
    context.dockerfile(
        &bases::busybox()
            .dockerfile("RUN --mount=from=dep,source=sub,target=/m cp /m/file /copied\n"),
    );
    tree_of(
        &home,
        context.path().to_str().unwrap(),
        &["--build-context", &format!("dep={}", server.url("app"))],
    )
    .at("copied")
    .has_content("in sub");
}
