//! Mounting, by descriptors: no path of a container is ever looked up twice.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use ashlar_sys::mount::set_mount_attributes;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::super::error::SetupError;
use super::super::spec::BindMount;
use super::mount_point::{Kind, MountPoints};

/// Makes a filesystem of a kind, with options (flags have no value); not yet attached anywhere.
pub(super) fn new_filesystem(
    kind: &str,
    options: &[(&str, Option<&str>)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Errno> {
    let filesystem = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    // What mount(8) and df(1) show, or it would be `none`.
    fsconfig_set_string(&filesystem, "source", kind)?;
    for (key, value) in options {
        match value {
            Some(value) => fsconfig_set_string(&filesystem, *key, *value)?,
            None => fsconfig_set_flag(&filesystem, *key)?,
        }
    }
    fsconfig_create(&filesystem)?;
    fsmount(&filesystem, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A copy of what is mounted at a path of the machine, with attributes added; not yet attached.
pub(super) fn clone_tree(
    path: &Path,
    attributes: MountAttrFlags,
    recursive: bool,
) -> Result<OwnedFd, Errno> {
    clone_tree_at(&CWD, path, attributes, recursive)
}

/// The same for a path below an open directory; an empty path stands for the directory itself.
pub(super) fn clone_tree_at(
    directory: &impl AsFd,
    path: &Path,
    attributes: MountAttrFlags,
    recursive: bool,
) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = open_tree(directory, path, flags)?;
    if !attributes.is_empty() {
        set_mount_attributes(tree.as_fd(), attributes, recursive)?;
    }
    Ok(tree)
}

/// Attaches a mount to an open file or directory.
pub(super) fn attach(mount: &OwnedFd, target: &OwnedFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags)
}

/// Shows a file or directory of the machine inside.
pub(super) fn bind(points: &mut MountPoints<'_>, bind: &BindMount) -> Result<(), SetupError> {
    let failed = |errno: Errno| SetupError::Bind {
        host: bind.source.display().to_string(),
        path: bind.destination.clone(),
        source: errno.into(),
    };
    let attributes = if bind.read_only {
        MountAttrFlags::MOUNT_ATTR_RDONLY
    } else {
        MountAttrFlags::empty()
    };
    let tree = clone_tree(&bind.source, attributes, bind.recursive).map_err(failed)?;
    let status = rustix::fs::fstat(&tree).map_err(failed)?;
    let kind = match rustix::fs::FileType::from_raw_mode(status.st_mode) {
        rustix::fs::FileType::Directory => Kind::Directory,
        _ => Kind::File,
    };
    let target = points.open(&bind.destination, kind)?;
    attach(&tree, &target).map_err(failed)
}
