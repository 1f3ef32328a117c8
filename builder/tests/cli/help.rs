//! The help is part of the interface: a change of it is a change that somebody must want.

use super::environment::TestEnvironment;

const COMMANDS: [&str; 23] = [
    "build",
    "submit",
    "logs",
    "wait",
    "cancel",
    "builds",
    "run",
    "images",
    "tag",
    "inspect",
    "history",
    "pull",
    "push",
    "rmi",
    "prune",
    "du",
    "fsck",
    "cache",
    "cache explain",
    "cache keygen",
    "cache ls",
    "cache stats",
    "version",
];

#[test]
fn the_help_is_as_it_was() {
    let environment = TestEnvironment::new();
    let mut help = environment.run(&["--help"]).stdout();
    for command in COMMANDS {
        help.push_str(&format!("\n===== ashlar {command} --help\n\n"));
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        help.push_str(&environment.run(&words).stdout());
    }
    let actual = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("help.txt");
    std::fs::write(&actual, &help).unwrap();
    assert!(
        help == include_str!("help.txt"),
        "the help has changed; if it should, copy {} to builder/tests/cli/help.txt",
        actual.display()
    );
}

#[test]
fn the_version_is_told_in_both_ways() {
    let environment = TestEnvironment::new();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        environment.run(&["--version"]).stdout(),
        format!("ashlar {version}\n")
    );
    let json = environment
        .run(&["version", "--format", "json"])
        .json_lines();
    assert_eq!(json[0]["Version"], version);
    assert!(json[0]["Platform"].as_str().unwrap().starts_with("linux/"));
}
