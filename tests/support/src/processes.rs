//! Processes and mounts that should not be there any more.
//!
//! The test process is a subreaper: whatever loses its parent below it becomes its child. So its
//! descendants, less the commands that are known to run and their descendants, are what a command
//! left behind, whichever user or namespace it ran in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::{Mutex, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_child_subreaper};

/// How long what is dying may take to be gone.
const GRACE: Duration = Duration::from_secs(5);

/// The commands that run with the test's knowledge.
static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// A process as /proc shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub id: u32,
    /// Its parent's id.
    pub parent: u32,
    /// Its command line, or its name where it has none.
    pub command: String,
}

impl Process {
    /// Kills it. That it is gone already is no error.
    pub fn kill(&self) {
        if let Some(pid) = i32::try_from(self.id).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Makes this process the parent of every orphan below it.
pub(crate) fn adopt_orphans() {
    static ADOPT: Once = Once::new();
    ADOPT.call_once(|| {
        // Any process id will do as "on".
        set_child_subreaper(Some(rustix::process::getpid())).expect("cannot become a subreaper");
    });
}

pub(crate) fn register(id: u32) {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    running.insert(id);
}

pub(crate) fn unregister(id: u32) {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    running.remove(&id);
}

/// All processes of this machine but zombies, by id.
pub fn all() -> BTreeMap<u32, Process> {
    let entries = fs::read_dir("/proc").expect("/proc cannot be read");
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|id: u32| {
            // Any of the files may be gone together with its process.
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            let (before, after) = stat.rsplit_once(')')?;
            let mut fields = after.split_whitespace();
            if matches!(fields.next()?, "Z" | "X") {
                return None;
            }
            let parent = fields.next()?.parse().ok()?;
            let line = fs::read(format!("/proc/{id}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let name = before.split_once('(')?.1;
            let command = if line.is_empty() { name } else { line.trim() };
            let command = command.to_owned();
            Some((
                id,
                Process {
                    id,
                    parent,
                    command,
                },
            ))
        })
        .collect()
}

/// The descendants of a process.
pub fn descendants(ancestor: u32) -> Vec<Process> {
    below(ancestor, &BTreeSet::new())
}

/// The descendants of a process, without those of some others and these themselves.
fn below(ancestor: u32, without: &BTreeSet<u32>) -> Vec<Process> {
    let all = all();
    let mut found = Vec::new();
    let mut ancestors = vec![ancestor];
    while let Some(id) = ancestors.pop() {
        for process in all.values() {
            if process.parent == id && !without.contains(&process.id) {
                ancestors.push(process.id);
                found.push(process.clone());
            }
        }
    }
    found
}

/// What commands that have ended left behind.
pub fn leftovers() -> Vec<Process> {
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    below(std::process::id(), &running)
}

/// Asserts that no command left a process behind, and kills those that did.
#[track_caller]
pub fn assert_none_left() {
    let deadline = Instant::now() + GRACE;
    let mut left = leftovers();
    while !left.is_empty() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
        left = leftovers();
    }
    for process in &left {
        process.kill();
    }
    assert!(left.is_empty(), "processes were left behind: {left:#?}");
}

/// The mount points of this machine that lie under a directory.
pub fn mounts_under(directory: &Path) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("cannot read the mount table");
    mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| Path::new(point).starts_with(directory))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::TestCommand;

    #[test]
    fn an_orphan_is_found_and_what_runs_with_our_knowledge_is_not() {
        let _known = TestCommand::root("sleep").arg("1000").start();
        let script = "setsid sleep 1001 >/dev/null 2>&1 </dev/null & exec true";
        TestCommand::root("sh").args(["-c", script]).run().success();
        // Until it has replaced itself twice, the orphan goes by other names, or by half of one.
        let found =
            || -> Vec<String> { leftovers().into_iter().map(|left| left.command).collect() };
        let deadline = Instant::now() + GRACE;
        while found() != ["sleep 1001"] && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(found(), ["sleep 1001"]);
        for process in leftovers() {
            process.kill();
        }
        assert_none_left();
    }
}
