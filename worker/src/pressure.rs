//! What the kernel says about memory and processors: `/proc/meminfo`, `/proc/pressure`, and the same
//! of this process's control group where it has one.

use std::fs;
use std::path::{Path, PathBuf};

/// How busy the machine is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pressure {
    /// Bytes of memory that new work can have.
    pub available: Option<u64>,
    /// In how much of the last ten seconds some task waited for memory, in percent.
    pub memory: Option<f64>,
    /// In how much of the last ten seconds some task waited for a processor, in percent.
    pub cpu: Option<f64>,
}

/// Reads it.
#[derive(Debug, Clone)]
pub struct Gauge {
    /// `/proc`.
    proc: PathBuf,
    /// The directories of this process's control group and of all above it, in version 2 of their
    /// interface.
    groups: Vec<PathBuf>,
}

impl Gauge {
    /// A gauge of this machine and of this process's control group.
    pub fn new() -> Self {
        Self::of(Path::new("/proc"), Path::new("/sys/fs/cgroup"))
    }

    /// The same, where the kernel's files are elsewhere.
    fn of(proc: &Path, all_groups: &Path) -> Self {
        let membership = fs::read_to_string(proc.join("self/cgroup")).unwrap_or_default();
        let own = group_path(&membership).map(|path| all_groups.join(path));
        let own = own.filter(|path| path.is_dir());
        let groups = own.iter().flat_map(|own| own.ancestors());
        let groups = groups.take_while(|path| path.starts_with(all_groups));
        Self {
            groups: groups.map(Path::to_owned).collect(),
            proc: proc.to_owned(),
        }
    }

    /// What is said now. What cannot be read is not said.
    pub fn read(&self) -> Pressure {
        let text = |path: &str| fs::read_to_string(self.proc.join(path)).ok();
        let of_group = |name: &str| fs::read_to_string(self.groups.first()?.join(name)).ok();
        let machine = text("meminfo").and_then(|text| available(&text));
        let groups = self.groups.iter().filter_map(|group| left_in(group));
        let worse = |one: Option<String>, other: Option<String>| {
            let stalled = [one, other].into_iter().flatten();
            stalled
                .filter_map(|text| stalled_for(&text))
                .reduce(f64::max)
        };
        Pressure {
            available: groups.chain(machine).min(),
            memory: worse(text("pressure/memory"), of_group("memory.pressure")),
            cpu: worse(text("pressure/cpu"), of_group("cpu.pressure")),
        }
    }
}

/// How much a control group with a limit has left.
fn left_in(group: &Path) -> Option<u64> {
    let text = |name: &str| fs::read_to_string(group.join(name)).ok();
    let max: u64 = text("memory.max")?.trim().parse().ok()?;
    let used: u64 = text("memory.current")?.trim().parse().ok()?;
    // What is cached of files can be had.
    let cached = text("memory.stat").and_then(|text| inactive_file(&text));
    Some(max.saturating_sub(used.saturating_sub(cached.unwrap_or(0))))
}

impl Default for Gauge {
    fn default() -> Self {
        Self::new()
    }
}

/// The path in the unified hierarchy: the line that begins with `0::`.
fn group_path(membership: &str) -> Option<&str> {
    let mut lines = membership.lines();
    let path = lines.find_map(|line| line.strip_prefix("0::"))?;
    let path = path.trim_start_matches('/');
    // Of a group above the namespace's root nothing can be read here.
    (!path.starts_with("..")).then_some(path)
}

fn available(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let rest = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

fn inactive_file(stat: &str) -> Option<u64> {
    let mut lines = stat.lines();
    lines.find_map(|line| line.strip_prefix("inactive_file ")?.trim().parse().ok())
}

/// `some avg10=…` of a pressure file.
fn stalled_for(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let mut fields = line.split_whitespace();
    fields.find_map(|field| field.strip_prefix("avg10=")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        let text = "MemTotal:  8000000 kB\nMemFree: 1 kB\nMemAvailable:    1024 kB\n";
        assert_eq!(available(text), Some(1 << 20));
        let text = "some avg10=12.50 avg60=1.00 avg300=0.10 total=1\nfull avg10=99.00\n";
        assert_eq!(stalled_for(text), Some(12.5));
        assert_eq!(inactive_file("anon 7\ninactive_file 42\n"), Some(42));
        assert_eq!(
            group_path("1:cpu:/x\n0::/user.slice/a\n"),
            Some("user.slice/a")
        );
        assert_eq!(group_path("0::/../b\n"), None);
        for nonsense in ["", "some", "some avg10=x", "MemAvailable: many kB", "0:"] {
            assert_eq!(available(nonsense), None);
            assert_eq!(stalled_for(nonsense), None);
            assert_eq!(group_path(nonsense), None);
        }
    }

    /// Writes files below a directory.
    fn files(root: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn the_least_that_the_machine_and_all_groups_have_left_counts() {
        let root = tempfile::tempdir().unwrap();
        let (proc, groups) = (root.path().join("proc"), root.path().join("groups"));
        files(
            &proc,
            &[
                ("self/cgroup", "0::/a.slice/worker.service\n"),
                ("meminfo", "MemAvailable: 1000 kB\n"),
                ("pressure/memory", "some avg10=1.50 avg60=0.00\n"),
                ("pressure/cpu", "some avg10=70.00 avg60=0.00\n"),
            ],
        );
        files(
            &groups,
            &[
                ("a.slice/memory.max", "900000\n"),
                ("a.slice/memory.current", "800000\n"),
                ("a.slice/memory.stat", "anon 1\ninactive_file 50000\n"),
                ("a.slice/worker.service/memory.max", "max\n"),
                ("a.slice/worker.service/memory.current", "800000\n"),
                (
                    "a.slice/worker.service/memory.pressure",
                    "some avg10=25.00 avg60=0.00\n",
                ),
            ],
        );
        let gauge = Gauge::of(&proc, &groups);
        let expected = Pressure {
            available: Some(150_000),
            memory: Some(25.0),
            cpu: Some(70.0),
        };
        assert_eq!(gauge.read(), expected);
        // It is read anew each time.
        files(&groups, &[("a.slice/memory.current", "100000\n")]);
        files(&proc, &[("meminfo", "MemAvailable: 10 kB\n")]);
        assert_eq!(gauge.read().available, Some(10 << 10));
    }

    #[test]
    fn what_a_machine_does_not_say_is_not_said() {
        let root = tempfile::tempdir().unwrap();
        let gauge = Gauge::of(&root.path().join("proc"), &root.path().join("groups"));
        assert_eq!(gauge.read(), Pressure::default());
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(Gauge::new().read().available.is_none_or(|bytes| bytes > 0));
    }
}
