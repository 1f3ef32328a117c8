//! The context's directory, held open, and the ways into it that follow no symbolic link.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ashlar_model::layer::LayerPath;
use rustix::fs::{CWD, Mode, OFlags, RawDir, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// Bytes of directory entries taken from the kernel at once: one call for most directories.
const DIRECTORY_BUFFER: usize = 32 * 1024;

/// Bytes of a path that one system call surely takes (`PATH_MAX` is 4096, with the NUL).
const ONE_CALL: usize = 4000;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// An open directory that paths are relative to.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    directory: OwnedFd,
}

impl Root {
    /// Opens it; the path itself may lead through symbolic links.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            path: path.to_owned(),
            directory: openat(CWD, path, flags, Mode::empty())?,
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A path of this machine for messages.
    pub(super) fn show(&self, path: &LayerPath) -> PathBuf {
        self.path.join(path.as_path())
    }

    /// Opens a directory in it. `ELOOP` or `ENOTDIR` if a symbolic link is on the way.
    pub(super) fn open_directory(&self, path: &LayerPath) -> io::Result<OwnedFd> {
        let mut rest = path.as_bytes();
        if rest.is_empty() {
            return Ok(openat(&self.directory, c".", DIRECTORY, Mode::empty())?);
        }
        let mut reached = None;
        while !rest.is_empty() {
            let (piece, after) = split_for_one_call(rest);
            let from = reached.as_ref().unwrap_or(&self.directory);
            reached = Some(open_below(from, piece)?);
            rest = after;
        }
        reached.ok_or_else(|| Errno::NOENT.into())
    }
}

/// The longest start of a path that one system call takes, and the rest.
fn split_for_one_call(path: &[u8]) -> (&[u8], &[u8]) {
    if path.len() < ONE_CALL {
        return (path, &[]);
    }
    match path[..ONE_CALL].iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (path, &[]),
    }
}

fn open_below(directory: &OwnedFd, path: &[u8]) -> io::Result<OwnedFd> {
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match openat2(directory, path, DIRECTORY, Mode::empty(), inside) {
        // An old kernel, or a sandbox that does not know the call.
        Err(Errno::NOSYS | Errno::PERM) => {}
        other => return Ok(other?),
    }
    let mut reached = openat(directory, c".", DIRECTORY, Mode::empty())?;
    for name in path.split(|byte| *byte == b'/') {
        reached = openat(&reached, name, DIRECTORY, Mode::empty())?;
    }
    Ok(reached)
}

/// The names in an open directory, sorted bytewise.
pub(super) fn read_names(directory: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    let mut buffer = Vec::with_capacity(DIRECTORY_BUFFER);
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}
