//! The loopback interface of a new network namespace.

use std::ffi::c_short;
use std::os::fd::{AsFd as _, AsRawFd as _};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::descriptor::last_errno;

/// `IFF_UP` and `IFF_RUNNING` of `net/if.h`, of the type that the request wants.
const UP_AND_RUNNING: c_short = 0x1 | 0x40;

/// Brings `lo` of the current network namespace up; the kernel then gives it 127.0.0.1 and ::1.
pub fn bring_loopback_up() -> Result<(), Errno> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: all bytes zero is a valid value of this C structure: numbers and a union of them.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes_with_nul()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = UP_AND_RUNNING;
    // SAFETY: the request is live memory of the type that SIOCSIFFLAGS reads.
    let result = unsafe {
        libc::ioctl(
            socket.as_fd().as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            &raw const request,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(last_errno())
    }
}
