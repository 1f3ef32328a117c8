//! The users as whom the tests run commands.

use std::fs;
use std::path::{Path, PathBuf};

/// A user of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TestUser {
    /// `ashlar-sub`: an ordinary user with 65536 subordinate ids.
    Sub,
    /// `ashlar-other`: another one, with other subordinate ids.
    Other,
    /// `ashlar-one`: an ordinary user with no id but their own.
    One,
    /// The superuser.
    Root,
}

impl TestUser {
    /// The login name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sub => "ashlar-sub",
            Self::Other => "ashlar-other",
            Self::One => "ashlar-one",
            Self::Root => "root",
        }
    }

    /// User and group id, as `/etc/passwd` has them.
    pub fn ids(self) -> (u32, u32) {
        let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd cannot be read");
        passwd
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| fields.first() == Some(&self.name()))
            .and_then(|fields| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)))
            .unwrap_or_else(|| {
                panic!(
                    "there is no user {}: run tests/support/scripts/users.sh as root",
                    self.name()
                )
            })
    }

    /// Makes the user the owner of a file (of a link itself, not of what it points to).
    pub fn own(self, path: &Path) {
        let (uid, gid) = self.ids();
        std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap_or_else(|error| {
            panic!(
                "{}: cannot be given to {}: {error}: the tests run as root",
                path.display(),
                self.name()
            )
        });
    }

    /// Makes a directory that belongs to the user.
    pub fn make_directory(self, path: PathBuf) -> PathBuf {
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.own(&path);
        path
    }
}
