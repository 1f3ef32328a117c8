//! Extended attributes of context files.
//!
//! Only `user.*` ones are copied. Capabilities and labels belong to the machine, not to the
//! files of a project (BuildKit loses them too). `user.overlay.*` is the kernel's own language
//! in a layer, and never content.

use std::io;
use std::os::fd::OwnedFd;

use ashlar_model::layer::Xattr;
use rustix::fs::{fgetxattr, flistxattr};
use rustix::io::Errno;

/// The kernel's limit on the list of names, and on one value (`xattr(7)`).
const LIMIT: usize = 64 * 1024;

/// A list of names that is longer than this is read a second time into a larger buffer.
const USUAL: usize = 512;

/// The attributes of an open file or directory that are copied with it, sorted by name.
pub(super) fn read_user_xattrs(file: &OwnedFd) -> io::Result<Vec<Xattr>> {
    let mut usual = [0; USUAL];
    let mut large = Vec::new();
    let names = match flistxattr(file, &mut usual[..]) {
        Ok(length) => &usual[..length],
        Err(Errno::RANGE) => {
            large.resize(LIMIT, 0);
            let length = flistxattr(file, &mut large[..])?;
            &large[..length]
        }
        Err(Errno::NOTSUP) => &[],
        Err(error) => return Err(error.into()),
    };
    let mut xattrs = Vec::new();
    for name in names.split(|byte| *byte == 0) {
        if !name.starts_with(b"user.") || name.starts_with(b"user.overlay.") {
            continue;
        }
        let mut value = vec![0; LIMIT];
        match fgetxattr(file, name, &mut value[..]) {
            Ok(length) => value.truncate(length),
            Err(Errno::NODATA) => continue,
            Err(error) => return Err(error.into()),
        }
        value.shrink_to_fit();
        xattrs.push(Xattr {
            name: name.to_vec(),
            value,
        });
    }
    xattrs.sort_unstable();
    Ok(xattrs)
}
