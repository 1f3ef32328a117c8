//! The stack of layers below a tree, looked up one directory at a time.
//!
//! A directory of the merged filesystem is made of the directories at its path in some of the
//! layers: from the topmost one down to the first that is opaque, or to where something that is
//! no directory stands. Their numbers, top first, are all that a walk keeps of it: no layer's
//! directory stays open between two directories, so the depth of a tree and the number of its
//! layers never add up to too many open files.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use ashlar_model::layer::LayerPath;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::DiffError;
use crate::layer::tree::Root;
use crate::layer::tree::beneath::list_names;
use crate::layer::tree::inode::Inode;
use crate::layer::tree::whiteout::is_opaque;

/// Numbers of the layers that make up a directory, topmost layer first.
pub(super) type Parts = Vec<usize>;

/// The layers, bottom first.
#[derive(Debug)]
pub(super) struct Below {
    layers: Vec<(Root, PathBuf)>,
}

/// What the layers have at a name.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The inode that is seen there, and its layer's number.
    pub(super) seen: Option<(usize, Inode)>,
    /// If it is a directory: what it is made of.
    pub(super) parts: Parts,
    /// Whether lower layers may still add to it.
    closed: bool,
}

impl Below {
    pub(super) fn open(lowers: &[PathBuf]) -> Result<Self, DiffError> {
        let open = |path: &PathBuf| match Root::open(path) {
            Ok(root) => Ok((root, path.clone())),
            Err(source) => Err(DiffError::Open {
                path: path.clone(),
                source,
            }),
        };
        let layers = lowers.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { layers })
    }

    /// What the root is made of, and how it looks.
    pub(super) fn root(&self) -> Result<Found, DiffError> {
        let mut found = Found::default();
        for (number, (root, _)) in self.layers.iter().enumerate().rev() {
            let look = || -> rustix::io::Result<(Inode, bool)> {
                Ok((Inode::of(root.as_fd())?, is_opaque(root.as_fd())?))
            };
            let (inode, opaque) =
                look().map_err(|e| self.error("stat", number, &LayerPath::ROOT, e))?;
            found.seen.get_or_insert((number, inode));
            found.parts.push(number);
            if opaque {
                break;
            }
        }
        Ok(found)
    }

    /// Opens one part of a directory.
    pub(super) fn open_part(&self, part: usize, path: &LayerPath) -> Result<OwnedFd, DiffError> {
        let (root, _) = &self.layers[part];
        root.open_directory(path)
            .map_err(|e| self.error("open", part, path, e))
    }

    /// Looks up names in the directory at `path`, made of `parts`. Calls `seen` once for each
    /// name that is there, with the directory of the layer that has it.
    pub(super) fn look_up<'n>(
        &self,
        path: &LayerPath,
        parts: &[usize],
        names: impl Iterator<Item = &'n [u8]>,
        mut seen: impl FnMut(usize, &OwnedFd, &Inode) -> Result<(), DiffError>,
    ) -> Result<Vec<Found>, DiffError> {
        let names: Vec<&[u8]> = names.collect();
        let mut results: Vec<Found> = names.iter().map(|_| Found::default()).collect();
        for &part in parts {
            if results.iter().all(|found| found.closed) {
                break;
            }
            let directory = self.open_part(part, path)?;
            for (position, (name, found)) in names.iter().zip(&mut results).enumerate() {
                if found.closed {
                    continue;
                }
                let first = found.seen.is_none();
                self.add_part(path, part, &directory, name, found)?;
                if first && let Some((_, inode)) = &found.seen {
                    seen(position, &directory, inode)?;
                }
            }
        }
        Ok(results)
    }

    /// Adds to `found` what one layer has at `name`.
    fn add_part(
        &self,
        path: &LayerPath,
        part: usize,
        directory: &OwnedFd,
        name: &[u8],
        found: &mut Found,
    ) -> Result<(), DiffError> {
        let error = |action, errno| match path.join(name) {
            Ok(path) => self.error(action, part, &path, errno),
            Err(_) => self.error(action, part, path, errno),
        };
        let inode = match Inode::at(directory.as_fd(), name) {
            Ok(inode) => inode,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(error("stat", errno)),
        };
        if inode.file_type != FileType::Directory {
            found.closed = true;
            if found.seen.is_none() && !inode.is_whiteout() {
                found.seen = Some((part, inode));
            }
            return Ok(());
        }
        found.seen.get_or_insert((part, inode));
        found.parts.push(part);
        let (root, _) = &self.layers[part];
        let child = path
            .join(name)
            .map_err(|_| error("open", Errno::NAMETOOLONG))?;
        let opened = root
            .open_directory(&child)
            .map_err(|errno| error("open", errno))?;
        found.closed = is_opaque(opened.as_fd()).map_err(|e| error("read the attributes of", e))?;
        Ok(())
    }

    /// All names that are seen in the directory at `path`, made of `parts`.
    pub(super) fn names(
        &self,
        path: &LayerPath,
        parts: &[usize],
    ) -> Result<Vec<Vec<u8>>, DiffError> {
        let mut seen: HashMap<Vec<u8>, bool> = HashMap::new();
        for &part in parts {
            let directory = self.open_part(part, path)?;
            let names = list_names(directory.as_fd())
                .map_err(|errno| self.error("list", part, path, errno))?;
            for name in names {
                if seen.contains_key(&name) {
                    continue;
                }
                let inode = Inode::at(directory.as_fd(), &name)
                    .map_err(|errno| self.error("stat in", part, path, errno))?;
                seen.insert(name, !inode.is_whiteout());
            }
        }
        Ok(seen
            .into_iter()
            .filter_map(|(name, there)| there.then_some(name))
            .collect())
    }

    /// An error about a path of a layer.
    pub(super) fn error(
        &self,
        action: &'static str,
        part: usize,
        path: &LayerPath,
        errno: Errno,
    ) -> DiffError {
        DiffError::Read {
            action,
            path: path.clone(),
            layer: self.layers[part].1.clone(),
            source: errno.into(),
        }
    }
}
