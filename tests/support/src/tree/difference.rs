//! How two trees differ, for a person to read.

use std::collections::BTreeSet;
use std::fmt;

use super::{Kind, Tree, TreeEntry};

/// More lines than this help nobody.
const SHOWN: usize = 40;

impl Tree {
    /// What is different between two trees: a line for each path and property, none if they are
    /// equal.
    pub fn differences(&self, own_name: &str, other: &Self, other_name: &str) -> Vec<String> {
        let paths: BTreeSet<&String> = self.entries.keys().chain(other.entries.keys()).collect();
        let mut lines = Vec::new();
        for path in paths {
            match (self.entries.get(path), other.entries.get(path)) {
                (Some(own), Some(theirs)) if own == theirs => {}
                (Some(own), Some(theirs)) => {
                    lines.push(format!(
                        "/{path}: {own_name} has {own}, {other_name} {theirs}"
                    ));
                }
                (Some(own), None) => lines.push(format!("/{path}: only in {own_name}: {own}")),
                (None, Some(theirs)) => {
                    lines.push(format!("/{path}: only in {other_name}: {theirs}"));
                }
                (None, None) => {}
            }
        }
        lines
    }

    /// Asserts that two trees are equal.
    #[track_caller]
    pub fn assert_same(&self, own_name: &str, other: &Self, other_name: &str) {
        let lines = self.differences(own_name, other, other_name);
        assert!(
            lines.is_empty(),
            "{own_name} and {other_name} differ in {} paths:\n{}",
            lines.len(),
            lines[..lines.len().min(SHOWN)].join("\n")
        );
    }
}

impl fmt::Display for TreeEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::File(size, digest) => write!(f, "file of {size} bytes {digest:.12}")?,
            Kind::Directory => f.write_str("directory")?,
            Kind::Symlink(target) => write!(f, "link to {target}")?,
            Kind::CharDevice(major, minor) => write!(f, "character device {major}:{minor}")?,
            Kind::BlockDevice(major, minor) => write!(f, "block device {major}:{minor}")?,
            Kind::Fifo => f.write_str("fifo")?,
            Kind::Socket => f.write_str("socket")?,
        }
        write!(f, " {:04o} {}:{}", self.mode, self.uid, self.gid)?;
        if let Some(first) = &self.linked_to {
            write!(f, " same file as /{first}")?;
        }
        for (name, value) in &self.xattrs {
            write!(f, " {name}={:?}", String::from_utf8_lossy(value))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::command::TestCommand;

    #[test]
    fn every_property_of_a_path_makes_a_difference() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let script = "
            mkdir $0; cd $0; echo a > file; ln file other; ln -s file link; mkfifo fifo; mkdir dir;
            mknod null c 1 3; touch kept";
        let changes = [
            "chmod 4755 file",
            "chown 5:6 kept",
            "echo b > file",
            "rm fifo",
            "rm other; cp -p file other",
            "ln -sfn elsewhere link",
            "setfattr -n user.note -v x kept",
            "rm null; mknod null c 1 5",
            "rmdir dir; touch dir",
        ];
        let make = |name: &str, change: &str| {
            let path = directory.path().join(name);
            let script = format!("set -e; {script}; {change}");
            TestCommand::root("sh")
                .args(["-c", &script])
                .arg(&path)
                .run()
                .success();
            Tree::read(&path)
        };
        let original = make("original", ":");
        assert!(
            original
                .differences("one", &make("same", ":"), "two")
                .is_empty()
        );
        for (number, change) in changes.iter().enumerate() {
            let changed = make(&number.to_string(), change);
            let lines = original.differences("one", &changed, "two");
            assert!(!lines.is_empty(), "{change} is not seen");
            assert!(lines.len() <= 2, "{change} gives {lines:?}");
        }
        fs::remove_file(directory.path().join("original/fifo")).unwrap();
    }
}
