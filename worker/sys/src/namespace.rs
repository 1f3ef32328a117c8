//! Leaving namespaces: `unshare(2)`.

use rustix::io::Errno;
use rustix::thread::UnshareFlags;

/// Leaves the namespaces that `flags` name for new ones. Sharing of descriptors between threads
/// cannot be ended this way: `FILES` gives `EINVAL`.
pub fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    if flags.contains(UnshareFlags::FILES) {
        return Err(Errno::INVAL);
    }
    // SAFETY: the only danger of the call is a descriptor table of this thread's own, which the
    // check above rules out.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptor_tables_stay_shared() {
        assert_eq!(unshare(UnshareFlags::FILES), Err(Errno::INVAL));
    }
}
