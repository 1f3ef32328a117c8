//! Whiteouts and opaque marks.

use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Mode, XattrFlags};
use rustix::io::Errno;

/// Marks a directory that hides everything below it in lower layers, when its value is `y`.
const OPAQUE: &str = "user.overlay.opaque";

/// Makes a whiteout. Needs no privilege: character device 0:0 is exempt (Linux 5.8).
pub fn make_whiteout(directory: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    rustix::fs::mknodat(directory, name, FileType::CharacterDevice, Mode::empty(), 0)
}

/// Marks an open directory as opaque. It must be open for more than `O_PATH`.
pub fn mark_opaque(directory: BorrowedFd<'_>) -> rustix::io::Result<()> {
    rustix::fs::fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty())
}

/// Whether an open directory is opaque. It must be open for more than `O_PATH`.
pub fn is_opaque(directory: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    // One byte too many, so that a longer value is told from `y`.
    let mut value = [0; 2];
    match rustix::fs::fgetxattr(directory, OPAQUE, &mut value) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::layer::tree::Root;
    use crate::layer::tree::inode::Inode;

    #[test]
    fn marks_are_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        make_whiteout(root.as_fd(), b"gone").unwrap();
        assert!(Inode::at(root.as_fd(), b"gone").unwrap().is_whiteout());
        assert!(!Inode::of(root.as_fd()).unwrap().is_whiteout());
        assert!(!is_opaque(root.as_fd()).unwrap());
        mark_opaque(root.as_fd()).unwrap();
        assert!(is_opaque(root.as_fd()).unwrap());
        rustix::fs::fsetxattr(root.as_fd(), OPAQUE, b"xyz", XattrFlags::empty()).unwrap();
        assert!(!is_opaque(root.as_fd()).unwrap());
    }
}
