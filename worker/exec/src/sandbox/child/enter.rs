//! Into the namespaces: first life of the helper, which ends in an exec of the second.
//!
//! Why this order: the user namespace comes first, for it gives the right to make the others. Ids
//! can be set only when they are mapped, which the builder does, from outside. The program is
//! then started again from a read-only mount of itself: a container's command that gets hold of
//! its parent's `/proc/PID/exe` (CVE-2019-5736) finds a file that it cannot write to.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use ashlar_sys::mount::set_mount_attributes;
use ashlar_sys::namespace::unshare;
use rustix::fs::{AtFlags, CWD, MemfdFlags, SealFlags, statat};
use rustix::io::Errno;
use rustix::mount::{
    MountAttrFlags, MountPropagationFlags, OpenTreeFlags, mount_change, open_tree,
};
use rustix::process::{Gid, Uid};
use rustix::thread::{UnshareFlags, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::super::channel::Channel;
use super::super::helper::HELPER_NAME;
use super::super::protocol::{Enter, Settings, StartReport};
use super::{Failure, SERVE};

/// Returns only if it fails.
pub(super) fn enter(channel: &Channel) -> Failure {
    match try_enter(channel) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn try_enter(channel: &Channel) -> Result<std::convert::Infallible, Failure> {
    let Some((request, _)) = channel.receive::<Enter>().map_err(|_| Failure::Lost)? else {
        return Err(Failure::Lost);
    };
    let namespace = |kind: &str, flags| {
        unshare(flags).map_err(|errno| {
            let (kind, error) = (kind.to_owned(), errno.into());
            Failure::Report(StartReport::NoNamespace { kind, error })
        })
    };
    if request.new_user_namespace {
        namespace("user", UnshareFlags::NEWUSER)?;
    }
    namespace("mount", UnshareFlags::NEWNS)?;
    channel
        .send(&StartReport::Entered, &[])
        .map_err(|_| Failure::Lost)?;

    let Some((settings, _)) = channel.receive::<Settings>().map_err(|_| Failure::Lost)? else {
        return Err(Failure::Lost);
    };
    become_root(&settings).map_err(Failure::of("becoming root inside the sandbox"))?;
    // Nothing that is mounted here may be seen outside, where we are root outside.
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .map_err(Failure::of("making all mounts private"))?;

    let program = read_only_program().map_err(Failure::of("protecting this program's file"))?;
    let settings = super::super::channel::write_memory_file("settings", &settings)
        .map_err(Failure::of("handing the settings on"))?;
    // The settings cross the exec; the descriptor's number is the second argument.
    rustix::io::fcntl_setfd(&settings, rustix::io::FdFlags::empty())
        .map_err(Failure::of("handing the settings on"))?;
    let error = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
        .arg0(HELPER_NAME)
        .arg(SERVE)
        .arg(settings.as_raw_fd().to_string())
        .exec();
    Err(Failure::of("starting this program inside the sandbox")(
        error,
    ))
}

fn become_root(settings: &Settings) -> Result<(), Errno> {
    if !settings.single {
        // The builder's supplementary groups would let commands read files of these groups.
        set_thread_groups(&[])?;
    }
    let group = Some(Gid::ROOT);
    set_thread_res_gid(group, group, group)?;
    let user = Some(Uid::ROOT);
    set_thread_res_uid(user, user, user)
}

/// This program's file where it cannot be written to: on a read-only mount, or, if its path leads
/// to another file by now (it was replaced while it ran), as a sealed copy in memory.
fn read_only_program() -> io::Result<OwnedFd> {
    let path = std::fs::read_link("/proc/self/exe")?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if let Ok(tree) = open_tree(CWD, &path, flags) {
        let ours = statat(CWD, "/proc/self/exe", AtFlags::empty())?;
        let cloned = rustix::fs::fstat(&tree)?;
        let same = (ours.st_dev, ours.st_ino) == (cloned.st_dev, cloned.st_ino);
        let protection = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID;
        if same && set_mount_attributes(tree.as_fd(), protection, false).is_ok() {
            return Ok(tree);
        }
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = File::from(rustix::fs::memfd_create("ashlar", flags)?);
    io::copy(&mut File::open("/proc/self/exe")?, &mut copy)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    Ok(copy.into())
}
