//! A system call's error that can cross from the sandbox to the builder.

use std::{error, fmt, io};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// An error number with the system's words for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemError(i32);

impl SystemError {
    /// The number, as in `errno.h`.
    pub const fn number(self) -> i32 {
        self.0
    }

    /// Whether it is this one.
    pub fn is(self, errno: Errno) -> bool {
        self.0 == errno.raw_os_error()
    }
}

impl From<Errno> for SystemError {
    fn from(errno: Errno) -> Self {
        Self(errno.raw_os_error())
    }
}

impl From<io::Error> for SystemError {
    /// Errors that no system call gave count as I/O errors.
    fn from(error: io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(Errno::IO.raw_os_error()))
    }
}

impl fmt::Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl error::Error for SystemError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_the_system() {
        let error = SystemError::from(Errno::NOENT);
        assert_eq!(error.to_string(), "No such file or directory (os error 2)");
        assert!(error.is(Errno::NOENT));
        assert!(!error.is(Errno::PERM));
    }
}
