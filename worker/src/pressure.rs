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
    /// The directory of this process's control group, in version 2 of their interface.
    group: Option<PathBuf>,
}

impl Gauge {
    /// A gauge of this machine and of this process's control group.
    pub fn new() -> Self {
        let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let group = group_path(&membership)
            .map(|path| Path::new("/sys/fs/cgroup").join(path))
            .filter(|path| path.is_dir());
        Self { group }
    }

    /// What is said now. What cannot be read is not said.
    pub fn read(&self) -> Pressure {
        let text = |path: &str| fs::read_to_string(path).ok();
        let of_group = |name: &str| fs::read_to_string(self.group.as_ref()?.join(name)).ok();
        let machine = text("/proc/meminfo").and_then(|text| available(&text));
        let group = of_group("memory.max")
            .and_then(|text| text.trim().parse::<u64>().ok())
            .and_then(|max| {
                let used: u64 = of_group("memory.current")?.trim().parse().ok()?;
                // What is cached of files can be had.
                let cached = of_group("memory.stat").and_then(|text| inactive_file(&text));
                Some(max.saturating_sub(used.saturating_sub(cached.unwrap_or(0))))
            });
        let worse = |one: Option<String>, other: Option<String>| {
            let stalled = [one, other].into_iter().flatten();
            stalled
                .filter_map(|text| stalled_for(&text))
                .reduce(f64::max)
        };
        Pressure {
            available: [machine, group].into_iter().flatten().min(),
            memory: worse(text("/proc/pressure/memory"), of_group("memory.pressure")),
            cpu: worse(text("/proc/pressure/cpu"), of_group("cpu.pressure")),
        }
    }
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

    #[test]
    fn this_machine_has_memory() {
        assert!(Gauge::new().read().available.is_none_or(|bytes| bytes > 0));
    }
}
