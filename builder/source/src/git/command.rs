//! One run of git.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use ashlar_model::executor::{OutputStream, StepOutput};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::GitFetcher;
use super::error::GitError;

/// Protocols that repositories and their submodules may be fetched by. A submodule that names a
/// path of this machine is refused.
const PROTOCOLS: &str = "http:https:git:ssh";

/// Bytes of git's messages that are kept for an error.
const KEPT_MESSAGES: usize = 8 * 1024;

/// Settings for every run, before those of the run itself.
const SETTINGS: [(&str, &str); 8] = [
    ("safe.directory", "*"),
    ("init.defaultBranch", "master"),
    ("advice.detachedHead", "false"),
    ("core.hooksPath", "/dev/null"),
    ("submodule.recurse", "false"),
    // Nothing runs on after git has ended.
    ("gc.autoDetach", "false"),
    ("maintenance.autoDetach", "false"),
    ("core.fsmonitor", "false"),
];

/// Runs git in one repository, with settings of its own.
#[derive(Clone)]
pub(super) struct Git<'a> {
    fetcher: &'a GitFetcher,
    variables: Vec<(&'static str, std::ffi::OsString)>,
    settings: Vec<(String, String)>,
    protocols: &'static str,
    output: Option<Arc<dyn StepOutput>>,
}

impl<'a> Git<'a> {
    pub(super) const fn new(fetcher: &'a GitFetcher, output: Option<Arc<dyn StepOutput>>) -> Self {
        Self {
            fetcher,
            variables: Vec::new(),
            settings: Vec::new(),
            protocols: PROTOCOLS,
            output,
        }
    }

    /// Who runs it.
    pub(super) const fn fetcher(&self) -> &'a GitFetcher {
        self.fetcher
    }

    /// In this repository.
    #[must_use]
    pub(super) fn repository(mut self, path: &Path) -> Self {
        self.variables.push(("GIT_DIR", path.into()));
        self
    }

    /// With files in this directory.
    #[must_use]
    pub(super) fn work_tree(mut self, path: &Path) -> Self {
        self.variables.push(("GIT_WORK_TREE", path.into()));
        self
    }

    /// With a setting. Unlike an argument it is not for others to see.
    #[must_use]
    pub(super) fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// From repositories of this machine, and no others.
    #[must_use]
    pub(super) const fn local(mut self) -> Self {
        self.protocols = "file";
        self
    }

    /// Runs git and returns what it writes.
    pub(super) async fn run(&self, arguments: &[&str]) -> Result<String, GitError> {
        let mut command = self.command(arguments);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(GitError::Missing),
            Err(error) => return Err(GitError::Spawn(error)),
        };
        let mut group = Group::of(child.id());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (out, messages, status) = tokio::join!(
            read_all(stdout, None),
            read_all(stderr, self.output.as_deref()),
            child.wait()
        );
        group.disarm();
        let status = status.map_err(GitError::Spawn)?;
        if !status.success() {
            return Err(GitError::Failed {
                command: arguments.first().copied().unwrap_or_default().to_owned(),
                messages: text_of(&messages),
            });
        }
        Ok(String::from_utf8_lossy(&out).trim_end().to_owned())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command
            .args(arguments)
            .env_clear()
            .envs(self.fetcher.environment.variables.iter().cloned())
            .envs(self.variables.iter().cloned())
            .env("LC_ALL", "C")
            .env("HOME", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", self.protocols)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Its helpers are to end with it.
            .process_group(0)
            .kill_on_drop(true);
        let fixed = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = fixed.iter().chain(&self.settings);
        let mut count = 0;
        for (name, value) in settings {
            command.env(format!("GIT_CONFIG_KEY_{count}"), name);
            command.env(format!("GIT_CONFIG_VALUE_{count}"), value);
            count += 1;
        }
        command.env("GIT_CONFIG_COUNT", count.to_string());
        let tree = self
            .variables
            .iter()
            .find(|(name, _)| *name == "GIT_WORK_TREE");
        if let Some((_, tree)) = tree {
            command.current_dir(tree);
        } else {
            command.current_dir("/");
        }
        command
    }
}

/// What git and its helpers have said, as one text. (ssh ends its lines as raw terminals want it.)
fn text_of(messages: &[u8]) -> String {
    let text = String::from_utf8_lossy(messages).replace("\r\n", "\n");
    text.trim().to_owned()
}

/// Ends git and its helpers if nobody waits for them any more.
struct Group(Option<Pid>);

impl Group {
    fn of(id: Option<u32>) -> Self {
        let id = id.and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }

    const fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended by itself.
            let _ignored = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Reads a stream to its end. Where it is shown, only the end of it is kept.
async fn read_all(
    stream: Option<impl AsyncRead + Unpin>,
    output: Option<&dyn StepOutput>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let Some(mut stream) = stream else {
        return bytes;
    };
    let mut buffer = vec![0; 16 * 1024];
    // An error of a pipe is its end.
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        let new = &buffer[..count];
        bytes.extend_from_slice(new);
        if let Some(output) = output {
            output.write(OutputStream::Stderr, new);
            if bytes.len() > 2 * KEPT_MESSAGES {
                bytes.drain(..bytes.len() - KEPT_MESSAGES);
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::text_of;

    #[test]
    fn lines_of_ssh_are_lines() {
        let messages = b"ssh: Could not resolve hostname x\r\nfatal: no\n\n";
        assert_eq!(
            text_of(messages),
            "ssh: Could not resolve hostname x\nfatal: no"
        );
    }
}
