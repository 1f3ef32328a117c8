//! A minimal `/dev`: the devices that every program may count on, and nothing of the machine's.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, mkdirat, openat, symlinkat};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::super::error::SetupError;
use super::mount::{attach, clone_tree, new_filesystem};
use super::mount_point::{Kind, MountPoints};
use super::runtime::Runtime;

/// Devices shown from the machine's `/dev`: an ordinary user cannot make any.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Docker's size of `/dev/shm`: 64 MiB.
const SHARED_MEMORY_SIZE: &str = "67108864";

/// The group `tty` of every distribution. A terminal belongs to it, so that write(1) works.
const TTY_GROUP: u32 = 5;

const NO_PROGRAMS: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

const NO_DEVICES: MountAttrFlags = NO_PROGRAMS.union(MountAttrFlags::MOUNT_ATTR_NODEV);

/// Mounts `/dev` and what belongs in it; gives it open.
pub(super) fn mount(
    runtime: &Runtime,
    points: &mut MountPoints<'_>,
) -> Result<OwnedFd, SetupError> {
    let target = points.open("/dev", Kind::Directory)?;
    try_mount(runtime, &target).map_err(|(path, errno)| SetupError::Mount {
        path,
        source: errno.into(),
    })
}

fn try_mount(runtime: &Runtime, target: &OwnedFd) -> Result<OwnedFd, (String, Errno)> {
    let failed = |name: &str| {
        let path = if name.is_empty() {
            "/dev".to_owned()
        } else {
            format!("/dev/{name}")
        };
        move |errno| (path, errno)
    };
    // Not sticky and world-writable, as a tmpfs is by default: opening a device in such a
    // directory with O_CREAT fails (fs.protected_regular).
    let options = [("mode", Some("0755")), ("size", Some("65536k"))];
    let device =
        new_filesystem("tmpfs", &options, MountAttrFlags::MOUNT_ATTR_NOSUID).map_err(failed(""))?;
    for (name, to) in LINKS {
        symlinkat(to, &device, name).map_err(failed(name))?;
    }
    for name in ["pts", "shm", "mqueue"] {
        mkdirat(&device, name, Mode::from_raw_mode(0o755)).map_err(failed(name))?;
    }
    attach(&device, target).map_err(failed(""))?;

    for name in DEVICES {
        show_device(&device, name).map_err(failed(name))?;
    }
    let mount = |name: &str, filesystem: Result<OwnedFd, Errno>| {
        filesystem
            .and_then(|filesystem| attach(&filesystem, &open_path(&device, name)?))
            .map_err(failed(name))
    };
    let group = TTY_GROUP.to_string();
    let mut options = vec![
        ("newinstance", None),
        ("ptmxmode", Some("0666")),
        ("mode", Some("0620")),
    ];
    if runtime.has_group(TTY_GROUP) {
        options.push(("gid", Some(group.as_str())));
    }
    mount("pts", new_filesystem("devpts", &options, NO_PROGRAMS))?;
    let options = [("mode", Some("1777")), ("size", Some(SHARED_MEMORY_SIZE))];
    mount("shm", new_filesystem("tmpfs", &options, NO_DEVICES))?;
    match new_filesystem("mqueue", &[], NO_DEVICES) {
        // A kernel without POSIX message queues: nobody can use them, so nobody misses them.
        Err(Errno::NODEV) => {}
        filesystem => mount("mqueue", filesystem)?,
    }
    Ok(device)
}

/// Shows one of the machine's devices; one that the machine lacks (`tty` in some containers) is
/// left out.
fn show_device(device: &OwnedFd, name: &str) -> Result<(), Errno> {
    let tree = match clone_tree(&Path::new("/dev").join(name), NO_PROGRAMS, false) {
        Err(Errno::NOENT) => return Ok(()),
        result => result?,
    };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    openat(device, name, flags, Mode::from_raw_mode(0o666)).map(drop)?;
    attach(&tree, &open_path(device, name)?)
}

fn open_path(device: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    openat(
        device,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}
