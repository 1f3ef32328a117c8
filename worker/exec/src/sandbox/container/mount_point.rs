//! The places in a container to mount something on.
//!
//! Most are in the image or in the stub layer below it. Where one is missing all the same (an
//! earlier layer removed it, or the caller mounts somewhere of their own), it is made in the
//! upper directory, and the supervisor takes it out again: a layer holds what the command did,
//! nothing else.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, fstat, futimens, mkdirat, openat, readlinkat, statat,
};
use rustix::io::Errno;

use super::super::child::{change_time, times};
use super::super::error::SetupError;
use super::super::protocol::{Stub, StubKind};
use super::super::spec::Writable;
use super::inside::{open_inside, open_or_make};
use super::open_directory;

/// What kind of thing is to be mounted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Anything that is no directory.
    File,
    /// A directory.
    Directory,
}

/// The mount points of one container.
#[derive(Debug)]
pub(super) struct MountPoints<'a> {
    root: &'a OwnedFd,
    /// Path by which the kernel knows the root, to find out where a made file really is.
    root_path: PathBuf,
    /// The upper directory, unless the root is read-only.
    upper: Option<OwnedFd>,
    stubs: Vec<Stub>,
}

impl<'a> MountPoints<'a> {
    pub(super) fn new(root: &'a OwnedFd, writable: Option<&Writable>) -> Result<Self, SetupError> {
        let upper = match writable {
            Some(writable) => {
                Some(
                    open_directory(&writable.upper).map_err(|errno| SetupError::Layer {
                        path: writable.upper.display().to_string(),
                        source: errno.into(),
                    })?,
                )
            }
            None => None,
        };
        let root_path = real_path(root).map_err(SetupError::system(
            "the root filesystem's place cannot be found",
        ))?;
        Ok(Self {
            root,
            root_path,
            upper,
            stubs: Vec::new(),
        })
    }

    /// Opens a mount point, an absolute path inside; makes it if it is missing.
    pub(super) fn open(&mut self, path: &str, kind: Kind) -> Result<OwnedFd, SetupError> {
        self.try_open(Path::new(path), kind)
            .map_err(|errno| SetupError::MountPoint {
                path: path.to_owned(),
                source: errno.into(),
            })
    }

    fn try_open(&mut self, path: &Path, kind: Kind) -> Result<OwnedFd, Errno> {
        let target = match open_inside(self.root, path, OFlags::PATH) {
            Err(Errno::NOENT) => {
                let root = self.root;
                open_or_make(root, path, |parent, name, last| {
                    let kind = if last { kind } else { Kind::Directory };
                    self.make_one(parent, name, kind)
                })?
            }
            result => result?,
        };
        let is_directory = FileType::from_raw_mode(fstat(&target)?.st_mode) == FileType::Directory;
        match kind {
            Kind::Directory if !is_directory => Err(Errno::NOTDIR),
            Kind::File if is_directory => Err(Errno::ISDIR),
            _ => Ok(target),
        }
    }

    /// Makes one file or directory, leaving its parent's times alone, and notes it.
    fn make_one(&mut self, parent: &OwnedFd, name: &OsStr, kind: Kind) -> Result<(), Errno> {
        if fstat(parent)?.st_dev != fstat(self.root)?.st_dev {
            // On something else that is mounted there (`/dev`): no layer will have it.
            return create(parent, name, kind);
        }
        let Some(upper) = &self.upper else {
            return Err(Errno::ROFS);
        };
        let inside = real_path(parent)?;
        let inside = inside
            .strip_prefix(&self.root_path)
            .map_err(|_| Errno::XDEV)?;
        // Directories that come into the upper directory because something is made in them.
        let mut copied_up: Vec<&Path> = inside
            .ancestors()
            .filter(|path| !path.as_os_str().is_empty())
            .take_while(|path| statat(upper, *path, AtFlags::SYMLINK_NOFOLLOW).is_err())
            .collect();
        copied_up.reverse();
        let before = times(parent, Path::new(""))?;
        create(parent, name, kind)?;
        futimens(parent, &before)?;
        let stub = match kind {
            Kind::Directory => StubKind::Directory,
            Kind::File => StubKind::File,
        };
        let note = |path: &Path, kind| Stub {
            path: path.as_os_str().as_bytes().to_vec(),
            kind,
        };
        // The times are filled in by `finish`, when nothing more is made.
        let unknown = StubKind::CopiedUp { changed: (0, 0) };
        self.stubs
            .extend(copied_up.into_iter().map(|path| note(path, unknown)));
        self.stubs.push(note(&inside.join(name), stub));
        Ok(())
    }

    /// What was made, parents first.
    pub(super) fn finish(self) -> Result<Vec<Stub>, SetupError> {
        let Some(upper) = &self.upper else {
            return Ok(Vec::new());
        };
        let mut stubs = self.stubs;
        for stub in &mut stubs {
            if let StubKind::CopiedUp { changed } = &mut stub.kind {
                *changed = change_time(upper, &stub.path)
                    .map_err(SetupError::system("the upper directory cannot be read"))?;
            }
        }
        Ok(stubs)
    }
}

fn create(parent: &OwnedFd, name: &OsStr, kind: Kind) -> Result<(), Errno> {
    match kind {
        Kind::Directory => mkdirat(parent, name, Mode::from_raw_mode(0o755)),
        Kind::File => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    }
}

/// The path by which the kernel knows an open file.
fn real_path(file: &OwnedFd) -> Result<PathBuf, Errno> {
    use std::os::fd::AsRawFd as _;

    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let path = readlinkat(rustix::fs::CWD, link, Vec::new())?;
    Ok(PathBuf::from(std::ffi::OsString::from_vec(
        path.into_bytes(),
    )))
}
