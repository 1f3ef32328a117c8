//! Login names, as the system's name service knows them.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ptr;

/// Longest passwd entry that is looked at: far above what real ones need (glibc suggests 1024).
const ENTRY_LIMIT: usize = 64 * 1024;

/// The login name of a user; `None` if there is none, or none in UTF-8.
pub fn login_name(uid: u32) -> Option<String> {
    let mut buffer = vec![0_u8; ENTRY_LIMIT];
    let mut entry = MaybeUninit::<libc::passwd>::uninit();
    let mut found = ptr::null_mut();
    // SAFETY: all pointers are to live memory of the lengths given, which outlives the call; the
    // function is the reentrant one, so other threads may call it too.
    let result = unsafe {
        libc::getpwuid_r(
            uid,
            entry.as_mut_ptr(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            &raw mut found,
        )
    };
    if result != 0 || found.is_null() {
        return None;
    }
    // SAFETY: `found` is not null, so it points to `entry`, which the call has filled in.
    let name = unsafe { (*found).pw_name };
    if name.is_null() {
        return None;
    }
    // SAFETY: the name of a found entry is a NUL-terminated string inside `buffer`, which lives.
    let name = unsafe { CStr::from_ptr(name) };
    name.to_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_called_root() {
        assert_eq!(login_name(0).as_deref(), Some("root"));
    }

    #[test]
    fn an_id_without_an_account_has_no_name() {
        assert_eq!(login_name(u32::MAX - 7), None);
    }
}
