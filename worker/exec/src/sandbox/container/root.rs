//! The root filesystem: an overlay of the layers.
//!
//! ```text
//! upper                 what the container changes
//! lowers, top first
//! stubs                 mount points that the image may lack
//! ```
//!
//! Options: `userxattr`, without which removing and making again a directory fails in a user
//! namespace (and everywhere else, so that layers are alike); `volatile`, for a layer that a
//! crash has damaged is never used; neither `redirect_dir` nor `metacopy`, so that the upper
//! directory is a layer that everyone understands.
//!
//! Layers are given as descriptors (Linux 6.13), else as `/proc/self/fd/N` one by one (6.7), else
//! by mount(2), as names of a few bytes in `/proc/self/fd`, for all options must fit in a page.
//! More than the kernel can stack are merged from the bottom by an overlay of their own: the
//! bottom ones, because what a layer hides can then only be in the same overlay.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FsWord, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    mount as mount_filesystem, move_mount, unmount,
};
use rustix::process::chdir;

use super::super::error::SetupError;
use super::super::spec::{RootFilesystem, Writable};
use super::inside::open_inside;
use super::mount::clone_tree_at;
use super::open_directory;
use super::runtime::Runtime;

/// Layers that the kernel stacks in one overlay: `OVL_MAX_STACK` of `fs/overlayfs/params.h`, less
/// the stub layer and the merged one.
const STACK_LIMIT: usize = 500;

/// `OVERLAYFS_SUPER_MAGIC` of `linux/magic.h`.
const OVERLAY_MAGIC: FsWord = 0x794c_7630;

/// Mounts the root filesystem and gives it open.
pub(super) fn mount(runtime: &Runtime, root: &RootFilesystem) -> Result<OwnedFd, SetupError> {
    let mut layers: Vec<&Path> = vec![runtime.stubs()];
    layers.extend(topmost_of_each(&root.lowers));
    let empty = runtime.path("empty");
    if layers.len() < 2 {
        // Without an upper directory the kernel wants two layers at least.
        layers.push(&empty);
    }

    let merged = runtime.path("lower");
    if layers.len() > STACK_LIMIT {
        let most = 2 * STACK_LIMIT - 1;
        if layers.len() > most {
            let (count, limit) = (root.lowers.len(), most - 1);
            return Err(SetupError::TooManyLayers { count, limit });
        }
        let top = layers.split_off(layers.len() - (STACK_LIMIT - 1));
        overlay(&layers, None, &merged)?;
        layers = vec![&merged];
        layers.extend(top);
    }
    let place = runtime.path("root");
    overlay(&layers, root.writable.as_ref(), &place)?;
    open_directory(&place).map_err(SetupError::system("the root filesystem cannot be opened"))
}

/// The layers without those that come again further up: laid over itself, a layer adds nothing,
/// and the kernel refuses it (`ELOOP`). Steps that leave the same files share a layer, so it may
/// well come twice.
fn topmost_of_each(lowers: &[PathBuf]) -> Vec<&Path> {
    let mut seen = HashSet::new();
    let topmost = lowers.iter().rev().filter(|path| seen.insert(*path));
    let mut topmost: Vec<&Path> = topmost.map(PathBuf::as_path).collect();
    topmost.reverse();
    topmost
}

/// Mounts a stack of layers that is no root filesystem, and gives the file or directory at a path
/// of it, not yet attached anywhere. The stack itself stays out of sight.
pub(super) fn clone_path(
    runtime: &Runtime,
    layers: &RootFilesystem,
    path: &Path,
    attributes: MountAttrFlags,
) -> Result<OwnedFd, SetupError> {
    let missing = |errno: Errno| SetupError::MountSource {
        path: path.display().to_string(),
        source: errno.into(),
    };
    let clone = |place: &Path| {
        let root = open_directory(place)?;
        let found = open_inside(&root, path, OFlags::PATH)?;
        clone_tree_at(&found, Path::new(""), attributes, false)
    };
    let empty = runtime.path("empty");
    if layers.lowers.is_empty() && layers.writable.is_none() {
        return clone(&empty).map_err(missing);
    }
    let mut lowers = topmost_of_each(&layers.lowers);
    if lowers.len() < 2 {
        // Without an upper directory the kernel wants two layers at least.
        lowers.insert(0, &empty);
    }
    let limit = STACK_LIMIT - 1;
    if lowers.len() > limit {
        let count = lowers.len();
        return Err(SetupError::TooManyLayers { count, limit });
    }
    let place = runtime.path("other");
    overlay(&lowers, layers.writable.as_ref(), &place)?;
    let cloned = clone(&place);
    // What was cloned keeps the layers in use.
    unmount(&place, UnmountFlags::DETACH).map_err(SetupError::system(
        "a stack of layers cannot be unmounted again",
    ))?;
    cloned.map_err(missing)
}

/// Mounts an overlay of layers, bottom first.
fn overlay(layers: &[&Path], writable: Option<&Writable>, place: &Path) -> Result<(), SetupError> {
    let filesystem = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|errno| overlay_error(None, writable, errno))?;
    let failed = |errno| overlay_error(Some(&filesystem), writable, errno);
    fsconfig_set_string(&filesystem, "source", "overlay").map_err(failed)?;
    fsconfig_set_flag(&filesystem, "userxattr").map_err(failed)?;
    // Topmost first, as the kernel wants them.
    for (index, path) in layers.iter().rev().enumerate() {
        match add_directory(&filesystem, "lowerdir+", &open_layer(path)?) {
            // Linux 5.11 to 6.6 knows no `lowerdir+`.
            Err(Errno::INVAL) if index == 0 => return overlay_by_mount(layers, writable, place),
            result => result.map_err(failed)?,
        }
    }
    if let Some(Writable { upper, work }) = writable {
        for (key, path) in [("upperdir", upper), ("workdir", work)] {
            add_directory(&filesystem, key, &open_layer(path)?).map_err(failed)?;
        }
        fsconfig_set_flag(&filesystem, "volatile").map_err(failed)?;
    }
    fsconfig_create(&filesystem).map_err(failed)?;
    // No devices of an image's making: where the builder is root they would be the machine's.
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = fsmount(&filesystem, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(failed)?;
    move_mount(
        mount,
        "",
        CWD,
        place,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .map_err(SetupError::system("the root filesystem cannot be attached"))
}

/// The same by mount(2). From `/proc/self/fd`, a directory's name is its descriptor's number, so
/// that the options of even [`STACK_LIMIT`] layers fit in a page.
fn overlay_by_mount(
    layers: &[&Path],
    writable: Option<&Writable>,
    place: &Path,
) -> Result<(), SetupError> {
    let directories = layers
        .iter()
        .rev()
        .map(|path| open_layer(path))
        .collect::<Result<Vec<_>, _>>()?;
    let numbers: Vec<_> = directories
        .iter()
        .map(|directory| directory.as_raw_fd().to_string())
        .collect();
    let mut options = format!("userxattr,lowerdir={}", numbers.join(":"));
    let mut changes = Vec::new();
    if let Some(Writable { upper, work }) = writable {
        options.push_str(",volatile");
        for (key, path) in [("upperdir", upper), ("workdir", work)] {
            let directory = open_layer(path)?;
            options.push_str(&format!(",{key}={}", directory.as_raw_fd()));
            changes.push(directory);
        }
    }
    chdir("/proc/self/fd").map_err(SetupError::system("/proc/self/fd cannot be entered"))?;
    let options = CString::new(options).map_err(|_| SetupError::BadSpec {
        message: "a zero byte in mount options".to_owned(),
    })?;
    mount_filesystem(
        "overlay",
        place,
        "overlay",
        MountFlags::NODEV,
        Some(options.as_c_str()),
    )
    .map_err(|errno| overlay_error(None, writable, errno))
}

fn open_layer(path: &Path) -> Result<OwnedFd, SetupError> {
    open_directory(path).map_err(|errno| SetupError::Layer {
        path: path.display().to_string(),
        source: errno.into(),
    })
}

/// Gives one directory to an overlay, by descriptor if the kernel can take it.
fn add_directory(filesystem: &OwnedFd, key: &str, directory: &OwnedFd) -> Result<(), Errno> {
    match fsconfig_set_fd(filesystem, key, directory) {
        Err(Errno::INVAL) => {
            let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
            fsconfig_set_string(filesystem, key, path.as_str())
        }
        result => result,
    }
}

/// The error with what the kernel says about it, and whether the cause may be an overlay below.
fn overlay_error(
    filesystem: Option<&OwnedFd>,
    writable: Option<&Writable>,
    errno: Errno,
) -> SetupError {
    let on_overlay = |writable: &Writable| {
        rustix::fs::statfs(&writable.upper).is_ok_and(|status| status.f_type == OVERLAY_MAGIC)
    };
    SetupError::Overlay {
        message: filesystem.map(kernel_messages).unwrap_or_default(),
        nested: writable.is_some_and(on_overlay),
        source: errno.into(),
    }
}

/// What the kernel has to say about a filesystem that it could not make: reading from its
/// descriptor gives one message at a time (`e overlay: ...`).
fn kernel_messages(filesystem: &OwnedFd) -> String {
    let mut messages = Vec::new();
    let mut buffer = [0; 512];
    while let Ok(length @ 1..) = rustix::io::read(filesystem, &mut buffer) {
        let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
        messages.push(text.trim().trim_start_matches("e ").to_owned());
    }
    messages.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_that_comes_again_counts_where_it_is_topmost() {
        let lowers = ["a", "b", "a", "c", "b"].map(PathBuf::from);
        assert_eq!(topmost_of_each(&lowers), ["a", "c", "b"].map(Path::new));
    }
}
