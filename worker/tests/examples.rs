//! The settings and flags of `examples/farm` are such as there are.

use std::fs;
use std::path::{Path, PathBuf};

use ashlar_worker::cli::Cli;
use ashlar_worker::settings::file;
use clap::Parser as _;

fn example(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/farm");
    root.join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(example(name)).expect(name)
}

#[test]
fn the_settings_can_be_read() {
    let options = file::read(&example("worker.toml")).expect("settings");
    assert!(options.farm.is_some() && options.grace.is_some());
}

#[test]
fn the_manifests_flags_are_flags() {
    let text = text("kubernetes/worker.yaml");
    let mut lines = text
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != "args:");
    lines.next();
    let arguments = lines.map_while(|line| line.strip_prefix("- "));
    let arguments: Vec<&str> = std::iter::once("ashlar-worker").chain(arguments).collect();
    assert!(arguments.len() > 6, "{arguments:?}");
    Cli::try_parse_from(arguments).expect("a command line");
}

#[test]
fn the_units_command_line_is_one() {
    let text = text("ashlar-worker.service");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let words: Vec<&str> = line.expect("a command").split(' ').collect();
    Cli::try_parse_from(words).expect("a command line");
}
