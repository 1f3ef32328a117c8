//! Build contexts, written file by file.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::user::TestUser;

/// A directory with a Dockerfile and what it copies, owned by the user who builds.
#[derive(Debug)]
pub struct Context {
    root: PathBuf,
    user: TestUser,
}

impl Context {
    pub(crate) fn new(root: PathBuf, user: TestUser) -> Self {
        let root = user.make_directory(root);
        Self { root, user }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Writes the Dockerfile.
    pub fn dockerfile(&self, text: &str) -> &Self {
        self.file("Dockerfile", text)
    }

    /// Writes a file of mode 0644, or new content into the one that is there.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let target = self.parents_of(path);
        fs::write(&target, content).unwrap_or_else(|error| panic!("{path}: {error}"));
        self.user.own(&target);
        self
    }

    /// Sets all 12 permission bits of a file or directory.
    pub fn mode(&self, path: &str, mode: u32) -> &Self {
        fs::set_permissions(self.root.join(path), Permissions::from_mode(mode))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        self
    }

    /// Makes a directory of mode 0755.
    pub fn directory(&self, path: &str) -> &Self {
        let target = self.parents_of(path);
        self.user.make_directory(target);
        self
    }

    /// Makes a symbolic link.
    pub fn symlink(&self, path: &str, target: &str) -> &Self {
        let link = self.parents_of(path);
        std::os::unix::fs::symlink(target, &link).unwrap_or_else(|error| panic!("{path}: {error}"));
        self.user.own(&link);
        self
    }

    /// Gives a file another name.
    pub fn hardlink(&self, path: &str, existing: &str) -> &Self {
        let link = self.parents_of(path);
        fs::hard_link(self.root.join(existing), link)
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        self
    }

    /// Sets the modification time, in seconds since 1970.
    pub fn modified(&self, path: &str, seconds: u64) -> &Self {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        File::open(self.root.join(path))
            .and_then(|file| file.set_times(FileTimes::new().set_modified(time)))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        self
    }

    /// Removes a file.
    pub fn remove(&self, path: &str) -> &Self {
        fs::remove_file(self.root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        self
    }

    /// Copies a fixture: a tree of directories, files (with their modes) and links.
    pub fn copy_of(&self, fixture: &Path) -> &Self {
        self.copy_into(fixture, &self.root.clone());
        self
    }

    fn copy_into(&self, from: &Path, to: &Path) {
        let problem = |error: std::io::Error| -> ! { panic!("{}: {error}", from.display()) };
        for entry in fs::read_dir(from).unwrap_or_else(|error| problem(error)) {
            let entry = entry.unwrap_or_else(|error| problem(error));
            let target = to.join(entry.file_name());
            let kind = entry.file_type().unwrap_or_else(|error| problem(error));
            if kind.is_dir() {
                self.user.make_directory(target.clone());
                self.copy_into(&entry.path(), &target);
            } else if kind.is_symlink() {
                fs::read_link(entry.path())
                    .and_then(|link| std::os::unix::fs::symlink(link, &target))
                    .unwrap_or_else(|error| problem(error));
            } else {
                fs::copy(entry.path(), &target).unwrap_or_else(|error| problem(error));
            }
            self.user.own(&target);
        }
    }

    /// The place for a file, with the directories above it made.
    fn parents_of(&self, path: &str) -> PathBuf {
        let target = self.root.join(path);
        let missing: Vec<&Path> = target
            .ancestors()
            .skip(1)
            .take_while(|parent| !parent.exists())
            .collect();
        for parent in missing.into_iter().rev() {
            self.user.make_directory(parent.to_owned());
        }
        target
    }
}
