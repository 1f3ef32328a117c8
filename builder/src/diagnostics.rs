//! Errors as the user meets them.
//!
//! ```text
//! Dockerfile:3                                          details, if there are any
//! …
//! error: cannot write /home/me/.local/share/ashlar/x    one line: what failed
//!   caused by: No space left on device (os error 28)    why, down to the root
//! hint: free some space, or run `ashlar prune`          what to do
//! ```
//!
//! A cause that the line above it already says is left out.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Write as _;
use std::io;

use ashlar_model::error_chain::error_chain;
use ashlar_store::home::StoreError;

use crate::exit_code::ExitCode;

/// What class of failure this is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// What was asked for cannot be done as it was asked for: a RUN failed, an image is unknown.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
    /// This machine or a service cannot do it.
    Environment,
    /// A container's command could not be started. With the code that a shell reports for it:
    /// 126 or 127.
    NotStarted(u8),
    /// Ashlar is wrong.
    Bug,
    /// The user interrupted it.
    Interrupted,
    /// Nobody reads our output any more. Not worth a word.
    BrokenPipe,
}

/// The error type of commands.
#[derive(Debug)]
pub struct CliError {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    details: Vec<String>,
    hints: Vec<String>,
}

impl CliError {
    /// An error of some class. `message` is one sentence without full stop: what failed, and where.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
            details: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// What was asked for cannot be done: exit code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Failed, message)
    }

    /// The command line or the configuration is wrong: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// This machine or a service cannot do it: exit code 3.
    pub fn environment(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Environment, message)
    }

    /// Ashlar is wrong: exit code 70.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Bug, message)
            .hint("this is a bug in Ashlar; please report it with the command that you ran")
    }

    /// The user interrupted it: exit code 130.
    pub fn interrupted() -> Self {
        Self::new(ErrorKind::Interrupted, "interrupted")
    }

    /// An error whose own message is the line to show, and whose sources are its causes.
    pub fn of(kind: ErrorKind, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let error = error.into();
        let mut shown = Self::new(kind, error.to_string());
        // The message of the error itself is a repeat of the line above it, and left out.
        shown.source = Some(error);
        shown
    }

    /// Adds why it failed.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds lines that are shown as they are, above the error: a snippet, a command's output.
    #[must_use]
    pub fn detail(mut self, text: impl Into<String>) -> Self {
        self.details.push(text.into());
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The class.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What failed, without causes and hints.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the process returns for it.
    pub const fn exit_code(&self) -> ExitCode {
        match self.kind {
            ErrorKind::Failed => ExitCode::Failed,
            ErrorKind::Usage => ExitCode::Usage,
            ErrorKind::Environment => ExitCode::Environment,
            ErrorKind::NotStarted(code) => ExitCode::Container(code),
            ErrorKind::Bug => ExitCode::Bug,
            ErrorKind::Interrupted => ExitCode::Interrupted,
            ErrorKind::BrokenPipe => ExitCode::Success,
        }
    }

    /// The text for standard error, each line ended; empty for a broken pipe.
    pub fn render(&self, color: bool) -> String {
        let mut text = String::new();
        if self.kind == ErrorKind::BrokenPipe {
            return text;
        }
        let (red, cyan, plain) = if color {
            ("\x1b[1;31m", "\x1b[1;36m", "\x1b[0m")
        } else {
            ("", "", "")
        };
        for detail in &self.details {
            text.push_str(detail.trim_end_matches('\n'));
            text.push('\n');
        }
        // Writing to a String cannot fail.
        let _ok = writeln!(text, "{red}error:{plain} {}", printable(&self.message));
        for cause in self.causes() {
            let _ok = writeln!(text, "  caused by: {}", printable(&cause));
        }
        for hint in &self.hints {
            let _ok = writeln!(text, "{cyan}hint:{plain} {}", printable(hint));
        }
        text
    }

    /// The messages of the source chain, those left out that the one before already contains.
    fn causes(&self) -> Vec<String> {
        let mut said = self.message.clone();
        let mut causes = Vec::new();
        let mut next: Option<&(dyn Error + 'static)> = self.source.as_deref().map(|e| e as _);
        while let Some(error) = next {
            let message = error.to_string();
            if !message.is_empty() && !said.contains(&message) {
                said.clone_from(&message);
                causes.push(message);
            }
            next = error.source();
        }
        causes
    }
}

/// What an error and its causes say, as an error that can be kept where the error itself cannot.
pub(crate) fn said(error: &dyn Error) -> Box<dyn Error + Send + Sync> {
    error_chain(error).into()
}

/// A text without what could command a terminal: names and answers may be anybody's.
fn printable(text: &str) -> Cow<'_, str> {
    let is_harmless = |c: char| !c.is_control() || c == '\n' || c == '\t';
    if text.chars().all(is_harmless) {
        return Cow::Borrowed(text);
    }
    let shown = text.chars().map(|c| {
        if is_harmless(c) {
            c
        } else {
            char::REPLACEMENT_CHARACTER
        }
    });
    Cow::Owned(shown.collect())
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let hint = error.hint();
        let shown = Self::of(ErrorKind::Environment, error);
        match hint {
            Some(hint) => shown.hint(hint),
            None => shown,
        }
    }
}

/// An error of writing to standard output.
pub(crate) fn output_error(error: io::Error) -> CliError {
    if error.kind() == io::ErrorKind::BrokenPipe {
        CliError::new(ErrorKind::BrokenPipe, "nobody reads the output")
    } else {
        CliError::environment("cannot write to standard output").caused_by(error)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot frobnicate")]
    struct Outer(#[source] io::Error);

    #[test]
    fn an_error_shows_its_causes_and_hints_in_order() {
        let error = CliError::failed("cannot build")
            .detail("Dockerfile:3\n")
            .caused_by(Outer(io::Error::other("out of widgets")))
            .hint("buy widgets");
        assert_eq!(
            error.render(false),
            "Dockerfile:3\nerror: cannot build\n  caused by: cannot frobnicate\n  \
             caused by: out of widgets\nhint: buy widgets\n"
        );
        assert_eq!(error.exit_code(), ExitCode::Failed);
    }

    #[test]
    fn what_was_said_is_not_repeated() {
        let error = CliError::failed("cannot build: out of widgets")
            .caused_by(io::Error::other("out of widgets"));
        assert_eq!(error.render(false), "error: cannot build: out of widgets\n");
        let error = CliError::of(ErrorKind::Bug, Outer(io::Error::other("no widgets")));
        assert_eq!(
            error.render(false),
            "error: cannot frobnicate\n  caused by: no widgets\n"
        );
    }

    #[test]
    fn a_broken_pipe_is_quiet() {
        let error = output_error(io::ErrorKind::BrokenPipe.into());
        assert_eq!(error.render(true), "");
        assert_eq!(error.exit_code(), ExitCode::Success);
        let error = output_error(io::ErrorKind::StorageFull.into());
        assert_eq!(error.exit_code(), ExitCode::Environment);
    }

    #[test]
    fn a_full_disk_and_a_forbidden_store_say_what_to_do() {
        let path = Path::new("/store/x");
        let full = StoreError::io("write", path, io::ErrorKind::StorageFull.into());
        let full = CliError::from(full);
        assert_eq!(full.exit_code(), ExitCode::Environment);
        assert!(full.render(false).contains("ashlar prune"));
        let forbidden = StoreError::io("write", path, io::ErrorKind::PermissionDenied.into());
        assert!(
            CliError::from(forbidden)
                .render(false)
                .contains("$ASHLAR_HOME")
        );
    }

    #[test]
    fn color_marks_only_the_words() {
        let text = CliError::usage("no").render(true);
        assert_eq!(text, "\x1b[1;31merror:\x1b[0m no\n");
    }
}
