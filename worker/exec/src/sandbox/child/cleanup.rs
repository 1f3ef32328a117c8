//! Removing what a container leaves behind in the directories for its changes.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, Timespec, Timestamps, futimens, openat,
    statat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::super::error::SetupError;
use super::super::protocol::{Stub, StubKind};
use super::super::spec::Writable;

/// Empties the work directory and takes mount points out of the upper directory. The overlay must
/// not be mounted any more.
pub(super) fn clean(writable: &Writable, stubs: &[Stub]) -> Result<(), SetupError> {
    empty_work(&writable.work).map_err(SetupError::system(
        "the overlay's work directory cannot be emptied",
    ))?;
    if stubs.is_empty() {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, &writable.upper, flags, Mode::empty())
        .and_then(|upper| remove_stubs(&upper, stubs))
        .map_err(SetupError::system(
            "mount points cannot be removed from the layer",
        ))
}

/// Removes what overlayfs made: `work/work`, and in it the mark that a volatile mount leaves,
/// which would forbid the next one.
fn empty_work(work: &Path) -> io::Result<()> {
    let inner = work.join("work");
    for name in ["incompat/volatile", "incompat", ""] {
        let path = inner.join(name);
        match unlinkat(CWD, &path, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            // A copy-up was cut short by the container's end and has left its temporary file.
            Err(Errno::NOTEMPTY | Errno::EXIST) => return std::fs::remove_dir_all(&inner),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Removes each stub that is as it was made. What a command has changed is its own affair and
/// stays.
fn remove_stubs(upper: &OwnedFd, stubs: &[Stub]) -> Result<(), Errno> {
    // Before anything is removed, for removing changes the times of directories.
    let untouched: Vec<bool> = stubs
        .iter()
        .map(|stub| match stub.kind {
            StubKind::CopiedUp { changed } => change_time(upper, &stub.path) == Ok(changed),
            StubKind::File | StubKind::Directory => true,
        })
        .collect();
    // Children were made after their parents.
    for (stub, untouched) in stubs.iter().zip(untouched).rev() {
        if !untouched {
            continue;
        }
        let path = Path::new(OsStr::from_bytes(&stub.path));
        let parent = path.parent().unwrap_or(Path::new(""));
        let Ok(parent_times) = times(upper, parent) else {
            continue;
        };
        let removed = match stub.kind {
            StubKind::File => match statat(upper, path, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(status)
                    if FileType::from_raw_mode(status.st_mode) == FileType::RegularFile
                        && status.st_size == 0 =>
                {
                    unlinkat(upper, path, AtFlags::empty())
                }
                _ => continue,
            },
            StubKind::Directory | StubKind::CopiedUp { .. } => {
                unlinkat(upper, path, AtFlags::REMOVEDIR)
            }
        };
        match removed {
            Ok(()) => set_times(upper, parent, &parent_times)?,
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// When a file's inode was last changed.
pub(in super::super) fn change_time(root: &OwnedFd, path: &[u8]) -> Result<(i64, i64), Errno> {
    let status = rustix::fs::statx(
        root,
        OsStr::from_bytes(path),
        AtFlags::SYMLINK_NOFOLLOW,
        StatxFlags::CTIME,
    )?;
    Ok((status.stx_ctime.tv_sec, i64::from(status.stx_ctime.tv_nsec)))
}

/// Access and modification time of a directory; an empty path stands for `root`.
pub(in super::super) fn times(root: &OwnedFd, path: &Path) -> Result<Timestamps, Errno> {
    let status = rustix::fs::statx(
        root,
        path,
        AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH,
        StatxFlags::ATIME | StatxFlags::MTIME,
    )?;
    let time = |time: rustix::fs::StatxTimestamp| Timespec {
        tv_sec: time.tv_sec,
        tv_nsec: i64::from(time.tv_nsec),
    };
    Ok(Timestamps {
        last_access: time(status.stx_atime),
        last_modification: time(status.stx_mtime),
    })
}

fn set_times(root: &OwnedFd, path: &Path, times: &Timestamps) -> Result<(), Errno> {
    if path.as_os_str().is_empty() {
        futimens(root, times)
    } else {
        utimensat(root, path, times, AtFlags::SYMLINK_NOFOLLOW)
    }
}
