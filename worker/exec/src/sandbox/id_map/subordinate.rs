//! The subordinate ids of the present user: `/etc/subuid` and `/etc/subgid`, or what the system's
//! name service says in their place (`getsubids`).
//!
//! ```text
//! NAME-OR-UID:FIRST:COUNT      a line of /etc/subuid and /etc/subgid
//! N: NAME FIRST COUNT          a line that getsubids prints
//! ```

use std::io;
use std::process::Command;
use std::{fs, path::Path};

/// Ranges of subordinate ids: first id and count.
pub(crate) type Ranges = Vec<(u32, u32)>;

/// Why there are no subordinate ids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubordinateError {
    /// The file is missing or cannot be read.
    #[error("{file} cannot be read: {reason}")]
    Unreadable {
        /// The file.
        file: &'static str,
        /// Why.
        reason: String,
    },
    /// The file has no line for the user.
    #[error("{file} has no line for user {user}")]
    NoLine {
        /// The file.
        file: &'static str,
        /// Login name, or number where there is no name.
        user: String,
    },
    /// The name service has no range for the user.
    #[error("getsubids has no range for user {user}")]
    NoRange {
        /// Login name, or number where there is no name.
        user: String,
    },
    /// The name service could not be asked.
    #[error("getsubids cannot be run: {reason}")]
    NoProgram {
        /// Why.
        reason: String,
    },
}

/// The user and group ranges of a user. `name` is the login name, if the user has one.
pub(crate) fn subordinate_ranges(
    uid: u32,
    name: Option<&str>,
) -> Result<(Ranges, Ranges), SubordinateError> {
    if uses_name_service(Path::new("/etc/nsswitch.conf")) {
        Ok((
            ask_name_service(uid, name, &[])?,
            ask_name_service(uid, name, &["-g"])?,
        ))
    } else {
        Ok((
            read_file("/etc/subuid", uid, name)?,
            read_file("/etc/subgid", uid, name)?,
        ))
    }
}

/// Whether subordinate ids come from elsewhere than the files. Asking `getsubids` in any case
/// would be right too, but costs two processes.
fn uses_name_service(nsswitch: &Path) -> bool {
    let Ok(text) = fs::read_to_string(nsswitch) else {
        return false;
    };
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("subid:"))
        .any(|sources| sources.split_whitespace().any(|source| source != "files"))
}

fn read_file(file: &'static str, uid: u32, name: Option<&str>) -> Result<Ranges, SubordinateError> {
    let bytes = fs::read(file).map_err(|error: io::Error| SubordinateError::Unreadable {
        file,
        reason: error.to_string(),
    })?;
    let ranges = parse_file(&String::from_utf8_lossy(&bytes), uid, name);
    if ranges.is_empty() {
        let user = name.map_or_else(|| uid.to_string(), str::to_owned);
        return Err(SubordinateError::NoLine { file, user });
    }
    Ok(ranges)
}

/// All ranges of the user in the text of a subordinate id file. Lines that make no sense are
/// skipped, as `newuidmap` does.
fn parse_file(text: &str, uid: u32, name: Option<&str>) -> Ranges {
    let mut ranges = Ranges::new();
    for line in text.lines() {
        let mut fields = line.trim().split(':');
        let (Some(owner), Some(first), Some(count), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if Some(owner) != name && owner.parse() != Ok(uid) {
            continue;
        }
        if let (Ok(first), Ok(count @ 1..)) = (first.parse(), count.parse()) {
            ranges.push((first, count));
        }
    }
    ranges
}

fn ask_name_service(
    uid: u32,
    name: Option<&str>,
    options: &[&str],
) -> Result<Ranges, SubordinateError> {
    let user = name.map_or_else(|| uid.to_string(), str::to_owned);
    let output = Command::new("getsubids")
        .args(options)
        .arg(&user)
        .output()
        .map_err(|error| SubordinateError::NoProgram {
            reason: error.to_string(),
        })?;
    let ranges = parse_getsubids(&String::from_utf8_lossy(&output.stdout));
    if !output.status.success() || ranges.is_empty() {
        return Err(SubordinateError::NoRange { user });
    }
    Ok(ranges)
}

fn parse_getsubids(text: &str) -> Ranges {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().rev();
            let count = words.next()?.parse().ok()?;
            let first = words.next()?.parse().ok()?;
            (count > 0).then_some((first, count))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_by_name_and_by_number() {
        let text = "root:1:2\nme:100000:65536\n1000:300000:10\n\nyou:5:5\nme:400000:20\n";
        assert_eq!(
            parse_file(text, 1000, Some("me")),
            [(100_000, 65536), (300_000, 10), (400_000, 20)]
        );
        assert_eq!(parse_file(text, 1000, None), [(300_000, 10)]);
        assert_eq!(parse_file(text, 7, Some("nobody")), []);
    }

    #[test]
    fn broken_lines_are_skipped() {
        let text = "me\nme:\nme:1\nme:x:5\nme:1:0\nme:1:2:3\nme:-1:4\nme:99999999999:1\n# me:1:1\nme:7:8\n";
        assert_eq!(parse_file(text, 1000, Some("me")), [(7, 8)]);
    }

    #[test]
    fn the_output_of_getsubids_is_understood() {
        assert_eq!(
            parse_getsubids("0: me 100000 65536\n1: me 300000 10\n"),
            [(100_000, 65536), (300_000, 10)]
        );
        assert_eq!(parse_getsubids("Error fetching ranges\n"), []);
    }

    #[test]
    fn the_name_service_is_asked_only_if_it_has_subordinate_ids() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("nsswitch.conf");
        assert!(!uses_name_service(&file));
        fs::write(&file, "passwd: files systemd\nsubid: files\n").unwrap();
        assert!(!uses_name_service(&file));
        fs::write(&file, "subid:   sss files\n").unwrap();
        assert!(uses_name_service(&file));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".*") {
            parse_file(&text, 0, Some("x"));
            parse_getsubids(&text);
        }
    }
}
