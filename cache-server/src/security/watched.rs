//! Whether files have changed, by what the system knows of them.
//!
//! Files are looked at every few seconds rather than watched: what is behind a name may be moved
//! there, linked there or mounted there (as Kubernetes does with secrets), and each of that shows
//! in the file that the name leads to.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// What a file was like. `None`: it could not be seen.
type Look = Option<[i64; 7]>;

/// Files, and what they were like when they were looked at last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    files: Vec<PathBuf>,
    looks: Vec<Look>,
}

fn look(path: &PathBuf) -> Look {
    let metadata = std::fs::metadata(path).ok()?;
    Some([
        metadata.dev().cast_signed(),
        metadata.ino().cast_signed(),
        metadata.size().cast_signed(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ])
}

impl Watched {
    /// Files as they are now.
    pub fn new(files: Vec<PathBuf>) -> Self {
        let looks = files.iter().map(look).collect();
        Self { files, looks }
    }

    /// Whether they are others than when this was asked last. Ask before they are read: what is
    /// changed meanwhile shows the next time.
    pub fn have_changed(&mut self) -> bool {
        let looks: Vec<_> = self.files.iter().map(look).collect();
        let changed = looks != self.looks;
        self.looks = looks;
        changed
    }

    /// Other files, if they are others.
    pub fn follow(&mut self, files: Vec<PathBuf>) {
        if files != self.files {
            *self = Self::new(files);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_change_shows_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        let mut watched = Watched::new(vec![path.clone()]);
        assert!(!watched.have_changed());
        std::fs::write(&path, "one").expect("written");
        assert!(watched.have_changed(), "it is there");
        assert!(!watched.have_changed());
        std::fs::write(&path, "other").expect("written");
        assert!(watched.have_changed(), "it was written over");
        let other = folder.path().join("other");
        std::fs::write(&other, "third").expect("written");
        std::fs::rename(&other, &path).expect("moved");
        assert!(watched.have_changed(), "another has its name");
        std::fs::remove_file(&path).expect("removed");
        assert!(watched.have_changed(), "it is gone");
    }

    #[test]
    fn a_link_shows_what_it_leads_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for name in ["a", "b"] {
            std::fs::create_dir(path(name)).expect("a folder");
            std::fs::write(path(name).join("key"), "same").expect("written");
        }
        let turn = |to: &str| {
            std::os::unix::fs::symlink(path(to), path("next")).expect("linked");
            std::fs::rename(path("next"), path("now")).expect("moved");
        };
        turn("a");
        let mut watched = Watched::new(vec![path("now").join("key")]);
        turn("b");
        assert!(watched.have_changed());
        assert!(!watched.have_changed());
    }
}
