//! Whether an inode of the tree is the same as one below it.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};

use crate::layer::tree::inode::Inode;
use crate::layer::tree::xattrs;

use ashlar_model::layer::Xattr;

/// A name in an open directory, and what is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) directory: BorrowedFd<'a>,
    pub(super) name: &'a [u8],
    pub(super) inode: &'a Inode,
}

/// Whether two places hold the same: type, mode, owner, attributes, and, but for directories,
/// modification time and content. `xattrs` are those of `upper`.
pub(super) fn same(
    upper: Place<'_>,
    lower: Place<'_>,
    xattrs: &[Xattr],
) -> rustix::io::Result<bool> {
    if !upper.inode.same_kind_and_rights(lower.inode) {
        return Ok(false);
    }
    let is_directory = upper.inode.file_type == FileType::Directory;
    if !is_directory && upper.inode.mtime != lower.inode.mtime {
        return Ok(false);
    }
    if xattrs::read(lower.directory, lower.name)? != xattrs {
        return Ok(false);
    }
    match upper.inode.file_type {
        FileType::RegularFile => Ok(upper.inode.size == lower.inode.size
            && (upper.inode.size == 0 || same_bytes(open(upper)?, open(lower)?)?)),
        FileType::Symlink => Ok(read_link(upper)? == read_link(lower)?),
        _ => Ok(true),
    }
}

/// A symbolic link's target.
pub(super) fn read_link(place: Place<'_>) -> rustix::io::Result<Vec<u8>> {
    rustix::fs::readlinkat(place.directory, place.name, Vec::new())
        .map(std::ffi::CString::into_bytes)
}

fn open(place: Place<'_>) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(place.directory, place.name, flags, Mode::empty())
}

fn same_bytes(left: OwnedFd, right: OwnedFd) -> rustix::io::Result<bool> {
    const PIECE: usize = 128 * 1024;
    let (mut left, mut right) = (File::from(left), File::from(right));
    let (mut left_piece, mut right_piece) = (vec![0; PIECE], vec![0; PIECE]);
    loop {
        let left_count = read_full(&mut left, &mut left_piece)?;
        let right_count = read_full(&mut right, &mut right_piece)?;
        if left_piece[..left_count] != right_piece[..right_count] {
            return Ok(false);
        }
        if left_count < PIECE {
            return Ok(true);
        }
    }
}

fn read_full(file: &mut File, buffer: &mut [u8]) -> rustix::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(
                    rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO)
                );
            }
        }
    }
    Ok(filled)
}
