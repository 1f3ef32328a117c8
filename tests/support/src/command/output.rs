//! What a command left: how it ended and what it wrote.

use std::borrow::Cow;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use crate::progress::Progress;

/// The end of a command. Its exit code is to be looked at.
#[derive(Debug)]
#[must_use = "a command's exit code is to be asserted"]
pub struct Output {
    line: String,
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    elapsed: Duration,
}

impl Output {
    pub(super) fn new(
        line: String,
        status: ExitStatus,
        stdout: Vec<u8>,
        stderr: Vec<u8>,
        elapsed: Duration,
    ) -> Self {
        Self {
            line,
            status,
            stdout,
            stderr,
            elapsed,
        }
    }

    /// Asserts that it returned 0.
    #[track_caller]
    pub fn success(&self) -> &Self {
        self.exit_code(0)
    }

    /// Asserts that it returned some code.
    #[track_caller]
    pub fn exit_code(&self, code: i32) -> &Self {
        assert_eq!(
            self.status.code(),
            Some(code),
            "{self}\n(on the left its exit code, on the right the one that was wanted)"
        );
        self
    }

    /// The exit code; `None` if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Asserts that standard error contains a text.
    #[track_caller]
    pub fn stderr_has(&self, text: &str) -> &Self {
        assert!(
            self.stderr().contains(text),
            "{self}\n(standard error lacks {text:?})"
        );
        self
    }

    /// Asserts that standard error does not contain a text.
    #[track_caller]
    pub fn stderr_lacks(&self, text: &str) -> &Self {
        assert!(
            !self.stderr().contains(text),
            "{self}\n(standard error has {text:?})"
        );
        self
    }

    /// Asserts that there is one error, and gives its line. An error is a line that starts with
    /// `error`; it must not be a panic, and must not be said twice.
    #[track_caller]
    pub fn one_error(&self) -> String {
        let stderr = self.stderr();
        assert!(!stderr.contains("panicked"), "{self}\n(it panicked)");
        let errors: Vec<&str> = stderr
            .lines()
            .filter(|line| line.to_ascii_lowercase().starts_with("error"))
            .collect();
        match errors.as_slice() {
            [error] => (*error).to_owned(),
            _ => panic!("{self}\n(there should be one line that starts with \"error\")"),
        }
    }

    /// Standard output as text.
    pub fn stdout(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }

    /// Standard output as it was written.
    pub fn stdout_bytes(&self) -> &[u8] {
        &self.stdout
    }

    /// Standard error as text.
    pub fn stderr(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stderr)
    }

    /// Standard output as one JSON value.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("{self}\n(standard output is not JSON: {error})"))
    }

    /// Standard output as JSON values, one a line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        self.stdout()
            .lines()
            .map(|line| {
                serde_json::from_str(line)
                    .unwrap_or_else(|error| panic!("{self}\n(not JSON: {line:?}: {error})"))
            })
            .collect()
    }

    /// What the plain progress said.
    pub fn progress(&self) -> Progress {
        Progress::parse(&self.stderr())
    }

    /// How long it took.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }
}

/// All of it, for the message of a failed assertion.
impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "$ {}", self.line)?;
        writeln!(f, "{} after {:?}", self.status, self.elapsed)?;
        writeln!(f, "--- standard output:\n{}", self.stdout())?;
        write!(f, "--- standard error:\n{}", self.stderr())
    }
}
