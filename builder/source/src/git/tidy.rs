//! Modes and times of what was checked out: those of the repository, whatever this process's umask.
//!
//! Git knows two modes of files, 644 and 755; directories are 755. With times of the commit, all
//! has that time: links too.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ashlar_model::layer::Timestamp;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use super::checkout::io;
use super::error::GitError;

/// What is to be done to a tree that nobody else works on.
pub(super) struct Tidy {
    pub(super) root: PathBuf,
    /// Whether `.git` goes, in submodules too.
    pub(super) drop_git: bool,
    /// The time that everything is given.
    pub(super) time: Option<Timestamp>,
}

impl Tidy {
    pub(super) fn run(&self) -> Result<(), GitError> {
        let mut directories = vec![self.root.clone()];
        let mut next = 0;
        while let Some(directory) = directories.get(next).cloned() {
            next += 1;
            self.mode(&directory)?;
            let entries = fs::read_dir(&directory).map_err(|e| io("list", &directory, e))?;
            for entry in entries {
                let entry = entry.map_err(|e| io("list", &directory, e))?;
                let path = entry.path();
                let kind = entry.file_type().map_err(|e| io("look at", &path, e))?;
                if self.drop_git && entry.file_name() == ".git" {
                    let removed = if kind.is_dir() {
                        fs::remove_dir_all(&path)
                    } else {
                        fs::remove_file(&path)
                    };
                    removed.map_err(|e| io("remove", &path, e))?;
                } else if kind.is_dir() {
                    directories.push(path);
                } else {
                    if !kind.is_symlink() {
                        self.mode(&path)?;
                    }
                    self.touch(&path)?;
                }
            }
        }
        // What is below a directory changes its time.
        for directory in directories.iter().rev() {
            self.touch(directory)?;
        }
        Ok(())
    }

    /// Gives all what the owner may do, but for writing.
    fn mode(&self, path: &Path) -> Result<(), GitError> {
        let metadata = fs::symlink_metadata(path).map_err(|e| io("look at", path, e))?;
        let mode = metadata.permissions().mode() & 0o7777;
        let owner = (mode >> 6) & 7;
        let wanted = owner << 6 | (owner & 5) << 3 | owner & 5;
        if mode == wanted {
            return Ok(());
        }
        fs::set_permissions(path, Permissions::from_mode(wanted))
            .map_err(|e| io("change the mode of", path, e))
    }

    fn touch(&self, path: &Path) -> Result<(), GitError> {
        let Some(time) = self.time else {
            return Ok(());
        };
        let time = Timespec {
            tv_sec: time.seconds,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| io("set the time of", path, e.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn modes_and_times_are_the_repositorys() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("sub/.git")).unwrap();
        fs::write(root.join(".git"), "gitdir: elsewhere").unwrap();
        fs::write(root.join("plain"), "").unwrap();
        fs::write(root.join("sub/program"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("link")).unwrap();
        for (path, mode) in [("plain", 0o600), ("sub/program", 0o775), ("sub", 0o700)] {
            fs::set_permissions(root.join(path), Permissions::from_mode(mode)).unwrap();
        }
        let tidy = Tidy {
            root: root.to_owned(),
            drop_git: true,
            time: Some(Timestamp {
                seconds: 1_000_000_000,
                nanoseconds: 0,
            }),
        };
        tidy.run().unwrap();
        assert!(!root.join(".git").exists() && !root.join("sub/.git").exists());
        for (path, mode) in [
            ("plain", 0o644),
            ("sub/program", 0o755),
            ("sub", 0o755),
            ("", 0o755),
        ] {
            let metadata = fs::symlink_metadata(root.join(path)).unwrap();
            assert_eq!(metadata.mode() & 0o7777, mode, "{path}");
            assert_eq!(metadata.mtime(), 1_000_000_000, "{path}");
        }
        let link = fs::symlink_metadata(root.join("link")).unwrap();
        assert_eq!(link.mtime(), 1_000_000_000);
    }
}
