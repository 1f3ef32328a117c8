//! Giving a fresh user namespace its map, from outside.

use std::fs;
use std::io;
use std::process::{Command, Stdio};

use super::{IdMap, IdRange};

/// Why a map could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapWriteError {
    /// The kernel refused.
    #[error("{file} cannot be written")]
    Refused {
        /// The file below `/proc`.
        file: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program is not there or cannot be started.
    #[error("{program} cannot be run")]
    NoProgram {
        /// `newuidmap` or `newgidmap`.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program refused.
    #[error("{program} failed: {message}")]
    ProgramFailed {
        /// `newuidmap` or `newgidmap`.
        program: &'static str,
        /// What it said.
        message: String,
    },
}

/// Writes a map of our own ids. An unprivileged writer must give up setgroups(2) first.
pub(crate) fn write_single(pid: u32, map: &IdMap, privileged: bool) -> Result<(), MapWriteError> {
    if !privileged {
        write(format!("/proc/{pid}/setgroups"), "deny")?;
    }
    write(format!("/proc/{pid}/uid_map"), &lines(map.users()))?;
    write(format!("/proc/{pid}/gid_map"), &lines(map.groups()))
}

/// Has both maps written by the set-uid programs of the shadow suite, at the same time.
pub(crate) fn write_with_helpers(pid: u32, map: &IdMap) -> Result<(), MapWriteError> {
    let start = |program: &'static str, ranges: &[IdRange]| {
        let mut command = Command::new(program);
        command.arg(pid.to_string());
        for range in ranges {
            command.args([range.inside, range.outside, range.count].map(|id| id.to_string()));
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| MapWriteError::NoProgram { program, source })
    };
    let finish = |program: &'static str, child: std::process::Child| {
        let output = child
            .wait_with_output()
            .map_err(|source| MapWriteError::NoProgram { program, source })?;
        if output.status.success() {
            return Ok(());
        }
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(MapWriteError::ProgramFailed { program, message })
    };
    let users = start("newuidmap", map.users())?;
    let groups = start("newgidmap", map.groups());
    // Both are waited for, whatever the other one did: no zombie stays.
    let users = finish("newuidmap", users);
    let groups = groups.and_then(|child| finish("newgidmap", child));
    users.and(groups)
}

fn lines(ranges: &[IdRange]) -> String {
    ranges.iter().map(|range| format!("{range}\n")).collect()
}

fn write(file: String, text: &str) -> Result<(), MapWriteError> {
    // One write(2): the kernel takes a map in one piece and only once.
    fs::write(&file, text).map_err(|source| MapWriteError::Refused { file, source })
}

#[cfg(test)]
mod tests {
    use super::super::SingleReason;
    use super::*;

    #[test]
    fn a_map_is_written_as_lines_of_three_numbers() {
        let map = IdMap::range((1000, 1000), &[(100_000, 65536)], &[(100_000, 65536)]);
        assert_eq!(lines(map.users()), "0 1000 1\n1 100000 65536\n");
    }

    #[test]
    fn a_refused_map_names_the_file() {
        // Process 0 does not exist.
        let map = IdMap::single((1000, 1000), SingleReason::Asked);
        let error = write_single(0, &map, true).unwrap_err();
        assert_eq!(error.to_string(), "/proc/0/uid_map cannot be written");
    }
}
