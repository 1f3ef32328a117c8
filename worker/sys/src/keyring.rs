//! Session keyrings: see `keyrings(7)`.

use std::ffi::c_char;
use std::ptr;

use rustix::io::Errno;

use crate::descriptor::last_errno;

/// `KEYCTL_JOIN_SESSION_KEYRING` of `linux/keyctl.h`.
const JOIN_SESSION_KEYRING: u32 = 1;

/// Gives this process a new, empty session keyring in place of the one that it inherited.
pub fn join_new_session_keyring() -> Result<(), Errno> {
    // SAFETY: a null name asks for an anonymous keyring; nothing is read through the pointer.
    let result = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            JOIN_SESSION_KEYRING,
            ptr::null::<c_char>(),
        )
    };
    if result < 0 {
        Err(last_errno())
    } else {
        Ok(())
    }
}
