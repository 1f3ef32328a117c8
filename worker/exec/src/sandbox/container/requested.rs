//! What a container was asked to see besides its root filesystem.

use std::collections::HashMap;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use std::os::fd::OwnedFd;

use super::super::error::SetupError;
use super::super::spec::{LayersMount, MemoryMount, Mount, SecretMount, SocketMount};
use super::mount::{attach, bind, clone_tree, new_filesystem};
use super::mount_point::{Kind, MountPoints};
use super::root;
use super::run_files::RunFiles;
use super::runtime::Runtime;

/// What nothing that comes from elsewhere may bring along.
const FOREIGN: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);

/// Bits that make a file a program.
const EXECUTABLE: u32 = 0o111;

/// Mounts all, those above others first; of several with one destination the last.
pub(super) fn mount_all(
    runtime: &Runtime,
    files: &RunFiles,
    mounts: &[Mount],
    points: &mut MountPoints<'_>,
) -> Result<(), SetupError> {
    for number in order(mounts) {
        match mounts.get(number) {
            Some(Mount::Host(mount)) => bind(points, mount)?,
            Some(Mount::Layers(mount)) => layers(runtime, mount, points)?,
            Some(Mount::Memory(mount)) => memory(mount, points)?,
            Some(Mount::Secret(mount)) => secret(&files.secret(number), mount, points)?,
            Some(Mount::Socket(mount)) => socket(runtime, mount, points)?,
            None => {}
        }
    }
    Ok(())
}

/// The numbers of the mounts that count, in the order in which they are made.
fn order(mounts: &[Mount]) -> Vec<usize> {
    let mut last: HashMap<&Path, usize> = HashMap::new();
    for (number, mount) in mounts.iter().enumerate() {
        last.insert(Path::new(mount.destination()), number);
    }
    let mut found: Vec<(usize, usize)> = last
        .into_iter()
        .map(|(path, number)| (path.components().count(), number))
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, number)| number).collect()
}

fn failed(path: &str) -> impl Fn(Errno) -> SetupError {
    move |errno| SetupError::Mount {
        path: path.to_owned(),
        source: errno.into(),
    }
}

/// Attaches a file or directory where it is to be seen.
fn show(tree: &OwnedFd, path: &str, points: &mut MountPoints<'_>) -> Result<(), SetupError> {
    let status = fstat(tree).map_err(failed(path))?;
    let kind = match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory => Kind::Directory,
        _ => Kind::File,
    };
    let target = points.open(path, kind)?;
    attach(tree, &target).map_err(failed(path))
}

fn layers(
    runtime: &Runtime,
    mount: &LayersMount,
    points: &mut MountPoints<'_>,
) -> Result<(), SetupError> {
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
    if mount.layers.writable.is_none() {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    let path = Path::new(&mount.path);
    let tree = root::clone_path(runtime, &mount.layers, path, attributes)?;
    show(&tree, &mount.destination, points)
}

fn memory(mount: &MemoryMount, points: &mut MountPoints<'_>) -> Result<(), SetupError> {
    let size = mount.size.map(|size| size.to_string());
    let mut options = vec![("mode", Some("1777"))];
    if let Some(size) = &size {
        options.push(("size", Some(size.as_str())));
    }
    let mut attributes = FOREIGN;
    if mount.read_only {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    let path = &mount.destination;
    let tree = new_filesystem("tmpfs", &options, attributes).map_err(failed(path))?;
    show(&tree, path, points)
}

fn secret(
    file: &Path,
    mount: &SecretMount,
    points: &mut MountPoints<'_>,
) -> Result<(), SetupError> {
    let mut attributes = FOREIGN | MountAttrFlags::MOUNT_ATTR_RDONLY;
    if mount.owner.mode & EXECUTABLE == 0 {
        attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC;
    }
    let path = &mount.destination;
    let tree = clone_tree(file, attributes, false).map_err(failed(path))?;
    show(&tree, path, points)
}

fn socket(
    runtime: &Runtime,
    mount: &SocketMount,
    points: &mut MountPoints<'_>,
) -> Result<(), SetupError> {
    let path = &mount.destination;
    let owner = mount.owner;
    runtime.check_owner(owner)?;
    chown(&mount.source, Some(owner.uid), Some(owner.gid))
        .and_then(|()| {
            let mode = std::fs::Permissions::from_mode(owner.mode);
            std::fs::set_permissions(&mount.source, mode)
        })
        .map_err(SetupError::system("a socket cannot be given to its owner"))?;
    let tree = clone_tree(&mount.source, FOREIGN, false).map_err(failed(path))?;
    show(&tree, path, points)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(destination: &str) -> Mount {
        Mount::Memory(MemoryMount {
            destination: destination.to_owned(),
            size: None,
            read_only: false,
        })
    }

    #[test]
    fn what_is_above_comes_first_and_of_equals_the_last() {
        let mounts = [
            memory("/a/b/c"),
            memory("/a"),
            memory("/z/y"),
            memory("/a/b/c"),
            memory("/a/"),
        ];
        assert_eq!(order(&mounts), [4, 2, 3]);
    }
}
