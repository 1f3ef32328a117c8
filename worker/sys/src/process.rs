//! Fork, exec and immediate exit.

use std::ffi::{CStr, CString, c_char};
use std::os::unix::fs::MetadataExt as _;
use std::{fmt, io, ptr};

use rustix::io::Errno;
use rustix::process::Pid;

use crate::descriptor::last_errno;

/// On which side of a fork we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forked {
    /// In the parent; the child has this id, in our process namespace.
    Parent(Pid),
    /// In the child.
    Child,
}

/// Doubles this process, which must have one thread only: in the child of a process with more,
/// any lock may be held for ever by a thread that is no more, so it could not even allocate.
///
/// Fails with `EBUSY` if there are more threads, or if `/proc` cannot tell.
pub fn fork() -> Result<Forked, Errno> {
    if thread_count().map_err(|_| Errno::BUSY)? != 1 {
        return Err(Errno::BUSY);
    }
    // SAFETY: the process has one thread, so the child is a full copy in a consistent state, and
    // any code may run in it.
    match unsafe { libc::fork() } {
        0 => Ok(Forked::Child),
        pid => Pid::from_raw(pid)
            .filter(|_| pid > 0)
            .map(Forked::Parent)
            .ok_or_else(last_errno),
    }
}

/// How many threads this process has: the link count of the task directory less the two that
/// every directory has. One system call, where reading `/proc/self/status` takes three.
fn thread_count() -> io::Result<u64> {
    Ok(std::fs::metadata("/proc/self/task")?
        .nlink()
        .saturating_sub(2))
}

/// Ends this process now, without running destructors or exit handlers: for forked children,
/// whose copies of the parent's values must not act on the world.
pub fn exit_immediately(code: u8) -> ! {
    // SAFETY: the call has no preconditions.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Strings in the form in which exec takes arguments and environment.
pub struct ExecStrings {
    /// Keeps what the pointers point to.
    strings: Vec<CString>,
    /// To each of `strings`, then null. `CString`s keep their bytes on the heap, so moving
    /// `strings` leaves the pointers valid.
    pointers: Vec<*const c_char>,
}

impl ExecStrings {
    /// Takes over the strings; the order stays.
    pub fn new(strings: Vec<CString>) -> Self {
        let pointers = strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([ptr::null()])
            .collect();
        Self { strings, pointers }
    }
}

impl fmt::Debug for ExecStrings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the strings: an environment may hold secrets.
        write!(f, "ExecStrings({})", self.strings.len())
    }
}

/// Becomes the program at `path`. Returns only if that fails.
pub fn execute(path: &CStr, arguments: &ExecStrings, environment: &ExecStrings) -> Errno {
    // SAFETY: the path and all strings are NUL-terminated and live, and both arrays end in null,
    // by the construction of `ExecStrings`.
    unsafe {
        libc::execve(
            path.as_ptr(),
            arguments.pointers.as_ptr(),
            environment.pointers.as_ptr(),
        );
    }
    last_errno()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_does_not_fork() {
        // The test harness itself has at least two threads; one more makes it certain.
        let (to, from) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || from.recv());
        assert_eq!(fork(), Err(Errno::BUSY));
        drop(to);
        thread.join().unwrap().unwrap_err();
    }

    #[test]
    fn what_cannot_be_executed_gives_the_reason() {
        let none = ExecStrings::new(vec![]);
        assert_eq!(execute(c"/none/such", &none, &none), Errno::NOENT);
        assert_eq!(execute(c"/etc/passwd", &none, &none), Errno::ACCESS);
    }

    #[test]
    fn debug_output_shows_no_strings() {
        let secret = ExecStrings::new(vec![c"TOKEN=secret".to_owned()]);
        assert_eq!(format!("{secret:?}"), "ExecStrings(1)");
    }
}
