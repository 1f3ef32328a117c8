//! What is written wrongly, and where nothing can be written.

use std::fs::File;

use super::environment::{TestEnvironment, run};

#[test]
fn usage_errors_return_two_and_say_what_is_meant() {
    let environment = TestEnvironment::new();
    for (arguments, said) in [
        (&[][..], "Usage: ashlar"),
        (&["nosuchcommand"], "unrecognized subcommand"),
        (&["biuld", "."], "'build'"),
        (&["build"], "<CONTEXT>"),
        (&["build", "--no-cahce", "."], "'--no-cache'"),
        (&["build", "-f", "-", "-"], "standard input"),
        (&["build", "-t", "UPPER", "."], "lowercase"),
        (
            &["images", "--format", "xml"],
            "possible values: table, json",
        ),
        (&["tag", "x"], "<NAME>"),
        (&["prune", "--keep-storage", "lots"], "no size"),
        (&["run", "-v", "data:/data", "x"], "./data"),
    ] {
        let error = environment.run(arguments).error(2);
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}

#[test]
fn without_any_home_the_user_is_told_what_to_set() {
    let environment = TestEnvironment::new();
    let mut command = environment.command(&["images"]);
    command.env_remove("ASHLAR_HOME").env_remove("HOME");
    let error = run(&mut command).error(2);
    assert!(error.contains("hint: set ASHLAR_HOME"), "{error}");
}

#[test]
fn a_store_that_cannot_be_made_is_an_environment_error() {
    let environment = TestEnvironment::new();
    let file = environment.path().join("file");
    File::create(&file).unwrap();
    let place = file.join("store");
    let error = environment
        .run(&["images", "--home", place.to_str().unwrap()])
        .error(3);
    assert!(error.starts_with("error: cannot "), "{error}");
    assert!(error.contains(place.to_str().unwrap()), "{error}");
    assert!(error.contains("caused by: Not a directory"), "{error}");
}

#[test]
fn a_store_of_another_version_is_left_alone() {
    let environment = TestEnvironment::new();
    std::fs::write(environment.home.root().join("FORMAT"), "ashlar home 99\n").unwrap();
    let error = environment.run(&["images"]).error(3);
    assert!(error.contains("ashlar home 99"), "{error}");
}

#[test]
fn the_flag_beats_the_environment() {
    let environment = TestEnvironment::with_images();
    let empty = environment.path().join("empty");
    let arguments = ["images", "-q", "--home", empty.to_str().unwrap()];
    assert_eq!(environment.run(&arguments).stdout(), "");
    assert!(!environment.run(&["images", "-q"]).stdout().is_empty());
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let environment = TestEnvironment::with_images();
    for arguments in [&["images"][..], &["--help"], &["inspect", "app:1"]] {
        let mut child = environment
            .command(arguments)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(output.stderr, b"", "{arguments:?}");
    }
}

#[test]
fn a_full_disk_under_standard_output_is_told() {
    let environment = TestEnvironment::with_images();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = environment
        .command(&["images"])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("standard output"), "{stderr}");
}
