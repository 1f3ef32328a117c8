//! What the process returns, so that scripts can tell classes of failure apart.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | the build, or what else was asked for, failed: the input's affair |
//! | 2 | the command line or the configuration is wrong: nothing was begun |
//! | 3 | this machine or a service cannot do it: no namespaces, registry unreachable, store not writable, disk full |
//! | 70 | a bug of Ashlar (`EX_SOFTWARE` of sysexits.h) |
//! | 130 | interrupted by the user (128 + SIGINT) |
//!
//! `ashlar run` returns what the container's process returned.

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// Done.
    Success,
    /// The build, or what else was asked for, failed.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
    /// This machine or a service cannot do it.
    Environment,
    /// A bug of Ashlar.
    Bug,
    /// The user interrupted it.
    Interrupted,
    /// What a container's process returned.
    Container(u8),
}

impl ExitCode {
    /// The number that the parent process sees.
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Environment => 3,
            Self::Bug => 70,
            Self::Interrupted => 130,
            Self::Container(code) => code,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scripts rely on these numbers: they must never change.
    #[test]
    fn classes_have_their_numbers() {
        let codes = [
            ExitCode::Success,
            ExitCode::Failed,
            ExitCode::Usage,
            ExitCode::Environment,
            ExitCode::Bug,
            ExitCode::Interrupted,
            ExitCode::Container(42),
        ];
        assert_eq!(codes.map(ExitCode::code), [0, 1, 2, 3, 70, 130, 42]);
    }
}
