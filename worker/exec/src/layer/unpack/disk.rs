//! The tree that a layer is unpacked into.
//!
//! Paths have had their links followed before they come here, and every one is opened beneath the
//! root without following any: whatever a tar says, nothing outside is touched.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_model::layer::{LayerPath, Metadata, Timestamp, Xattr};
use ashlar_store::home::quota::{Meter, Permit, on_disk};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use super::workers::FilePlace;
use super::{OwnerPolicy, UnpackError};
use crate::layer::tree::beneath::list_names;
use crate::layer::tree::{Root, whiteout, xattrs};

/// How a file on disk is to be, besides its content.
#[derive(Debug, Clone)]
pub(super) struct Attributes {
    /// `None` if whoever makes it is its owner already, or is to stay so.
    owner: Option<(u32, u32)>,
    mode: u16,
    mtime: Timestamp,
    xattrs: Vec<Xattr>,
    tree: Arc<Path>,
    meter: Meter,
}

/// The tree.
#[derive(Debug)]
pub(super) struct Disk {
    root: Root,
    path: Arc<Path>,
    /// Owner and group of what this process makes.
    creator: (u32, u32),
    owners: OwnerPolicy,
    meter: Meter,
    /// The directory that was opened last: nearly always the next one too.
    parent: Option<(LayerPath, Arc<OwnedFd>)>,
    /// Hard links whose targets may still be on their way: target, link.
    links: Vec<(LayerPath, LayerPath)>,
    /// Devices that could not be made.
    skipped: HashSet<LayerPath>,
}

/// Whether a device could be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeviceMade {
    Yes,
    NotAllowed,
}

impl Disk {
    pub(super) fn open(
        path: &Path,
        owners: OwnerPolicy,
        meter: Meter,
    ) -> Result<Self, UnpackError> {
        let open = || -> io::Result<(Root, bool)> {
            let root = Root::open(path)?;
            // A set-group-id bit would hand the directory's group down to all that is made.
            rustix::fs::fchmod(root.as_fd(), Mode::RWXU)?;
            let empty = list_names(root.as_fd())?.is_empty();
            Ok((root, empty))
        };
        let (root, empty) = open().map_err(|source| UnpackError::Open {
            path: path.to_owned(),
            source,
        })?;
        if !empty {
            let path = path.to_owned();
            return Err(UnpackError::NotEmpty { path });
        }
        let creator = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        Ok(Self {
            root,
            path: Arc::from(path),
            creator,
            owners,
            meter,
            parent: None,
            links: Vec::new(),
            skipped: HashSet::new(),
        })
    }

    /// Whether this process owns what it makes for such an owner without doing anything.
    pub(super) fn is_creator(&self, metadata: &Metadata) -> bool {
        (metadata.uid, metadata.gid) == self.creator
    }

    pub(super) fn attributes(&self, metadata: &Metadata) -> Attributes {
        let change = self.owners == OwnerPolicy::Apply && !self.is_creator(metadata);
        Attributes {
            owner: change.then_some((metadata.uid, metadata.gid)),
            mode: metadata.mode,
            mtime: metadata.mtime,
            xattrs: metadata.xattrs.clone(),
            tree: Arc::clone(&self.path),
            meter: self.meter.clone(),
        }
    }

    /// Where a small file goes.
    pub(super) fn place(
        &mut self,
        path: &LayerPath,
        metadata: &Metadata,
    ) -> Result<FilePlace, UnpackError> {
        Ok(FilePlace {
            directory: self.parent(path)?,
            path: path.clone(),
            attributes: self.attributes(metadata),
        })
    }

    /// Makes a directory that only its owner can use until it is [finished](Self::finish).
    pub(super) fn make_directory(&mut self, path: &LayerPath) -> Result<(), UnpackError> {
        let parent = self.parent(path)?;
        let _permit = self.admit(4096, path)?;
        rustix::fs::mkdirat(&*parent, name(path), Mode::RWXU)
            .map_err(|e| self.error("create the directory", path, e))
    }

    pub(super) fn make_symlink(
        &mut self,
        path: &LayerPath,
        target: &[u8],
        metadata: &Metadata,
    ) -> Result<(), UnpackError> {
        let parent = self.parent(path)?;
        let _permit = self.admit(target.len() as u64, path)?;
        rustix::fs::symlinkat(target, &*parent, name(path))
            .map_err(|e| self.error("create the symbolic link", path, e))?;
        self.set_attributes(&parent, path, metadata, false)
    }

    pub(super) fn make_fifo(
        &mut self,
        path: &LayerPath,
        metadata: &Metadata,
    ) -> Result<(), UnpackError> {
        let parent = self.parent(path)?;
        rustix::fs::mkfifoat(&*parent, name(path), Mode::RUSR | Mode::WUSR)
            .map_err(|e| self.error("create the named pipe", path, e))?;
        self.set_attributes(&parent, path, metadata, true)
    }

    /// Makes a device, if that is allowed here. The device 0:0 never is: it would be a whiteout.
    pub(super) fn make_device(
        &mut self,
        path: &LayerPath,
        file_type: FileType,
        (major, minor): (u32, u32),
        metadata: &Metadata,
    ) -> Result<DeviceMade, UnpackError> {
        let parent = self.parent(path)?;
        let device = rustix::fs::makedev(major, minor);
        let mode = Mode::RUSR | Mode::WUSR;
        let made = if device == 0 {
            Err(Errno::PERM)
        } else {
            rustix::fs::mknodat(&*parent, name(path), file_type, mode, device)
        };
        match made {
            Ok(()) => {
                self.set_attributes(&parent, path, metadata, true)?;
                Ok(DeviceMade::Yes)
            }
            Err(Errno::PERM | Errno::INVAL) => {
                self.skipped.insert(path.clone());
                Ok(DeviceMade::NotAllowed)
            }
            Err(errno) => Err(self.error("create the device", path, errno)),
        }
    }

    /// Makes a hard link with the next [`make_links`](Self::make_links).
    pub(super) fn link_later(&mut self, target: &LayerPath, path: &LayerPath) {
        if self.skipped.contains(target) {
            self.skipped.insert(path.clone());
        } else {
            self.links.push((target.clone(), path.clone()));
        }
    }

    /// Makes the hard links that wait. All their targets must be there.
    pub(super) fn make_links(&mut self) -> Result<(), UnpackError> {
        for (target, path) in std::mem::take(&mut self.links) {
            let from = self.parent(&target)?;
            let to = self.parent(&path)?;
            rustix::fs::linkat(&*from, name(&target), &*to, name(&path), AtFlags::empty())
                .map_err(|e| self.error("create the hard link", &path, e))?;
        }
        Ok(())
    }

    /// Removes what an earlier entry made, links that wait being made before.
    pub(super) fn remove(
        &mut self,
        path: &LayerPath,
        is_directory: bool,
    ) -> Result<(), UnpackError> {
        if self.skipped.remove(path) {
            return Ok(());
        }
        let parent = self.parent(path)?;
        let flags = if is_directory {
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        rustix::fs::unlinkat(&*parent, name(path), flags)
            .map_err(|e| self.error("remove", path, e))?;
        if is_directory {
            self.parent = None;
        }
        Ok(())
    }

    pub(super) fn make_whiteout(&mut self, path: &LayerPath) -> Result<(), UnpackError> {
        let parent = self.parent(path)?;
        whiteout::make_whiteout(parent.as_fd(), name(path))
            .map_err(|e| self.error("create the whiteout", path, e))
    }

    /// Gives a directory, which nothing more is put into, its attributes.
    pub(super) fn finish_directory(
        &self,
        path: &LayerPath,
        metadata: &Metadata,
        opaque: bool,
    ) -> Result<(), UnpackError> {
        let directory = self
            .root
            .open_directory(path)
            .map_err(|e| self.error("open", path, e))?;
        if opaque {
            whiteout::mark_opaque(directory.as_fd())
                .map_err(|e| self.error("mark as opaque", path, e))?;
        }
        set_attributes_of(directory.as_fd(), path, &self.attributes(metadata))
    }

    /// Sets the attributes of what cannot be opened.
    fn set_attributes(
        &self,
        parent: &OwnedFd,
        path: &LayerPath,
        metadata: &Metadata,
        has_mode: bool,
    ) -> Result<(), UnpackError> {
        let attributes = self.attributes(metadata);
        let name = name(path);
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if let Some((uid, gid)) = attributes.owner {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), flags)
                .map_err(|e| attributes.owner_error(path, e))?;
        }
        if has_mode {
            // It is a pipe or a device that was just made here, so there is no link to follow.
            let mode = Mode::from_raw_mode(attributes.mode.into());
            rustix::fs::chmodat(parent, name, mode, AtFlags::empty())
                .map_err(|e| self.error("set the mode of", path, e))?;
        }
        rustix::fs::utimensat(parent, name, &attributes.times(), flags)
            .map_err(|e| self.error("set the time of", path, e))
    }

    fn parent(&mut self, path: &LayerPath) -> Result<Arc<OwnedFd>, UnpackError> {
        let wanted = path.parent().unwrap_or_default();
        if let Some((open, directory)) = &self.parent
            && *open == wanted
        {
            return Ok(Arc::clone(directory));
        }
        let directory = self
            .root
            .open_path(&wanted, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|e| self.error("open", &wanted, e))?;
        let directory = Arc::new(directory);
        self.parent = Some((wanted, Arc::clone(&directory)));
        Ok(directory)
    }

    /// Asks for room for something of this length.
    fn admit(&self, length: u64, path: &LayerPath) -> Result<Permit, UnpackError> {
        let admitted = self.meter.admit_io(on_disk(length));
        admitted.map_err(|source| error(&self.path, "create", path, source))
    }

    fn error(&self, action: &'static str, path: &LayerPath, errno: Errno) -> UnpackError {
        error(&self.path, action, path, errno.into())
    }
}

impl Attributes {
    fn times(&self) -> Timestamps {
        Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: self.mtime.seconds,
                tv_nsec: self.mtime.nanoseconds.into(),
            },
        }
    }

    fn owner_error(&self, path: &LayerPath, errno: Errno) -> UnpackError {
        match (errno, self.owner) {
            // The kernel's word for an id that the user namespace does not map.
            (Errno::INVAL, Some((uid, gid))) => UnpackError::UnmappedOwner {
                path: path.clone(),
                uid,
                gid,
            },
            _ => error(&self.tree, "set the owner of", path, errno.into()),
        }
    }
}

/// Creates a file for writing.
pub(super) fn create_file(place: &FilePlace) -> Result<File, UnpackError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::openat(&*place.directory, name(&place.path), flags, mode)
        .map(File::from)
        .map_err(|e| place.error("create", e.into()))
}

/// Creates a file with all its bytes and attributes.
pub(super) fn write_file(place: &FilePlace, bytes: &[u8]) -> Result<(), UnpackError> {
    let _permit = place.admit(on_disk(bytes.len() as u64))?;
    let mut file = create_file(place)?;
    io::Write::write_all(&mut file, bytes).map_err(|e| place.error("write", e))?;
    finish_file(place, &file)
}

/// Gives a file, which nothing more is written to, its attributes.
pub(super) fn finish_file(place: &FilePlace, file: &File) -> Result<(), UnpackError> {
    set_attributes_of(file.as_fd(), &place.path, &place.attributes)
}

impl FilePlace {
    /// Asks for so many bytes on disk.
    pub(super) fn admit(&self, bytes: u64) -> Result<Permit, UnpackError> {
        let admitted = self.attributes.meter.admit_io(bytes);
        admitted.map_err(|source| self.error("write", source))
    }

    pub(super) fn error(&self, action: &'static str, source: io::Error) -> UnpackError {
        error(&self.attributes.tree, action, &self.path, source)
    }
}

/// Sets the attributes of an open file or directory.
fn set_attributes_of(
    fd: std::os::fd::BorrowedFd<'_>,
    path: &LayerPath,
    attributes: &Attributes,
) -> Result<(), UnpackError> {
    let error = |action, errno: Errno| error(&attributes.tree, action, path, errno.into());
    // The owner first: changing it takes away set-id bits and file capabilities. The mode after
    // the attributes: writing `user.*` needs the right to write.
    if let Some((uid, gid)) = attributes.owner {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::fchown(fd, Some(uid), Some(gid))
            .map_err(|e| attributes.owner_error(path, e))?;
    }
    xattrs::write_to_file(fd, &attributes.xattrs).map_err(|e| error("set the attributes of", e))?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(attributes.mode.into()))
        .map_err(|e| error("set the mode of", e))?;
    rustix::fs::futimens(fd, &attributes.times()).map_err(|e| error("set the time of", e))
}

fn error(tree: &Path, action: &'static str, path: &LayerPath, source: io::Error) -> UnpackError {
    UnpackError::Write {
        action,
        path: path.clone(),
        tree: PathBuf::from(tree),
        source,
    }
}

fn name(path: &LayerPath) -> &[u8] {
    path.file_name().unwrap_or(b".")
}
