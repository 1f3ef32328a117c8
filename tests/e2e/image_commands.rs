//! The commands that show and change what is in the store.

use ashlar_test_support::bases;
use ashlar_test_support::command::Output;
use ashlar_test_support::home::TestHome;
use serde_json::Value;

fn home_with_images() -> TestHome {
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile(&bases::busybox().dockerfile(
            "LABEL is=one\nENV A=1\nRUN echo one > /one\nCOPY f /f\nCMD [\"cat\", \"/one\"]\n",
        ))
        .file("f", vec![b'x'; 100_000]);
    home.build(&context, &["-t", "one:1"]).success();
    context.dockerfile("FROM scratch\nLABEL is=two\nCOPY f /g\n");
    home.build(&context, &["-t", "example.com/team/two:2"])
        .success();
    home
}

fn command(home: &TestHome, arguments: &[&str]) -> Output {
    home.ashlar(arguments).run()
}

fn names(home: &TestHome) -> String {
    let output = command(home, &["images", "--format", "json"]);
    output
        .success()
        .json_lines()
        .iter()
        .map(Value::to_string)
        .collect()
}

#[test]
fn images_lists_them_for_people_and_programs() {
    let home = home_with_images();
    let table = command(&home, &["images"]);
    let table = table.success().stdout().into_owned();
    let mut lines = table.lines();
    assert!(lines.next().unwrap().contains("TAG"), "{table}");
    assert_eq!(lines.count(), 2, "{table}");
    assert!(table.contains("example.com/team/two"), "{table}");
    assert_eq!(
        command(&home, &["images", "--format", "json"])
            .json_lines()
            .len(),
        2
    );
    let ids = command(&home, &["images", "-q"]);
    assert_eq!(ids.success().stdout().lines().count(), 2);
    let empty = TestHome::sub();
    assert_eq!(
        command(&empty, &["images", "--format", "json"])
            .success()
            .stdout(),
        ""
    );
}

#[test]
fn tags_are_added_and_removed() {
    let home = home_with_images();
    command(&home, &["tag", "one:1", "again:latest"]).success();
    assert!(names(&home).contains("again"));
    let output = command(&home, &["run", "--rm", "again"]);
    assert_eq!(output.success().stdout(), "one\n");
    command(&home, &["rmi", "one:1"]).success();
    assert!(!names(&home).contains("\"one"), "{}", names(&home));
    // The other name keeps the image.
    assert_eq!(
        command(&home, &["run", "--rm", "again"]).success().stdout(),
        "one\n"
    );
    command(&home, &["rmi", "nothing:1"])
        .exit_code(1)
        .stderr_has("nothing:1");
    command(&home, &["tag", "nothing:1", "x"])
        .exit_code(1)
        .stderr_has("nothing:1");
}

#[test]
fn inspect_shows_the_configuration() {
    let home = home_with_images();
    let inspected = command(&home, &["inspect", "one:1", "example.com/team/two:2"]);
    let inspected = inspected.success().json();
    assert_eq!(inspected[0]["Config"]["Labels"]["is"], "one");
    assert_eq!(inspected[1]["Config"]["Labels"]["is"], "two");
    assert_eq!(
        inspected[0]["Config"]["Cmd"],
        serde_json::json!(["cat", "/one"])
    );
    assert_eq!(inspected[0]["Os"], "linux");
    assert_eq!(
        inspected[0]["RootFS"]["Layers"].as_array().unwrap().len(),
        3
    );
    command(&home, &["inspect", "nothing"])
        .exit_code(1)
        .stderr_has("nothing");
}

#[test]
fn history_tells_how_an_image_was_made() {
    let home = home_with_images();
    let table = command(&home, &["history", "one:1"]);
    let table = table.success().stdout().into_owned();
    for told in ["RUN", "COPY f /f", "CMD", "ENV A=1"] {
        assert!(table.contains(told), "{told} is missing: {table}");
    }
    let lines = command(&home, &["history", "--format", "json", "one:1"]).json_lines();
    // The newest first, as Docker has it.
    assert!(lines[0].to_string().contains("CMD"), "{}", lines[0]);
}

#[test]
fn du_and_prune_agree_about_what_is_there() {
    let home = home_with_images();
    command(&home, &["du"]).success();
    let sums = command(&home, &["du", "--format", "json"]);
    assert!(!sums.success().stdout().is_empty());
    command(&home, &["rmi", "one:1", "example.com/team/two:2"]).success();
    command(&home, &["prune", "--all", "--force"]).success();
    assert_eq!(names(&home), "");
    let of_images = home.store_paths_named("one");
    assert!(
        of_images.is_empty(),
        "files of a pruned layer are left: {of_images:?}"
    );
    let bytes: u64 = home
        .store_paths()
        .iter()
        .filter_map(|path| std::fs::symlink_metadata(path).ok())
        .filter(std::fs::Metadata::is_file)
        .map(|metadata| metadata.len())
        .sum();
    assert!(
        bytes < 1 << 20,
        "{bytes} bytes are left after pruning everything"
    );
}

#[test]
fn prune_keeps_what_a_tag_needs() {
    let home = home_with_images();
    command(&home, &["rmi", "example.com/team/two:2"]).success();
    command(&home, &["prune", "--all", "--force"]).success();
    assert_eq!(
        command(&home, &["run", "--rm", "one:1"]).success().stdout(),
        "one\n"
    );
    let pulled = home.path("out.tar");
    let context = home.context("from-the-store");
    context.dockerfile("FROM one:1\nRUN cat /one > /two\n");
    home.build(
        &context,
        &["-o", &format!("type=oci,dest={}", pulled.display())],
    )
    .success();
}

#[test]
fn an_image_of_the_store_is_a_base() {
    let home = home_with_images();
    let context = home.context("next");
    context.dockerfile("FROM one:1\nRUN cat /one > /copied\n");
    home.build_tree(&context, &[])
        .at("copied")
        .has_content("one\n");
}

#[test]
fn usage_errors_return_two_and_help_returns_zero() {
    let home = TestHome::sub();
    for arguments in [
        &["nosuchcommand"][..],
        &["build"],
        &["images", "--nosuch"],
        &["tag", "x"],
    ] {
        command(&home, arguments).exit_code(2);
    }
    let help = command(&home, &["--help"]);
    for name in [
        "build", "run", "images", "tag", "inspect", "history", "pull", "push", "rmi", "prune", "du",
    ] {
        assert!(
            help.success().stdout().contains(name),
            "{name} is not in the help"
        );
        assert!(
            !command(&home, &[name, "--help"])
                .success()
                .stdout()
                .is_empty()
        );
    }
}
