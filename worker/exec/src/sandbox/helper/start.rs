//! Starting the helper: which ids it gets, and who writes their map.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use rustix::io::Errno;
use rustix::process::{getgid, getuid};
use rustix::thread::CapabilitySet;

use super::super::channel::Channel;
use super::super::error::StartError;
use super::super::id_map::{
    IdMap, IdMode, IdRange, MapWriteError, SingleReason, subordinate_ranges, write_single,
    write_with_helpers,
};
use super::super::protocol::{Enter, Settings, StartReport};
use super::calls::Calls;
use super::{HELPER_NAME, IdChoice, SandboxConfig, SandboxHelper, directory};

/// Who gives the sandbox its ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MapWriter {
    /// Nobody: the user namespace stays.
    Nobody,
    /// We, who may map any id.
    Privileged,
    /// `newuidmap` and `newgidmap`.
    Programs,
    /// We, who may map our own id only.
    Ourselves,
}

/// The ids to have and who writes them.
#[derive(Debug)]
struct Plan {
    map: IdMap,
    writer: MapWriter,
}

pub(super) fn start(config: &SandboxConfig) -> Result<SandboxHelper, StartError> {
    directory::prepare(&config.directory)?;
    // Started before the plan is made, so that the program loads while we read the id files.
    // Every plan that fails can only be followed by the simplest one, in a fresh process: an id
    // map, once half written, cannot be written again.
    let mut candidate = Candidate::spawn()?;
    let mut plan = Plan::make(config.ids);
    loop {
        match candidate.enter(config, &plan) {
            Ok(()) => return candidate.finish(plan.map),
            Err(StartError::Map(error)) if plan.writer == MapWriter::Programs => {
                candidate = Candidate::spawn()?;
                plan = Plan::single(SingleReason::HelperFailed(describe(&error)));
            }
            Err(error) => return Err(error),
        }
    }
}

impl Plan {
    fn make(choice: IdChoice) -> Self {
        if choice == IdChoice::Single {
            return Self::single(SingleReason::Asked);
        }
        let held = rustix::thread::capabilities(None)
            .map_or(CapabilitySet::empty(), |sets| sets.effective);
        if getuid().is_root() {
            let identity = || IdMap::identity(&own_ids("uid_map"), &own_ids("gid_map"));
            if held.contains(CapabilitySet::SYS_ADMIN) {
                return Self {
                    map: identity(),
                    writer: MapWriter::Nobody,
                };
            }
            if held.contains(CapabilitySet::SETUID | CapabilitySet::SETGID) {
                return Self {
                    map: identity(),
                    writer: MapWriter::Privileged,
                };
            }
        }
        let user = getuid().as_raw();
        let name = ashlar_sys::account::login_name(user);
        match subordinate_ranges(user, name.as_deref()) {
            Ok((users, groups)) => Self {
                map: IdMap::range((user, getgid().as_raw()), &users, &groups),
                writer: MapWriter::Programs,
            },
            Err(error) => Self::single(SingleReason::NoRange(error)),
        }
    }

    fn single(reason: SingleReason) -> Self {
        let own = (getuid().as_raw(), getgid().as_raw());
        Self {
            map: IdMap::single(own, reason),
            writer: MapWriter::Ourselves,
        }
    }

    fn write(&self, pid: u32) -> Result<(), MapWriteError> {
        match self.writer {
            MapWriter::Nobody => Ok(()),
            MapWriter::Privileged => write_single(pid, &self.map, true),
            MapWriter::Programs => write_with_helpers(pid, &self.map),
            MapWriter::Ourselves => write_single(pid, &self.map, false),
        }
    }
}

/// A helper that does not serve yet. Killed if dropped.
#[derive(Debug)]
struct Candidate {
    process: Option<Child>,
    launcher: Channel,
    files: UnixStream,
}

impl Candidate {
    fn spawn() -> Result<Self, StartError> {
        let (launcher, their_launcher) = Channel::pair().map_err(StartError::Spawn)?;
        let (files, their_files) = UnixStream::pair().map_err(StartError::Spawn)?;
        let process = Command::new("/proc/self/exe")
            .arg0(HELPER_NAME)
            .arg("enter")
            // Nothing of the builder's environment (tokens, agents) may be seen by a container
            // that finds its way into the helper.
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(their_launcher)))
            .stdout(Stdio::from(OwnedFd::from(their_files)))
            // ^C at the terminal is the builder's to handle, who then calls containers off.
            .process_group(0)
            .spawn()
            .map_err(StartError::Spawn)?;
        Ok(Self {
            process: Some(process),
            launcher,
            files,
        })
    }

    /// Leads the process into its namespaces and gives it its ids.
    fn enter(&mut self, config: &SandboxConfig, plan: &Plan) -> Result<(), StartError> {
        let new_user_namespace = plan.writer != MapWriter::Nobody;
        self.say(&Enter { new_user_namespace })?;
        self.expect(|report| matches!(report, StartReport::Entered))?;
        let pid = self.process.as_ref().map_or(0, Child::id);
        plan.write(pid).map_err(StartError::Map)?;
        self.say(&Settings {
            directory: config.directory.clone(),
            single: plan.map.mode() == IdMode::Single,
            users: plan.map.users().to_vec(),
            groups: plan.map.groups().to_vec(),
        })?;
        self.expect(|report| matches!(report, StartReport::Ready))
    }

    fn finish(mut self, id_map: IdMap) -> Result<SandboxHelper, StartError> {
        let files = self.files.try_clone().map_err(StartError::Spawn)?;
        let launcher = self.launcher_clone()?;
        let calls = Calls::new(files).map_err(StartError::Spawn)?;
        let lost = || StartError::NoAnswer(Errno::CHILD.into());
        let process = self.process.take().ok_or_else(lost)?;
        Ok(SandboxHelper {
            launcher: Some(launcher),
            calls,
            process,
            id_map,
        })
    }

    fn launcher_clone(&self) -> Result<Channel, StartError> {
        use std::os::fd::AsFd as _;

        let socket = self
            .launcher
            .as_fd()
            .try_clone_to_owned()
            .map_err(StartError::Spawn)?;
        Ok(socket.into())
    }

    fn say<T: serde::Serialize>(&self, message: &T) -> Result<(), StartError> {
        self.launcher
            .send(message, &[])
            .map_err(StartError::NoAnswer)
    }

    fn expect(&self, wanted: fn(&StartReport) -> bool) -> Result<(), StartError> {
        match self.launcher.receive().map_err(StartError::NoAnswer)? {
            Some((report, _)) if wanted(&report) => Ok(()),
            Some((StartReport::NoNamespace { kind, error }, _)) => Err(StartError::Namespace {
                kind,
                source: error,
            }),
            Some((StartReport::Failed { operation, error }, _)) => Err(StartError::Prepare {
                operation,
                source: error,
            }),
            Some(_) => Err(StartError::NoAnswer(io::ErrorKind::InvalidData.into())),
            None => Err(StartError::NoAnswer(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Both fail only if it has ended by itself.
            let _killed = process.kill();
            let _status = process.wait();
        }
    }
}

/// The ids that exist in our user namespace; all, if the kernel does not tell.
fn own_ids(file: &str) -> Vec<IdRange> {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let ranges = parse_map(&text);
    if ranges.is_empty() {
        return vec![IdRange {
            inside: 0,
            outside: 0,
            count: u32::MAX,
        }];
    }
    ranges
}

fn parse_map(text: &str) -> Vec<IdRange> {
    text.lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().map(str::parse);
            Some(IdRange {
                inside: numbers.next()?.ok()?,
                outside: numbers.next()?.ok()?,
                count: numbers.next()?.ok()?,
            })
        })
        .collect()
}

/// An error and what caused it, in one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_map_is_understood() {
        let text = "         0          0 4294967295\n";
        assert_eq!(
            parse_map(text),
            [IdRange {
                inside: 0,
                outside: 0,
                count: u32::MAX
            }]
        );
        assert_eq!(
            parse_map("0 1000 1\n1 100000 65536\n"),
            [
                IdRange {
                    inside: 0,
                    outside: 1000,
                    count: 1
                },
                IdRange {
                    inside: 1,
                    outside: 100_000,
                    count: 65536
                }
            ]
        );
        assert_eq!(parse_map("x\n1 2\n"), []);
    }

    #[test]
    fn a_failed_helper_program_is_described_with_its_cause() {
        let error = MapWriteError::NoProgram {
            program: "newuidmap",
            source: Errno::NOENT.into(),
        };
        assert_eq!(
            describe(&error),
            "newuidmap cannot be run: No such file or directory (os error 2)"
        );
    }
}
