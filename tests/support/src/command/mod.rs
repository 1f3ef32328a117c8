//! A command run as some user, with nothing inherited, within a time limit.

mod output;
mod running;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

pub use output::Output;
pub use running::Running;

use crate::user::TestUser;

/// How long a command may take unless the test says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);

/// What every command finds in `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command to run. Its environment has `PATH`, `LANG` and what is added here, nothing else.
#[derive(Debug, Clone)]
pub struct TestCommand {
    user: TestUser,
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: PathBuf,
    input: Input,
    timeout: Duration,
}

/// What the command reads from its standard input.
#[derive(Debug, Clone)]
enum Input {
    Nothing,
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl TestCommand {
    /// A command of a user, to be run in the root directory.
    pub fn new(user: TestUser, program: impl AsRef<OsStr>) -> Self {
        Self {
            user,
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: vec![
                ("PATH".into(), PATH.into()),
                ("LANG".into(), "C.UTF-8".into()),
            ],
            directory: PathBuf::from("/"),
            input: Input::Nothing,
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// A program of the machine, run as root: a judge, or what plays the machine.
    pub fn root(program: &str) -> Self {
        Self::new(TestUser::Root, program).env("HOME", "/root")
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(
            arguments
                .into_iter()
                .map(|argument| argument.as_ref().to_owned()),
        );
        self
    }

    /// Adds a variable to the environment, or replaces one.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment
            .push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Sets the working directory.
    pub fn directory(mut self, directory: &Path) -> Self {
        directory.clone_into(&mut self.directory);
        self
    }

    /// Gives the command some bytes to read.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// Lets the command read a file.
    pub fn input_file(mut self, path: &Path) -> Self {
        self.input = Input::File(path.to_owned());
        self
    }

    /// Allows the command more or less time than two minutes.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs the command to its end.
    pub fn run(self) -> Output {
        self.start().wait()
    }

    /// Runs the command to its end; panics unless it succeeds. Gives its standard output.
    pub fn text(self) -> String {
        let output = self.run();
        output.success();
        output.stdout().trim_end().to_owned()
    }

    /// Starts the command. It leads a process group of its own.
    pub fn start(self) -> Running {
        let line = self.to_string();
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment)
            .current_dir(&self.directory)
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if self.user != TestUser::Root {
            let (uid, gid) = self.user.ids();
            command.uid(uid).gid(gid);
        }
        let bytes = match self.input {
            Input::Nothing => {
                command.stdin(Stdio::null());
                None
            }
            Input::File(path) => {
                let file =
                    File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                command.stdin(file);
                None
            }
            Input::Bytes(bytes) => {
                command.stdin(Stdio::piped());
                Some(bytes)
            }
        };
        Running::new(&mut command, bytes, line, self.timeout)
    }
}

/// The command as one would type it, for messages.
impl std::fmt::Display for TestCommand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.program.to_string_lossy())?;
        for argument in &self.arguments {
            write!(f, " {}", argument.to_string_lossy())?;
        }
        Ok(())
    }
}
