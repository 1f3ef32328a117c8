//! `/proc` and `/sys`: what of the kernel a container sees, and may change.
//!
//! The lists are Docker's. Much of this the kernel forbids to an ordinary user's containers
//! anyway; where the builder is root of the machine, it does not. Commands that run with
//! `--security=insecure` see all of it.

use std::os::fd::OwnedFd;
use std::path::Path;

use ashlar_model::step::{Network, Security};
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::super::error::SetupError;
use super::mount::{attach, clone_tree, clone_tree_at, new_filesystem};
use super::mount_point::{Kind, MountPoints};
use super::runtime::Runtime;

/// Below `/proc`: not to be seen.
const MASKED_PROC: [&str; 9] = [
    "acpi",
    "asound",
    "kcore",
    "keys",
    "latency_stats",
    "timer_list",
    "timer_stats",
    "sched_debug",
    "scsi",
];

/// Below `/proc`: to be seen, not to be changed.
const READ_ONLY_PROC: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// Below `/sys`: not to be seen.
const MASKED_SYS: [&str; 2] = ["firmware", "devices/virtual/powercap"];

const PROTECTION: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

const READ_ONLY: MountAttrFlags = PROTECTION.union(MountAttrFlags::MOUNT_ATTR_RDONLY);

/// A fresh `/proc` of the container's process namespace; where the kernel refuses it (because the
/// machine's is partly covered, as in Docker and Kubernetes), the machine's, in which only
/// `/proc/self` and its like are right.
pub(super) fn mount_proc(
    runtime: &Runtime,
    security: Security,
    points: &mut MountPoints<'_>,
) -> Result<(), SetupError> {
    let target = points.open("/proc", Kind::Directory)?;
    let proc = match new_filesystem("proc", &[], PROTECTION) {
        Err(Errno::PERM) => clone_tree(Path::new("/proc"), PROTECTION, true),
        result => result,
    };
    let mounted = proc.and_then(|proc| attach(&proc, &target).map(|()| proc));
    let proc = mounted.map_err(failed("/proc"))?;
    if security == Security::Insecure {
        return Ok(());
    }
    for name in READ_ONLY_PROC {
        make_read_only(&proc, name).map_err(failed(&format!("/proc/{name}")))?;
    }
    for name in MASKED_PROC {
        mask(runtime, &proc, name).map_err(failed(&format!("/proc/{name}")))?;
    }
    Ok(())
}

/// `/sys`, read-only: a fresh one where the container has a network namespace of its own, so that
/// it sees that namespace's interfaces; else, or where the kernel refuses it, the machine's.
pub(super) fn mount_sys(
    runtime: &Runtime,
    security: Security,
    network: Network,
    points: &mut MountPoints<'_>,
) -> Result<(), SetupError> {
    let target = points.open("/sys", Kind::Directory)?;
    let attributes = match security {
        Security::Sandbox => READ_ONLY,
        Security::Insecure => PROTECTION,
    };
    let of_machine = || clone_tree(Path::new("/sys"), attributes, true);
    let sys = match network {
        Network::Host => of_machine(),
        Network::None => match new_filesystem("sysfs", &[], attributes) {
            Err(Errno::PERM) => of_machine(),
            fresh => fresh,
        },
    };
    let sys = match sys {
        // A machine without /sys: an empty directory is what there is to see.
        Err(Errno::NOENT) => return Ok(()),
        result => result.and_then(|sys| attach(&sys, &target).map(|()| sys)),
    };
    let sys = sys.map_err(failed("/sys"))?;
    if security == Security::Insecure {
        return Ok(());
    }
    for name in MASKED_SYS {
        mask(runtime, &sys, name).map_err(failed(&format!("/sys/{name}")))?;
    }
    Ok(())
}

fn make_read_only(parent: &OwnedFd, name: &str) -> Result<(), Errno> {
    let Some(target) = open_if_there(parent, name)? else {
        return Ok(());
    };
    let tree = clone_tree_at(&target, Path::new(""), READ_ONLY, true)?;
    attach(&tree, &target)
}

/// Covers a file with `/dev/null` and a directory with an empty one.
fn mask(runtime: &Runtime, parent: &OwnedFd, name: &str) -> Result<(), Errno> {
    let Some(target) = open_if_there(parent, name)? else {
        return Ok(());
    };
    let cover = match FileType::from_raw_mode(fstat(&target)?.st_mode) {
        FileType::Directory => clone_tree(&runtime.path("empty"), READ_ONLY, false)?,
        _ => clone_tree(Path::new("/dev/null"), MountAttrFlags::empty(), false)?,
    };
    attach(&cover, &target)
}

/// Opens a file that this kernel may lack.
fn open_if_there(parent: &OwnedFd, name: &str) -> Result<Option<OwnedFd>, Errno> {
    match openat(
        parent,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Err(Errno::NOENT | Errno::ACCESS | Errno::PERM) => Ok(None),
        result => result.map(Some),
    }
}

fn failed(path: &str) -> impl Fn(Errno) -> SetupError {
    move |errno| SetupError::Mount {
        path: path.to_owned(),
        source: errno.into(),
    }
}
