//! Opening paths below a root without ever leaving it.
//!
//! No component of a path may be a symbolic link, and paths may be longer than `PATH_MAX`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ashlar_model::layer::LayerPath;
use rustix::fs::{Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;

/// Longest piece of a path given to one system call. Linux allows 4095 bytes (`PATH_MAX`, with
/// its NUL byte).
const LONGEST_PIECE: usize = 4000;

/// A directory under which paths are opened.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
}

impl Root {
    /// Opens the directory at `path`, which is trusted and may have symbolic links.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { directory })
    }

    /// Opens a path below, with `O_CLOEXEC` and `O_NOFOLLOW` added to `flags`.
    ///
    /// `ELOOP` if a component of the path, the last one included, is a symbolic link (unless
    /// `flags` has `O_PATH`, which opens the last one itself).
    pub fn open_path(&self, path: &LayerPath, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        open_beneath(self.as_fd(), path.as_bytes(), flags)
    }

    /// Opens a directory below for listing.
    pub fn open_directory(&self, path: &LayerPath) -> rustix::io::Result<OwnedFd> {
        self.open_path(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens a regular file below for reading. Never blocks on a named pipe.
    pub fn open_file(&self, path: &LayerPath) -> rustix::io::Result<OwnedFd> {
        self.open_path(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

fn open_beneath(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let Some((piece, rest)) = split_long(path) else {
        let path = if path.is_empty() { b"." } else { path };
        return open_piece(root, path, flags);
    };
    let mut directory = open_piece(root, piece, flags_of_middle())?;
    let mut path = rest;
    while let Some((piece, rest)) = split_long(path) {
        directory = open_piece(directory.as_fd(), piece, flags_of_middle())?;
        path = rest;
    }
    open_piece(directory.as_fd(), path, flags)
}

fn flags_of_middle() -> OFlags {
    OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW
}

/// Cuts a piece off a path that is too long for one system call.
fn split_long(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= LONGEST_PIECE {
        return None;
    }
    // Components have at most 255 bytes, so there is a slash.
    let slash = path[..LONGEST_PIECE].iter().rposition(|b| *b == b'/')?;
    Some((&path[..slash], &path[slash + 1..]))
}

fn open_piece(from: BorrowedFd<'_>, piece: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(from, piece, flags, Mode::empty(), resolve) {
            // A rename elsewhere raced with the lookup: openat2(2).
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Seccomp filters of older container engines do not know the call.
            Err(Errno::NOSYS) => return open_by_components(from, piece, flags),
            result => return result,
        }
    }
}

fn open_by_components(
    from: BorrowedFd<'_>,
    piece: &[u8],
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let mut names = piece.split(|b| *b == b'/').peekable();
    let mut directory: Option<OwnedFd> = None;
    while let Some(name) = names.next() {
        let flags = if names.peek().is_some() {
            flags_of_middle()
        } else {
            flags
        };
        let from = directory.as_ref().map_or(from, |fd| fd.as_fd());
        let opened = rustix::fs::openat(from, name, flags, Mode::empty());
        // O_DIRECTORY together with O_NOFOLLOW reports a link as ENOTDIR, openat2 as ELOOP.
        directory = Some(opened.map_err(|errno| {
            let is_link = || rustix::fs::readlinkat(from, name, Vec::new()).is_ok();
            if errno == Errno::NOTDIR && is_link() {
                Errno::LOOP
            } else {
                errno
            }
        })?);
    }
    directory.ok_or(Errno::NOENT)
}

/// The names in a directory, without `.` and `..`, in no order.
pub fn list_names(directory: BorrowedFd<'_>) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut listing = RawDir::new(directory, buffer.spare_capacity_mut());
    while let Some(entry) = listing.next() {
        let entry = entry?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            name => names.push(name.to_vec()),
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn path(text: &str) -> LayerPath {
        LayerPath::new(text.as_bytes()).unwrap()
    }

    fn opens(root: &Root, text: &str) -> Result<(), Errno> {
        root.open_file(&path(text)).map(drop)
    }

    #[test]
    fn links_are_never_followed() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path();
        fs::create_dir(base.join("real")).unwrap();
        fs::write(base.join("real/file"), "x").unwrap();
        symlink("real", base.join("link")).unwrap();
        symlink("/etc", base.join("absolute")).unwrap();
        symlink("real/file", base.join("last")).unwrap();
        let root = Root::open(base).unwrap();
        assert_eq!(opens(&root, "real/file"), Ok(()));
        for escaping in ["link/file", "absolute/passwd", "last"] {
            assert_eq!(opens(&root, escaping), Err(Errno::LOOP), "{escaping}");
        }
        assert_eq!(opens(&root, "missing"), Err(Errno::NOENT));
        root.open_directory(&LayerPath::ROOT).unwrap();
    }

    #[test]
    fn the_way_by_components_says_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path();
        fs::create_dir_all(base.join("a/b")).unwrap();
        fs::write(base.join("a/b/file"), "x").unwrap();
        symlink("a", base.join("link")).unwrap();
        let root = Root::open(base).unwrap();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for name in ["a/b/file", "link/b/file", "link", "a/x", "a/b/file/x", "."] {
            let fast = open_piece(root.as_fd(), name.as_bytes(), flags).map(drop);
            let slow = open_by_components(root.as_fd(), name.as_bytes(), flags).map(drop);
            assert_eq!(fast, slow, "{name}");
        }
    }

    #[test]
    fn paths_longer_than_the_kernel_takes_are_opened() {
        let directory = tempfile::tempdir().unwrap();
        let name = "n".repeat(200);
        let mut at = rustix::fs::open(
            directory.path(),
            OFlags::RDONLY | OFlags::DIRECTORY,
            Mode::empty(),
        )
        .unwrap();
        for _ in 0..100 {
            rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
            at = rustix::fs::openat(
                &at,
                &name,
                OFlags::RDONLY | OFlags::DIRECTORY,
                Mode::empty(),
            )
            .unwrap();
        }
        let root = Root::open(directory.path()).unwrap();
        let deep = path(&vec![name; 100].join("/"));
        assert!(deep.as_bytes().len() > 20_000);
        root.open_directory(&deep).unwrap();
    }
}
