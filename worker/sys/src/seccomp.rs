//! System call filters: `seccomp(2)`.

use std::ffi::c_ulong;

use rustix::io::Errno;

use crate::descriptor::last_errno;

/// One instruction of a filter, as `struct sock_filter` of `linux/filter.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if a comparison holds.
    pub jump_true: u8,
    /// Instructions to skip if it does not.
    pub jump_false: u8,
    /// Operand.
    pub operand: u32,
}

/// `struct sock_fprog` of `linux/filter.h`.
#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

/// Puts a filter before every later system call of this thread and its children, for good. Needs
/// `CAP_SYS_ADMIN` in the user namespace, or `no_new_privs`.
pub fn install_filter(instructions: &[Instruction]) -> Result<(), Errno> {
    let length = u16::try_from(instructions.len()).map_err(|_| Errno::TOOBIG)?;
    let program = Program {
        length,
        instructions: instructions.as_ptr(),
    };
    let no_flags: c_ulong = 0;
    // SAFETY: the program's length is that of the slice, whose elements are laid out as the
    // kernel's; the kernel copies it and checks it before use. A filter changes what system calls
    // return, never memory.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            c_ulong::from(libc::SECCOMP_SET_MODE_FILTER),
            no_flags,
            &raw const program,
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

    #[test]
    fn an_empty_filter_is_refused() {
        assert!(matches!(
            install_filter(&[]),
            Err(Errno::INVAL | Errno::ACCESS)
        ));
    }

    #[test]
    fn a_filter_that_is_too_long_is_refused() {
        let instruction = Instruction {
            code: 0,
            jump_true: 0,
            jump_false: 0,
            operand: 0,
        };
        assert_eq!(
            install_filter(&vec![instruction; 70_000]),
            Err(Errno::TOOBIG)
        );
    }
}
