//! Changing the attributes of mounts: `mount_setattr(2)`, Linux 5.12.

use std::ffi::c_uint;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::descriptor::last_errno;

/// `struct mount_attr` of `linux/mount.h`, first version.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// `AT_EMPTY_PATH` and `AT_RECURSIVE` of `linux/fcntl.h`.
const EMPTY_PATH: c_uint = 0x1000;
const RECURSIVE: c_uint = 0x8000;

/// Turns attributes of a mount on: of the mount that the descriptor stands for, and of all
/// mounts below it if `recursive`.
pub fn set_mount_attributes(
    mount: BorrowedFd<'_>,
    attributes: MountAttrFlags,
    recursive: bool,
) -> Result<(), Errno> {
    let flags = if recursive {
        EMPTY_PATH | RECURSIVE
    } else {
        EMPTY_PATH
    };
    let request = MountAttr {
        set: u64::from(attributes.bits()),
        clear: 0,
        propagation: 0,
        user_namespace: 0,
    };
    // SAFETY: the path is a NUL-terminated literal, the request is live memory of the size given
    // and laid out as the kernel's structure.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const request,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(last_errno())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    #[test]
    fn what_is_no_mount_is_refused() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let result = set_mount_attributes(reader.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, false);
        assert!(
            matches!(result, Err(Errno::INVAL | Errno::PERM)),
            "{result:?}"
        );
    }
}
