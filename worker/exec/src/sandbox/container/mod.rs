//! One container, from inside its namespaces.
//!
//! [`Container::run`] is the life of its init, PID 1. Why this order:
//!
//! 1. Namespaces, then the root filesystem, while the machine's files can still be reached.
//! 2. The mounts on it. `/proc` comes before `/dev` and the rest, for the kernel grants a fresh
//!    one only while it sees the outer one uncovered.
//! 3. Files that are looked up in the container (its user, its working directory): after the
//!    mounts, as the command will see them.
//! 4. `pivot_root`: from here on the machine's files are out of reach.
//! 5. The command is forked, gives up privileges, and becomes the image's program.

mod command;
mod device;
mod init;
mod inside;
mod kernel_files;
mod mount;
mod mount_point;
mod privileges;
mod requested;
mod root;
mod run_files;
mod runtime;
pub(super) mod seccomp;
mod terminal;
mod working_directory;

use std::os::fd::OwnedFd;
use std::path::Path;

use ashlar_model::step::Network;
use ashlar_sys::namespace::unshare;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{
    Signal, chdir, fchdir, pivot_root, set_parent_process_death_signal, setsid, umask,
};
use rustix::thread::UnshareFlags;

use super::channel::Channel;
use super::error::SetupError;
use super::protocol::{InitReport, LaunchRequest, Streams, WireStatus};
use super::user::{ACCOUNT_FILE_LIMIT, UserError, UserIdentity, resolve_user};

use command::Command;
use mount_point::MountPoints;
pub(super) use run_files::RunFiles;
pub(super) use runtime::Runtime;

/// A container that init is to set up and run.
pub(super) struct Container<'a> {
    /// What all containers of a sandbox have in common.
    pub(super) runtime: &'a Runtime,
    /// What was asked for.
    pub(super) request: LaunchRequest,
    /// Generated files to mount.
    pub(super) run_files: &'a RunFiles,
    /// To the supervisor.
    pub(super) reports: Channel,
    /// To the builder.
    pub(super) channel: &'a Channel,
}

impl Container<'_> {
    /// Sets the container up, runs the command with these standard streams, and reports. When it
    /// returns, init has to end, and the kernel ends whatever is left.
    pub(super) fn run(self, files: Vec<OwnedFd>) {
        let report = match self.try_run(files) {
            Ok(status) => InitReport::Exited(status),
            Err(error) => InitReport::Failed(error),
        };
        // Fails only if the supervisor has gone; then init is being killed.
        let _sent = self.reports.send(&report, &[]);
    }

    fn try_run(&self, files: Vec<OwnedFd>) -> Result<WireStatus, SetupError> {
        self.leave_namespaces()?;
        let spec = &self.request.spec;
        let root = root::mount(self.runtime, &spec.root)?;
        let mut points = MountPoints::new(&root, spec.root.writable.as_ref())?;
        let made = self.mount_all(&mut points);
        // What was made must be removed even if the rest failed.
        let stubs = points.finish()?;
        if !stubs.is_empty() {
            self.reports
                .send(&InitReport::Stubs(stubs), &[])
                .map_err(SetupError::system(
                    "the supervisor cannot be told of mount points",
                ))?;
        }
        let terminals = made?;

        let identity = self.identity(&root)?;
        let cwd = working_directory::open(&root, &spec.cwd, &identity)?;
        let files = match terminals {
            Some(terminal) => terminal.streams(&identity)?,
            None => files,
        };
        if self.request.streams == (Streams::Files { own: true }) {
            privileges::give_streams(&files, &identity);
        }
        enter_root(&root)?;
        fchdir(&cwd).map_err(|errno| SetupError::WorkingDirectory {
            path: spec.cwd.clone(),
            source: errno.into(),
        })?;
        drop((root, cwd));
        let command = Command::prepare(self.runtime, spec, &identity, files, self.request.streams)?;
        init::run(command, &self.reports)
    }

    fn leave_namespaces(&self) -> Result<(), SetupError> {
        ashlar_sys::signal::block_all().map_err(SetupError::system("signals cannot be blocked"))?;
        // If the supervisor has ended before this call, the launcher has too, and the builder's
        // end of the channel will be all that is left of the sandbox: the report at the end then
        // reaches nobody, and init ends.
        set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(SetupError::system("init cannot be tied to its supervisor"))?;
        // Away from the terminal of the builder.
        setsid().map_err(SetupError::system("no new session"))?;
        // Keys of the user who builds are no business of a container. A user can have a limited
        // number of keyrings only; without a new one, the system call filter still stands
        // between the command and the old one.
        let _joined = ashlar_sys::keyring::join_new_session_keyring();

        let spec = &self.request.spec;
        let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
        if spec.network == Network::None {
            flags |= UnshareFlags::NEWNET;
        }
        unshare(flags).map_err(|errno| SetupError::Namespace {
            network: spec.network,
            source: errno.into(),
        })?;
        if spec.network == Network::None {
            ashlar_sys::network::bring_loopback_up().map_err(SetupError::system(
                "the loopback interface cannot be brought up",
            ))?;
        }
        if !spec.hostname.is_empty() {
            rustix::system::sethostname(spec.hostname.as_bytes())
                .map_err(SetupError::system("the host name cannot be set"))?;
        }
        // What is made from here on gets the mode that it is given.
        umask(Mode::empty());
        Ok(())
    }

    /// Everything that is mounted on the root. Gives the terminal, if there is to be one.
    fn mount_all(
        &self,
        points: &mut MountPoints<'_>,
    ) -> Result<Option<terminal::Terminal>, SetupError> {
        let spec = &self.request.spec;
        kernel_files::mount_proc(self.runtime, spec.security, points)?;
        let device = device::mount(self.runtime, points)?;
        kernel_files::mount_sys(self.runtime, spec.security, spec.network, points)?;
        self.run_files.mount(self.runtime, points)?;
        requested::mount_all(self.runtime, self.run_files, &spec.mounts, points)?;
        match self.request.streams {
            Streams::Files { .. } => Ok(None),
            Streams::Terminal { rows, columns } => {
                let terminal = terminal::Terminal::open(&device, rows, columns)?;
                terminal.announce(self.channel)?;
                Ok(Some(terminal))
            }
        }
    }

    /// Looks the user up in the container's own files.
    fn identity(&self, root: &OwnedFd) -> Result<UserIdentity, SetupError> {
        let text = &self.request.spec.user;
        let passwd = account_file(root, "/etc/passwd").map_err(SetupError::User)?;
        let group = account_file(root, "/etc/group").map_err(SetupError::User)?;
        let mut identity = resolve_user(text, &passwd, &group).map_err(SetupError::User)?;
        if self.runtime.single() {
            // setgroups(2) is forbidden, and there are no groups to be had.
            identity.groups.clear();
        }
        self.runtime.check_mapped(&identity)?;
        Ok(identity)
    }
}

/// The bytes of a passwd or group file; none if there is no such regular file.
fn account_file(root: &OwnedFd, path: &str) -> Result<Vec<u8>, UserError> {
    use std::io::Read as _;

    // Not blocking: the file may be a fifo.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let Ok(file) = inside::open_inside(root, Path::new(path), flags) else {
        return Ok(Vec::new());
    };
    let unreadable = |reason: String| UserError::Unreadable {
        path: path.to_owned(),
        reason,
    };
    let file = std::fs::File::from(file);
    let metadata = file
        .metadata()
        .map_err(|error| unreadable(error.to_string()))?;
    if !metadata.is_file() {
        return Ok(Vec::new());
    }
    if metadata.len() > ACCOUNT_FILE_LIMIT {
        return Err(unreadable(format!(
            "it is longer than {ACCOUNT_FILE_LIMIT} bytes"
        )));
    }
    let mut bytes = Vec::new();
    file.take(ACCOUNT_FILE_LIMIT)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(error.to_string()))?;
    Ok(bytes)
}

/// Makes the container's root ours and lets go of the machine's.
fn enter_root(root: &OwnedFd) -> Result<(), SetupError> {
    fchdir(root).map_err(SetupError::system("the root filesystem cannot be entered"))?;
    // The old root lands on top of the new one, where it is unmounted: no directory is needed to
    // put it in (pivot_root(2), notes).
    pivot_root(".", ".").map_err(SetupError::system("pivot_root"))?;
    unmount(".", UnmountFlags::DETACH).map_err(SetupError::system(
        "the machine's files cannot be unmounted",
    ))?;
    chdir("/").map_err(SetupError::system("the root directory cannot be entered"))
}

/// Opens a directory of the machine.
fn open_directory(path: &Path) -> Result<OwnedFd, rustix::io::Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
}
