//! Signal masks, dispositions and synchronous waiting.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr;

use rustix::io::Errno;

use crate::descriptor::last_errno;

/// `_NSIG` of `asm/signal.h`.
const LAST_SIGNAL: c_int = 64;

/// Blocks all signals of this thread; those that come stay pending for [`wait`].
pub fn block_all() -> Result<(), Errno> {
    set_mask(&full_set())
}

/// Waits for any blocked signal and takes it.
pub fn wait() -> Result<c_int, Errno> {
    let set = full_set();
    loop {
        // SAFETY: the set is initialised and lives; a null pointer says that no details are
        // wanted.
        let signal = unsafe { libc::sigwaitinfo(&raw const set, ptr::null_mut()) };
        if signal > 0 {
            return Ok(signal);
        }
        match last_errno() {
            Errno::INTR => {}
            errno => return Err(errno),
        }
    }
}

/// Gives every signal its default action and blocks none: what a new program expects. (The Rust
/// runtime ignores `SIGPIPE`, and ignored signals stay so across exec.)
pub fn restore_defaults() -> Result<(), Errno> {
    for signal in 1..=LAST_SIGNAL {
        set_default(signal);
    }
    set_mask(&empty_set())
}

/// Lets a file that has reached the limit of file sizes (`ulimit -f`) be an error of the write,
/// instead of a signal that ends the process. Commands are started with the
/// [defaults](restore_defaults).
pub fn ignore_file_size_limit() {
    // SAFETY: ignoring a signal runs no code of ours.
    let _before = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Not through the C library, which keeps two signals from us: a builder may have been started
/// with them ignored.
fn set_default(signal: c_int) {
    // The kernel's `struct sigaction` is four words at most: handler, flags, restorer and mask.
    // All zero is the default action with no flags.
    let default = [0_usize; 4];
    let mask_length = 8_usize;
    // SAFETY: the structure lives and is as long as the kernel's, and the default action runs no
    // code of ours. SIGKILL and SIGSTOP cannot be changed and give EINVAL, which is as well.
    let _ = unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            default.as_ptr(),
            ptr::null_mut::<usize>(),
            mask_length,
        )
    };
}

fn set_mask(set: &libc::sigset_t) -> Result<(), Errno> {
    // SAFETY: the set is initialised and lives; the old mask is not wanted.
    let result = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, set, ptr::null_mut()) };
    if result == 0 {
        Ok(())
    } else {
        Err(Errno::from_raw_os_error(result))
    }
}

fn full_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the pointer is to memory for one set, and the call cannot fail.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    // SAFETY: the call above has filled it in.
    unsafe { set.assume_init() }
}

fn empty_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the pointer is to memory for one set, and the call cannot fail.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the call above has filled it in.
    unsafe { set.assume_init() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_is_waited_for() {
        // A thread of its own: masks are per thread, and the harness needs its own.
        let thread = std::thread::spawn(|| {
            block_all().unwrap();
            // SAFETY: the call has no preconditions.
            let this = unsafe { libc::pthread_self() };
            // SAFETY: this thread lives; the signal is blocked in it, so it becomes pending.
            let sent = unsafe { libc::pthread_kill(this, libc::SIGUSR1) };
            assert_eq!(sent, 0);
            wait()
        });
        assert_eq!(thread.join().unwrap(), Ok(libc::SIGUSR1));
    }
}
