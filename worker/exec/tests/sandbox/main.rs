//! The sandbox on this kernel, as real users.
//!
//! Run as root. Every test runs as one or more of the users that `tests/support/scripts/users.sh`
//! makes, in a process of its own, which is this program once more. It speaks the part of the
//! standard harness's language that cargo and nextest need.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "all of this is test code, which the lints recognise only in the standard harness"
)]

mod commands;
mod ending;
mod executor;
mod files;
mod isolation;
mod layers;
mod rig;
mod streams;
mod users;

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use ashlar_exec::sandbox::run_if_child;
use rig::{Rig, User};

/// A test and whom it concerns.
pub(crate) struct Test {
    name: &'static str,
    users: &'static [User],
    body: fn(&Rig),
}

/// Says that a function is a test, and as whom it runs.
macro_rules! test {
    ($users:expr, $module:ident :: $name:ident) => {
        crate::Test {
            name: concat!(stringify!($module), "::", stringify!($name)),
            users: $users,
            body: crate::$module::$name,
        }
    };
}
pub(crate) use test;

/// A test's full name, as whom it runs, and what it does.
type Case = (String, User, fn(&Rig));

fn tests() -> Vec<Case> {
    let modules = [
        commands::TESTS,
        ending::TESTS,
        executor::TESTS,
        files::TESTS,
        isolation::TESTS,
        layers::TESTS,
        streams::TESTS,
        users::TESTS,
    ];
    let all = modules.into_iter().flatten();
    all.flat_map(|test| {
        test.users
            .iter()
            .map(|user| (format!("{}::as_{user}", test.name), *user, test.body))
    })
    .collect()
}

fn main() -> ExitCode {
    if let Some(code) = run_if_child(files::handle) {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["--inside", name, directory] => inside(name, Path::new(directory)),
        ["--mode", directory] => users::print_mode(Path::new(directory)),
        ["--build-for-ever", directory] => ending::build_for_ever(Path::new(directory)),
        arguments if arguments.contains(&"--list") => list(arguments),
        arguments => run_all(arguments),
    }
}

fn list(arguments: &[&str]) -> ExitCode {
    // None is ignored.
    if !arguments.contains(&"--ignored") {
        for (name, ..) in tests() {
            println!("{name}: test");
        }
    }
    ExitCode::SUCCESS
}

/// Runs the tests that the arguments choose, as the standard harness would.
fn run_all(arguments: &[&str]) -> ExitCode {
    let exact = arguments.contains(&"--exact");
    let filters: Vec<_> = arguments
        .iter()
        .filter(|text| !text.starts_with('-'))
        .collect();
    let chosen = |name: &str| {
        filters.is_empty()
            || filters.iter().any(|filter| {
                if exact {
                    **filter == name
                } else {
                    name.contains(**filter)
                }
            })
    };
    let mut failed = 0;
    for (name, user, _) in tests().into_iter().filter(|(name, ..)| chosen(name)) {
        let passed = run_as(&name, user);
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += usize::from(!passed);
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs one test in a process that belongs to the user.
fn run_as(name: &str, user: User) -> bool {
    assert!(
        rustix::process::getuid().is_root(),
        "these tests become other users, so they must be started by root"
    );
    let (uid, gid) = user.ids();
    let directory = tempfile::Builder::new()
        .prefix("ashlar-sandbox-")
        .tempdir_in("/var/tmp")
        .unwrap();
    std::os::unix::fs::chown(directory.path(), Some(uid), Some(gid)).unwrap();
    let status = Command::new("setpriv")
        .args([format!("--reuid={uid}"), format!("--regid={gid}")])
        .arg("--init-groups")
        .arg(std::env::current_exe().unwrap())
        .arg("--inside")
        .arg(name)
        .arg(directory.path())
        .current_dir("/")
        .env("HOME", directory.path())
        .process_group(0)
        .status()
        .expect("setpriv (package util-linux) is needed");
    status.success()
}

/// The test itself, as the user.
fn inside(name: &str, directory: &Path) -> ExitCode {
    let (_, user, body) = tests()
        .into_iter()
        .find(|(known, ..)| known == name)
        .unwrap();
    let rig = Rig::new(directory, user);
    body(&rig);
    rig.finish();
    ExitCode::SUCCESS
}
