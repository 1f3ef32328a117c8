//! What a build asks of the kernel, seen by strace.

use std::fs;

use crate::binary;
use crate::command::TestCommand;
use crate::context::Context;
use crate::home::TestHome;

/// The system calls of one build.
#[derive(Debug)]
pub struct Trace {
    text: String,
}

impl Trace {
    /// Builds under strace, as root for the user's sake: a tracer without privileges would take
    /// newuidmap's away.
    #[track_caller]
    pub fn of_build(home: &TestHome, context: &Context, options: &[&str]) -> Self {
        let log = home.path("strace.log");
        let calls = "unshare,clone,clone3,mount,setns,fsopen,fsmount,move_mount,open_tree,umount2,\
                     pivot_root,execve,open,openat,openat2";
        TestCommand::root("strace")
            .args(["-f", "-y", "-s", "300", "-u", home.user().name(), "-e"])
            .arg(format!("trace={calls}"))
            .arg("-o")
            .arg(&log)
            .arg(binary::ashlar())
            .args(["build", "--progress", "plain"])
            .args(options)
            .arg(context.path())
            .env("HOME", home.home())
            .env("ASHLAR_HOME", home.store())
            .env("TMPDIR", home.temporary())
            .env("XDG_RUNTIME_DIR", home.root().join("run"))
            .run()
            .success();
        let text = fs::read_to_string(&log).expect("strace writes what it saw");
        Self { text }
    }

    /// The calls, one a line.
    pub fn calls(&self) -> impl Iterator<Item = &str> {
        self.text.lines()
    }

    /// The calls that make or enter a namespace, or mount something.
    pub fn of_namespaces(&self) -> Vec<&str> {
        self.calls()
            .filter(|call| enters_a_namespace(call))
            .collect()
    }

    /// The programs that were started, `ashlar` itself among them.
    pub fn programs(&self) -> Vec<&str> {
        self.calls()
            .filter(|call| call.contains("execve("))
            .collect()
    }
}

fn enters_a_namespace(line: &str) -> bool {
    let call = line
        .split_once(' ')
        .map_or("", |(_, call)| call.trim_start());
    let never = [
        "unshare(",
        "mount(",
        "setns(",
        "fsopen(",
        "fsmount(",
        "move_mount(",
        "open_tree(",
        "umount2(",
        "pivot_root(",
    ];
    never.iter().any(|name| call.starts_with(name))
        || (call.starts_with("clone") && call.contains("CLONE_NEW"))
        || (call.starts_with("<...") && call.contains("CLONE_NEW"))
}
