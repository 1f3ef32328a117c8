//! Other people's programs.

use std::process::{Command, Output};

/// A command that must be there.
pub(crate) fn tool(program: &str, package: &str) -> Command {
    let found = std::env::split_paths("/usr/bin:/usr/sbin:/bin:/usr/local/bin")
        .any(|directory| directory.join(program).exists());
    assert!(
        found,
        "this test needs `{program}`: install the Debian package {package}"
    );
    Command::new(program)
}

/// Runs a command that must succeed; gives its standard output.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}",
        describe(&output)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn describe(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

pub(crate) fn skopeo() -> Command {
    let mut command = tool("skopeo", "skopeo");
    command.arg("--insecure-policy");
    command
}
