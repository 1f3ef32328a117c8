//! Paths inside a container's root, resolved the way a process sees them that has it as its root:
//! no symbolic link and no `..` of an image leads out of it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, openat, openat2, readlinkat, statat,
};
use rustix::io::Errno;

/// Links that the kernel follows in one path (`MAXSYMLINKS` of `linux/namei.h`).
const LINK_LIMIT: usize = 40;

/// Opens a path that is there.
pub(super) fn open_inside(root: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        // AGAIN: something was renamed on the way; the kernel cannot tell whether `..` escaped.
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Opens a path (`O_PATH`), having what is missing of it made by `make`, which gets the open
/// parent, the name, and whether it is the last one. A link that leads nowhere is followed, and
/// what it leads to is made. Nothing else may change the root meanwhile.
pub(super) fn open_or_make(
    root: &OwnedFd,
    path: &Path,
    mut make: impl FnMut(&OwnedFd, &OsStr, bool) -> Result<(), Errno>,
) -> Result<OwnedFd, Errno> {
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let mut todo: VecDeque<OsString> = names(path);
    // Where we are: free of links, so that `..` is its parent.
    let mut walked = PathBuf::from("/");
    let mut parent = open_inside(root, &walked, directory)?;
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            walked.pop();
            parent = open_inside(root, &walked, directory)?;
            continue;
        }
        let last = todo.is_empty();
        let found = match statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) => Some(FileType::from_raw_mode(status.st_mode)),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(errno),
        };
        if found == Some(FileType::Symlink) {
            links += 1;
            if links > LINK_LIMIT {
                return Err(Errno::LOOP);
            }
            let target = readlinkat(&parent, &name, Vec::new())?;
            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
            if target.has_root() {
                walked = PathBuf::from("/");
                parent = open_inside(root, &walked, directory)?;
            }
            for name in names(&target).into_iter().rev() {
                todo.push_front(name);
            }
            continue;
        }
        if found.is_none() {
            make(&parent, &name, last)?;
        }
        walked.push(&name);
        let flags = if last {
            OFlags::PATH | OFlags::NOFOLLOW
        } else {
            directory
        };
        let next = openat(&parent, &name, flags | OFlags::CLOEXEC, Mode::empty())?;
        if last {
            return Ok(next);
        }
        parent = next;
    }
    Ok(parent)
}

/// The names and `..` of a path.
fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|component| matches!(component, Component::Normal(_) | Component::ParentDir))
        .map(|component| component.as_os_str().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A root in a directory beside which there is something to reach.
    fn root() -> (tempfile::TempDir, OwnedFd) {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("root")).unwrap();
        fs::create_dir(home.path().join("outside")).unwrap();
        let root = fs::File::open(home.path().join("root")).unwrap();
        (home, root.into())
    }

    fn make_directories(root: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
        open_or_make(root, Path::new(path), |parent, name, _| {
            rustix::fs::mkdirat(parent, name, Mode::RWXU)
        })
    }

    #[test]
    fn what_is_missing_is_made_and_the_rest_used() {
        let (home, root) = root();
        make_directories(&root, "/a/./b//c/").unwrap();
        make_directories(&root, "a/b/../d").unwrap();
        assert!(home.path().join("root/a/b/c").is_dir());
        assert!(home.path().join("root/a/d").is_dir());
    }

    #[test]
    fn links_and_parents_stay_inside() {
        let (home, root) = root();
        let inside = home.path().join("root");
        symlink("../../outside", inside.join("relative")).unwrap();
        symlink("/outside", inside.join("absolute")).unwrap();
        symlink(home.path().join("outside"), inside.join("exact")).unwrap();
        for (number, path) in ["relative", "absolute", "exact", "../../../outside"]
            .iter()
            .enumerate()
        {
            make_directories(&root, &format!("{path}/{number}")).unwrap();
        }
        assert_eq!(
            fs::read_dir(home.path().join("outside")).unwrap().count(),
            0
        );
        for number in [0, 1, 3] {
            assert!(
                inside.join(format!("outside/{number}")).is_dir(),
                "{number}"
            );
        }
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let (home, root) = root();
        symlink("b", home.path().join("root/a")).unwrap();
        symlink("a", home.path().join("root/b")).unwrap();
        assert_eq!(make_directories(&root, "/a/x").unwrap_err(), Errno::LOOP);
    }

    #[test]
    fn a_file_on_the_way_is_an_error() {
        let (home, root) = root();
        fs::write(home.path().join("root/file"), "").unwrap();
        assert_eq!(
            make_directories(&root, "/file/x").unwrap_err(),
            Errno::NOTDIR
        );
    }

    #[test]
    fn the_root_itself_can_be_opened() {
        let (_home, root) = root();
        make_directories(&root, "/").unwrap();
        make_directories(&root, "..").unwrap();
    }
}
