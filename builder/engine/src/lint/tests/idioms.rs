//! Dockerfiles in the style of much-used ones (`tests/fixtures/idioms`) are read and planned, every
//! stage of them, and the linter finds in them what it should and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::planned::{Given, look};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/idioms")
}

/// The rules that a file breaks, each with the lines where it does.
type Broken<'a> = BTreeMap<&'a str, Vec<u32>>;

/// Rule and line of a finding's display.
fn rule_and_line(finding: &str) -> (&str, u32) {
    let (rule, rest) = finding.split_once(": ").unwrap();
    let (_, line) = rest.rsplit_once("(line ").unwrap();
    (rule, line.trim_end_matches(')').parse().unwrap())
}

#[track_caller]
fn assert_broken(name: &str, expected: &[(&str, &[u32])]) {
    let text = fs::read_to_string(folder().join(format!("{name}.Dockerfile"))).unwrap();
    let (findings, outcome) = look(&text, &Given::default());
    outcome.unwrap();
    let mut broken = Broken::new();
    for (rule, line) in findings.iter().map(|finding| rule_and_line(finding)) {
        broken.entry(rule).or_default().push(line);
    }
    for lines in broken.values_mut() {
        lines.sort_unstable();
    }
    let expected: Broken<'_> = expected
        .iter()
        .map(|(rule, lines)| (*rule, lines.to_vec()))
        .collect();
    assert_eq!(broken, expected);
}

/// A test for each file, and one that no file is forgotten.
macro_rules! idioms {
    ($($test:ident = $name:literal: $expected:expr,)*) => {
        $(#[test]
        fn $test() {
            assert_broken($name, &$expected);
        })*

        #[test]
        fn no_file_is_forgotten() {
            let entries = fs::read_dir(folder()).unwrap();
            let mut found: Vec<String> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            found.sort();
            let known = [$(concat!($name, ".Dockerfile")),*];
            assert_eq!(found, known);
        }
    };
}

// Official images write ENV without `=`, and a comment in a command may have an empty line after it.
idioms! {
    compilers = "compiler": [("LegacyKeyValueFormat", &[5, 7, 8])],
    databases = "database": [
        ("LegacyKeyValueFormat", &[17, 18, 44, 46, 47, 48, 65]),
        ("NoEmptyContinuation", &[43]),
    ],
    go_services = "go-service": [],
    node_services = "node-service": [("FromAsCasing", &[23])],
    sundries = "sundries": [
        ("ConsistentInstructionCasing", &[4, 16, 26, 27, 28]),
        ("JSONArgsRecommended", &[23, 28]),
        ("MaintainerDeprecated", &[2]),
        ("NoEmptyContinuation", &[8]),
        ("UndefinedVar", &[4, 4, 4]),
    ],
    toolchains = "toolchain": [("FromAsCasing", &[34]), ("LegacyKeyValueFormat", &[87])],
    web_servers = "web-server": [("LegacyKeyValueFormat", &[7, 8, 9])],
    other_escapes = "windows-style": [],
}
