//! The command itself: from our forked process to the image's program.

use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use ashlar_model::step::{Security, Ulimit};
use ashlar_sys::descriptor::close_on_exec_from;
use ashlar_sys::process::{ExecStrings, execute};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, ioctl_tiocsctty, setrlimit, setsid, umask};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::super::error::SetupError;
use super::super::protocol::Streams;
use super::super::spec::ContainerSpec;
use super::super::user::UserIdentity;
use super::privileges;
use super::runtime::Runtime;

/// Where a command without `/` is looked for if the environment has no `PATH`: Docker's default.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command ready to run: all memory that its start needs is there.
#[derive(Debug)]
pub(super) struct Command<'a> {
    runtime: &'a Runtime,
    identity: &'a UserIdentity,
    name: String,
    /// Files to try, in the order of `PATH`.
    candidates: Vec<CString>,
    arguments: ExecStrings,
    environment: ExecStrings,
    files: Vec<OwnedFd>,
    controls_terminal: bool,
    security: Security,
    limits: Vec<Limit<'a>>,
}

impl<'a> Command<'a> {
    pub(super) fn prepare(
        runtime: &'a Runtime,
        spec: &'a ContainerSpec,
        identity: &'a UserIdentity,
        files: Vec<OwnedFd>,
        streams: Streams,
    ) -> Result<Self, SetupError> {
        let bad = |message: &str| SetupError::BadSpec {
            message: message.to_owned(),
        };
        let Some(name) = spec.args.first() else {
            return Err(bad("there is no command to run"));
        };
        if files.len() != 3 {
            return Err(bad("a container needs three standard streams"));
        }
        let strings = |texts: Vec<Vec<u8>>, what: &str| {
            texts
                .into_iter()
                .map(CString::new)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|_| bad(&format!("{what} contains a zero byte")))
        };
        let arguments = spec
            .args
            .iter()
            .map(|text| text.clone().into_bytes())
            .collect();
        let mut environment: Vec<Vec<u8>> = spec
            .env
            .iter()
            .map(|(name, value)| format!("{name}={value}").into_bytes())
            .collect();
        if !spec.env.iter().any(|(name, _)| name == "HOME") {
            environment.push(format!("HOME={}", identity.home).into_bytes());
        }
        let path = spec.env.iter().rev().find(|(name, _)| name == "PATH");
        let path = path.map_or(DEFAULT_PATH, |(_, value)| value.as_str());
        Ok(Self {
            runtime,
            identity,
            name: name.clone(),
            candidates: strings(candidates(name, path), "the command")?,
            arguments: ExecStrings::new(strings(arguments, "an argument")?),
            environment: ExecStrings::new(strings(environment, "the environment")?),
            files,
            controls_terminal: matches!(streams, Streams::Terminal { .. }),
            security: spec.security,
            limits: limits(&spec.ulimits)?,
        })
    }

    /// Becomes the program. Returns only if that fails.
    pub(super) fn become_program(&self) -> SetupError {
        if let Err(error) = self.set_limits() {
            return error;
        }
        match self.prepare_process() {
            Ok(()) => self.execute(),
            Err((operation, errno)) => SetupError::system(operation)(errno),
        }
    }

    fn prepare_process(&self) -> Result<(), (&'static str, Errno)> {
        let at = |operation: &'static str| move |errno| (operation, errno);
        setsid().map_err(at("no new session for the command"))?;
        let [stdin, stdout, stderr] = self.files.as_slice() else {
            return Err(("no standard streams", Errno::BADF));
        };
        dup2_stdin(stdin).map_err(at("standard input cannot be set"))?;
        dup2_stdout(stdout).map_err(at("standard output cannot be set"))?;
        dup2_stderr(stderr).map_err(at("standard error cannot be set"))?;
        if self.controls_terminal {
            ioctl_tiocsctty(stdin)
                .map_err(at("the terminal cannot be made the controlling one"))?;
        }
        umask(Mode::from_raw_mode(0o022));
        privileges::give_up(self.runtime, self.identity, self.security)?;
        close_on_exec_from(3).map_err(at("descriptors cannot be closed"))?;
        ashlar_sys::signal::restore_defaults().map_err(at("signals cannot be restored"))
    }

    fn set_limits(&self) -> Result<(), SetupError> {
        // Fails only if it was lowered meanwhile; then it is low enough.
        let _limited = setrlimit(Resource::Nofile, self.runtime.descriptor_limit());
        for (resource, limit, asked) in &self.limits {
            setrlimit(*resource, *limit).map_err(|errno| SetupError::Limit {
                name: asked.name.clone(),
                soft: asked.soft,
                hard: asked.hard,
                source: errno.into(),
            })?;
        }
        Ok(())
    }

    /// Tries one candidate after the other, as execvp(3) does.
    fn execute(&self) -> SetupError {
        let mut refused = None;
        for candidate in &self.candidates {
            match execute(candidate, &self.arguments, &self.environment) {
                Errno::NOENT | Errno::NOTDIR => {
                    // A script whose interpreter is missing gives ENOENT too.
                    if Path::new(OsStr::from_bytes(candidate.as_bytes())).exists() {
                        refused.get_or_insert(Errno::NOENT);
                    }
                }
                Errno::ACCESS => {
                    refused.get_or_insert(Errno::ACCESS);
                }
                errno => return self.not_executable(errno),
            }
        }
        match refused {
            Some(errno) => self.not_executable(errno),
            None if self.name.contains('/') => self.not_executable(Errno::NOENT),
            None => SetupError::CommandNotFound {
                command: self.name.clone(),
            },
        }
    }

    fn not_executable(&self, errno: Errno) -> SetupError {
        SetupError::CommandNotExecutable {
            command: self.name.clone(),
            source: errno.into(),
        }
    }
}

/// A limit as the kernel knows it, and as it was asked for.
type Limit<'a> = (Resource, Rlimit, &'a Ulimit);

/// Limits as the kernel knows them.
fn limits(asked: &[Ulimit]) -> Result<Vec<Limit<'_>>, SetupError> {
    let one = |limit| -> Result<Limit<'_>, SetupError> {
        let Ulimit { name, soft, hard }: &Ulimit = limit;
        let resource = resource(name).ok_or_else(|| SetupError::BadSpec {
            message: format!("there is no limit {name:?}"),
        })?;
        let kernel = Rlimit {
            current: *soft,
            maximum: *hard,
        };
        Ok((resource, kernel, limit))
    };
    asked.iter().map(one).collect()
}

/// The resource of a limit's name, as Docker's `--ulimit` has it.
fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return None,
    })
}

/// The files that a command's name may mean.
fn candidates(name: &str, path: &str) -> Vec<Vec<u8>> {
    if name.is_empty() {
        return Vec::new();
    }
    if name.contains('/') {
        return vec![name.as_bytes().to_vec()];
    }
    // An empty element is the current directory, by old custom. Go's exec.LookPath, which decides
    // for Docker, wants no such surprise, and neither do we.
    path.split(':')
        .filter(|directory| !directory.is_empty())
        .map(|directory| format!("{directory}/{name}").into_bytes())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(name: &str, path: &str) -> Vec<String> {
        candidates(name, path)
            .into_iter()
            .map(|bytes| String::from_utf8(bytes).unwrap())
            .collect()
    }

    #[test]
    fn a_plain_name_is_looked_for_along_the_path() {
        assert_eq!(texts("sh", "/bin:/usr/bin"), ["/bin/sh", "/usr/bin/sh"]);
        assert_eq!(texts("sh", ":/bin:"), ["/bin/sh"]);
        assert_eq!(texts("sh", ""), [""; 0]);
    }

    #[test]
    fn a_name_with_a_slash_stands_for_itself() {
        assert_eq!(texts("./run", "/bin"), ["./run"]);
        assert_eq!(texts("/bin/sh", ""), ["/bin/sh"]);
    }

    #[test]
    fn an_empty_name_means_nothing() {
        assert_eq!(texts("", "/bin"), [""; 0]);
    }
}
