//! `ashlar cache`: why a step ran, and what a cache holds.

use ashlar_test_support::cache_server::CacheServer;
use ashlar_test_support::registry::free_port;
use ashlar_test_support::user::TestUser;
use serde_json::Value;

use super::{MEGABYTE, Machine, branches};

/// `ashlar cache explain --format json`, a row for each step that was not found.
#[track_caller]
fn explained(machine: &Machine, arguments: &[&str]) -> Vec<Value> {
    let output = machine
        .home
        .ashlar(["cache", "explain", "--format", "json"])
        .args(arguments)
        .run();
    output.success();
    output.json_lines()
}

/// The row of the step whose name has some text.
#[track_caller]
fn row<'a>(rows: &'a [Value], step: &str) -> &'a Value {
    let named = |row: &&Value| row["Step"].as_str().unwrap().contains(step);
    let found: Vec<&Value> = rows.iter().filter(named).collect();
    assert_eq!(found.len(), 1, "{step}: {rows:#?}");
    found[0]
}

#[test]
fn a_changed_file_is_named_as_the_reason() {
    let machine = Machine::new(TestUser::Sub, "context", &[]);
    branches(&machine.context);
    machine.build(&[]);
    let rows = explained(&machine, &[]);
    assert_eq!(row(&rows, "COPY small")["Cause"], "new", "{rows:#?}");

    machine.context.file("right/inner/text", "left\n");
    machine.build(&[]);
    let rows = explained(&machine, &[]);
    let copied = row(&rows, "COPY right /r");
    assert_eq!(copied["Cause"], "differs", "{rows:#?}");
    let files = &copied["Differences"][0]["Files"];
    assert_eq!(files[0]["Path"], "/right/inner/text", "{copied:#}");
    assert_eq!(files[0]["Change"], "content", "{copied:#}");
    // What follows is told by what it follows.
    let followed = row(&rows, "RUN cat /r/");
    assert_eq!(followed["Differences"][0]["Kind"], "filesystem");
    assert!(
        followed["Differences"][0]["Of"]
            .as_str()
            .unwrap()
            .contains("COPY right /r"),
        "{followed:#}"
    );
    let table = machine
        .home
        .ashlar(["cache", "explain", "COPY right"])
        .run();
    table.success();
    assert!(table.stdout().contains("right/inner/text"), "{table}");
    assert!(!table.stdout().contains("COPY small"), "{table}");
}

#[test]
fn arguments_and_commands_are_reasons_too() {
    let machine = Machine::new(TestUser::Sub, "context", &[]);
    let busybox = ashlar_test_support::bases::busybox();
    let dockerfile = |command: &str| {
        busybox.dockerfile(&format!(
            "ARG VERSION=1\nENV LEVEL=low\nRUN echo $VERSION\nRUN {command}\n"
        ))
    };
    machine.context.dockerfile(&dockerfile("echo once"));
    machine.build(&[]);
    machine.context.dockerfile(&dockerfile("echo twice"));
    machine.build(&["--build-arg", "VERSION=2"]);
    let rows = explained(&machine, &[]);
    let first = row(&rows, "RUN echo $VERSION").to_string();
    assert!(
        first.contains("VERSION=1") && first.contains("VERSION=2"),
        "{first}"
    );
    assert!(!first.contains("LEVEL"), "{first}");
    let second = row(&rows, "RUN echo twice").to_string();
    assert!(second.contains("echo once"), "{second}");
}

#[test]
fn a_build_that_missed_nothing_hides_no_earlier_one() {
    let machine = Machine::new(TestUser::Sub, "context", &[]);
    branches(&machine.context);
    machine.build(&[]);
    machine.context.file("small", "SMALL\n");
    machine.build(&[]);
    machine.build(&[]).assert_ran(&[]);
    let rows = explained(&machine, &[]);
    assert_eq!(
        row(&rows, "COPY small")["Differences"][0]["Files"][0]["Path"],
        "/small"
    );
}

#[test]
fn stats_and_ls_tell_what_a_cache_holds() {
    let server = CacheServer::start();
    let machine = Machine::first(&server.url());
    let command = |name: &str| {
        machine
            .home
            .ashlar(["cache", name, "--format", "json", "--cache", &server.url()])
            .run()
    };
    let stats = command("stats");
    stats.success();
    assert_eq!(stats.json_lines()[0]["Results"], 0, "{stats}");
    assert_eq!(command("ls").success().json_lines(), Vec::<Value>::new());

    machine.build(&[]);
    Machine::second(&server.url()).build(&[]);
    let stats = command("stats").json_lines()[0].clone();
    assert!(stats["Results"].as_u64().unwrap() >= 9, "{stats:#}");
    assert!(stats["Size"].as_u64().unwrap() > 10 * MEGABYTE, "{stats:#}");
    assert!(stats["Hits"].as_u64().unwrap() > 0, "{stats:#}");
    let listed = command("ls").json_lines();
    let of_kind = |kind: &str| listed.iter().filter(|row| row["Kind"] == kind).count();
    assert_eq!(of_kind("definition"), 9, "{listed:#?}");
    let table = machine
        .home
        .ashlar(["cache", "stats", "--cache", &server.url()])
        .run();
    table.success();
    assert!(table.stdout().contains(&server.url()), "{table}");
}

#[test]
fn a_cache_that_does_not_answer_is_an_error_here() {
    let machine = Machine::new(TestUser::Sub, "context", &[]);
    let url = format!("grpc://127.0.0.1:{}", free_port());
    for name in ["stats", "ls"] {
        let output = machine.home.ashlar(["cache", name, "--cache", &url]).run();
        assert!(matches!(output.code(), Some(1 | 3)), "{output}");
        assert!(output.one_error().contains(&url), "{output}");
        let output = machine.home.ashlar(["cache", name]).run();
        assert!(matches!(output.code(), Some(1..=3)), "{output}");
        output.one_error();
    }
}
