//! One layer that lies on disk.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use ashlar_model::layer::{Entry, EntryKind, LayerPath};
use rustix::fs::{FileType, Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;

use super::{Node, Shared, ViewError};
use crate::layer::FileBytes;
use crate::layer::tree::beneath::list_names;
use crate::layer::tree::inode::Inode;
use crate::layer::tree::whiteout::is_opaque;
use crate::layer::tree::{Root, xattrs};

/// A layer's tree, its root held open.
#[derive(Debug)]
pub(super) struct TreeLayer {
    path: PathBuf,
    root: Root,
}

impl TreeLayer {
    pub(super) fn open(path: PathBuf) -> Result<Self, ViewError> {
        match Root::open(&path) {
            Ok(root) => Ok(Self { path, root }),
            Err(source) => Err(ViewError::Open {
                layer: path,
                source,
            }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What the layer has at a path whose parents are directories in it.
    pub(super) fn look(&self, path: &LayerPath) -> Result<Option<Node>, ViewError> {
        let failed = |errno| self.error(path, errno);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return self.node(self.root.as_fd(), b"", path).map_err(failed);
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let directory = match self.root.open_path(&parent, flags) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        self.node(directory.as_fd(), name, path).map_err(failed)
    }

    /// The names that the layer has in a directory, those of whiteouts included.
    pub(super) fn names(&self, path: &LayerPath) -> Result<Vec<Vec<u8>>, ViewError> {
        let directory = self.root.open_directory(path);
        let names = directory.and_then(|directory| list_names(directory.as_fd()));
        names.map_err(|errno| self.error(path, errno))
    }

    /// Everything that the layer has in a directory.
    pub(super) fn list(&self, path: &LayerPath) -> Result<Vec<Node>, ViewError> {
        let failed = |errno| self.error(path, errno);
        let directory = self.root.open_directory(path).map_err(failed)?;
        let names = list_names(directory.as_fd()).map_err(failed)?;
        let mut nodes = Vec::with_capacity(names.len());
        for name in names {
            let Ok(child) = path.join(&name) else {
                continue;
            };
            let node = self.node(directory.as_fd(), &name, &child);
            nodes.extend(node.map_err(|errno| self.error(&child, errno))?);
        }
        Ok(nodes)
    }

    pub(super) fn open_file(&self, path: &LayerPath) -> Result<FileBytes<'_>, ViewError> {
        match self.root.open_file(path) {
            Ok(file) => Ok(FileBytes::File(File::from(file))),
            Err(errno) => Err(self.error(path, errno)),
        }
    }

    /// What is at a name of an open directory; the directory itself if the name is empty. A
    /// socket is nothing: no layer carries one.
    fn node(
        &self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        path: &LayerPath,
    ) -> rustix::io::Result<Option<Node>> {
        let inode = if name.is_empty() {
            Inode::of(directory)
        } else {
            Inode::at(directory, name)
        };
        let inode = match inode {
            Ok(inode) => inode,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let (major, minor) = inode.device;
        let kind = match inode.file_type {
            _ if inode.is_whiteout() => EntryKind::Whiteout,
            FileType::RegularFile => EntryKind::File {
                size: inode.size,
                digest: None,
            },
            FileType::Directory => EntryKind::Directory {
                opaque: is_opaque_at(directory, name)?,
            },
            FileType::Symlink => {
                let target = readlinkat(directory, name, Vec::new())?;
                EntryKind::Symlink(target.into_bytes())
            }
            FileType::CharacterDevice => EntryKind::CharDevice(major, minor),
            FileType::BlockDevice => EntryKind::BlockDevice(major, minor),
            FileType::Fifo => EntryKind::Fifo,
            _ => return Ok(None),
        };
        let xattrs = match kind {
            EntryKind::Whiteout => Vec::new(),
            _ => xattrs::read(directory, name)?,
        };
        let file = (inode.file_type == FileType::RegularFile).then_some(inode.id);
        Ok(Some(Node {
            entry: Entry {
                path: path.clone(),
                kind,
                metadata: inode.metadata(xattrs),
            },
            shared: file.filter(|_| inode.links > 1).map(Shared::Inode),
            filed_under: None,
            inode: file,
            implied: false,
        }))
    }

    fn error(&self, path: &LayerPath, errno: Errno) -> ViewError {
        ViewError::Read {
            layer: self.path.clone(),
            path: path.clone(),
            source: errno.into(),
        }
    }
}

fn is_opaque_at(directory: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<bool> {
    if name.is_empty() {
        return is_opaque(directory);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = openat(directory, name, flags, Mode::empty())?;
    is_opaque(opened.as_fd())
}
