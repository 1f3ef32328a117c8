//! Closing all descriptors at once.

use std::ffi::c_int;

use rustix::io::Errno;

/// Marks every descriptor from `first` on to be closed by the next exec.
pub fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    // SAFETY: the call takes numbers only; it closes nothing now, so no descriptor that some
    // `OwnedFd` stands for becomes invalid.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result == 0 {
        return Ok(());
    }
    match last_errno() {
        // Before Linux 5.11: one by one, as far as descriptors can go.
        Errno::NOSYS | Errno::INVAL => {
            close_on_exec_one_by_one(first);
            Ok(())
        }
        errno => Err(errno),
    }
}

fn close_on_exec_one_by_one(first: u32) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let end = limit
        .current
        .and_then(|end| u32::try_from(end).ok())
        .unwrap_or(1 << 20);
    for descriptor in first..end {
        let Ok(descriptor) = c_int::try_from(descriptor) else {
            return;
        };
        // SAFETY: the call takes numbers only and closes nothing; a number that is no descriptor
        // gives EBADF, which is what we expect for most.
        let _ = unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// The error of the last call into the C library on this thread.
pub(crate) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
    use std::os::fd::AsRawFd as _;

    #[test]
    fn descriptors_are_marked_from_the_first_on() {
        let file = std::fs::File::open("/dev/null").unwrap();
        for mark in [
            |first| close_on_exec_from(first).unwrap(),
            close_on_exec_one_by_one,
        ] {
            fcntl_setfd(&file, FdFlags::empty()).unwrap();
            let number = u32::try_from(file.as_raw_fd()).unwrap();
            mark(number + 1);
            assert_eq!(fcntl_getfd(&file).unwrap(), FdFlags::empty());
            mark(number);
            assert_eq!(fcntl_getfd(&file).unwrap(), FdFlags::CLOEXEC);
        }
    }
}
