//! A layer while its tar is read: what is at each path so far.
//!
//! Later entries replace earlier ones at the same path, with all that is below if one of the two
//! is no directory. Symbolic links in the way to an entry are followed here, in memory, within
//! the root, so that on disk no path ever needs to be.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_model::digest::FileDigest;
use ashlar_model::layer::{Entry, EntryKind, LayerIndex, LayerPath, Metadata};

use super::UnpackError;
use crate::layer::links;

/// More links on the way to an entry are a circle. Linux has the same limit (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// Numbers the inodes of regular files.
pub(super) type InodeNumber = usize;

/// The layer so far. The root is always there.
#[derive(Debug)]
pub(super) struct Draft {
    nodes: BTreeMap<LayerPath, Node>,
    whiteouts: BTreeSet<LayerPath>,
    inodes: InodeNumber,
}

#[derive(Debug, Clone)]
struct Node {
    kind: EntryKind,
    metadata: Metadata,
    /// Of a regular file. Its other names have the same.
    inode: Option<InodeNumber>,
    /// A directory that the tar has not named, only what is below it.
    implied: bool,
}

/// What is to be done on disk before an entry is made.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing is there.
    Free,
    /// The entry is a directory, and one is there already.
    Directory,
    /// These are there and go, in this order.
    Taken(Vec<(LayerPath, bool)>),
}

impl Draft {
    pub(super) fn new() -> Self {
        let root = (LayerPath::ROOT, Node::implied());
        Self {
            nodes: BTreeMap::from([root]),
            whiteouts: BTreeSet::new(),
            inodes: 0,
        }
    }

    /// Where the directory `path` of the tar really is. Directories that are missing on the way
    /// are made, and listed in `made`, parents first. `entry` is what is to be put there.
    pub(super) fn directory(
        &mut self,
        path: &LayerPath,
        entry: &LayerPath,
        made: &mut Vec<LayerPath>,
    ) -> Result<LayerPath, UnpackError> {
        let to = self.follow(path, entry, Some(made))?;
        Ok(to.unwrap_or_default())
    }

    /// Follows links; `None` if something is missing and `made` is not given.
    fn follow(
        &mut self,
        path: &LayerPath,
        entry: &LayerPath,
        mut made: Option<&mut Vec<LayerPath>>,
    ) -> Result<Option<LayerPath>, UnpackError> {
        // What is in the draft has only directories above it. So as a rule this is all; without
        // it, the time that a deep tree takes would grow with the square of its depth.
        let mut at = path.clone();
        let mut ahead: Vec<Vec<u8>> = Vec::new();
        while !self.is_directory(&at) {
            ahead.extend(at.file_name().map(<[u8]>::to_vec));
            at = at.parent().unwrap_or_default();
        }
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    at = at.parent().unwrap_or_default();
                    continue;
                }
                _ => {}
            }
            let next = at.join(&name)?;
            match self.nodes.get(&next).map(|node| &node.kind) {
                Some(EntryKind::Directory { .. }) => at = next,
                Some(EntryKind::Symlink(target)) => {
                    links += 1;
                    if links > MAX_LINKS {
                        let path = entry.clone();
                        return Err(UnpackError::LinkLoop { path });
                    }
                    if target.starts_with(b"/") {
                        at = LayerPath::ROOT;
                    }
                    ahead.extend(target.split(|b| *b == b'/').rev().map(<[u8]>::to_vec));
                }
                Some(_) => {
                    return Err(UnpackError::NotADirectory {
                        path: entry.clone(),
                        parent: next,
                    });
                }
                None => match &mut made {
                    None => return Ok(None),
                    Some(made) => {
                        made.push(next.clone());
                        self.nodes.insert(next.clone(), Node::implied());
                        at = next;
                    }
                },
            }
        }
        Ok(Some(at))
    }

    fn is_directory(&self, path: &LayerPath) -> bool {
        let kind = self.nodes.get(path).map(|node| &node.kind);
        matches!(kind, Some(EntryKind::Directory { .. }))
    }

    /// Clears `path` for a directory (or for something else).
    pub(super) fn clear(
        &mut self,
        path: &LayerPath,
        for_directory: bool,
    ) -> Result<Place, UnpackError> {
        let Some(node) = self.nodes.get(path) else {
            return Ok(Place::Free);
        };
        let is_directory = matches!(node.kind, EntryKind::Directory { .. });
        if is_directory && for_directory {
            return Ok(Place::Directory);
        }
        if path.is_root() {
            return Err(UnpackError::Root);
        }
        let mut gone: Vec<(LayerPath, bool)> = Vec::new();
        for (below, node) in self.nodes.range(path.clone()..) {
            if !below.starts_with(path) {
                break;
            }
            let is_directory = matches!(node.kind, EntryKind::Directory { .. });
            gone.push((below.clone(), is_directory));
        }
        // Deepest first.
        gone.reverse();
        for (path, _) in &gone {
            self.nodes.remove(path);
        }
        self.whiteouts
            .retain(|whiteout| !whiteout.starts_with(path) || whiteout == path);
        Ok(Place::Taken(gone))
    }

    /// Puts an entry at a path that was cleared for it. Returns the number of its inode.
    pub(super) fn put(
        &mut self,
        path: &LayerPath,
        kind: EntryKind,
        metadata: Metadata,
    ) -> InodeNumber {
        let number = self.inodes;
        let inode = matches!(kind, EntryKind::File { .. }).then_some(number);
        if inode.is_some() {
            self.inodes += 1;
        }
        let opaque = matches!(
            self.nodes.get(path).map(|node| &node.kind),
            Some(EntryKind::Directory { opaque: true })
        );
        let kind = match kind {
            // A directory that is named again stays opaque.
            EntryKind::Directory { .. } => EntryKind::Directory { opaque },
            other => other,
        };
        let node = Node {
            kind,
            metadata,
            inode,
            implied: false,
        };
        self.nodes.insert(path.clone(), node);
        number
    }

    /// Where a hard link's target really is, and whether it is something that can be linked to.
    pub(super) fn link_target(
        &mut self,
        target: &LayerPath,
        link: &LayerPath,
    ) -> Result<LayerPath, UnpackError> {
        let missing = || UnpackError::LinkTarget {
            path: link.clone(),
            target: target.clone(),
        };
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(missing());
        };
        let parent = self.follow(&parent, link, None)?.ok_or_else(missing)?;
        let found = parent.join(name)?;
        match self.nodes.get(&found).map(|node| &node.kind) {
            None | Some(EntryKind::Directory { .. }) => Err(missing()),
            Some(_) if found == *link => Err(missing()),
            Some(_) => Ok(found),
        }
    }

    /// Gives what is at `target` another name.
    pub(super) fn link(&mut self, target: &LayerPath, path: &LayerPath) {
        if let Some(node) = self.nodes.get(target).cloned() {
            self.nodes.insert(path.clone(), node);
        }
    }

    /// Takes away what lower layers have at `path`.
    pub(super) fn white_out(&mut self, path: LayerPath) {
        self.whiteouts.insert(path);
    }

    /// Makes the directory at `path` hide what lower layers have below it.
    pub(super) fn make_opaque(&mut self, path: &LayerPath) {
        if let Some(Node {
            kind: EntryKind::Directory { opaque },
            ..
        }) = self.nodes.get_mut(path)
        {
            *opaque = true;
        }
    }

    /// Ends the reading: whiteouts that say nothing of their own go. One of a directory that is
    /// here makes it opaque; one of another file, which hides what is below anyway, and one within
    /// an opaque directory say nothing.
    pub(super) fn settle_whiteouts(&mut self) {
        let whiteouts = std::mem::take(&mut self.whiteouts);
        for path in &whiteouts {
            self.make_opaque(path);
        }
        self.whiteouts = whiteouts
            .into_iter()
            .filter(|path| !self.nodes.contains_key(path) && !self.is_hidden(path))
            .collect();
    }

    /// Whether a directory above `path` is opaque.
    fn is_hidden(&self, path: &LayerPath) -> bool {
        let mut above = path.parent();
        while let Some(path) = above {
            let kind = self.nodes.get(&path).map(|node| &node.kind);
            if kind == Some(&EntryKind::Directory { opaque: true }) {
                return true;
            }
            above = path.parent();
        }
        false
    }

    /// The directories, deepest first: path, metadata, whether it is opaque.
    pub(super) fn directories(&self) -> impl Iterator<Item = (&LayerPath, &Metadata, bool)> {
        self.nodes
            .iter()
            .rev()
            .filter_map(|(path, node)| match node.kind {
                EntryKind::Directory { opaque } => Some((path, &node.metadata, opaque)),
                _ => None,
            })
    }

    /// The paths that are taken away, once [settled](Self::settle_whiteouts).
    pub(super) fn whiteouts(&self) -> impl Iterator<Item = &LayerPath> {
        self.whiteouts.iter()
    }

    /// The directories that the tar has not named, parents first.
    pub(super) fn implied(&self) -> Vec<LayerPath> {
        let implied = self.nodes.iter().filter(|(_, node)| node.implied);
        implied.map(|(path, _)| path.clone()).collect()
    }

    /// The index, with the digests of files by the number of their inode.
    pub(super) fn into_index(self, digests: &[(InodeNumber, FileDigest)]) -> LayerIndex {
        let mut by_inode = vec![None; self.inodes];
        for (inode, digest) in digests {
            by_inode[*inode] = Some(*digest);
        }
        let mut listed: Vec<(Entry, Option<InodeNumber>)> = Vec::with_capacity(self.nodes.len());
        for (path, node) in self.nodes {
            // Without an entry nothing would say that an unnamed directory is opaque.
            let opaque = node.kind == EntryKind::Directory { opaque: true };
            if node.implied && !opaque {
                continue;
            }
            let kind = match (node.kind, node.inode) {
                (EntryKind::File { size, .. }, Some(inode)) => EntryKind::File {
                    size,
                    digest: by_inode[inode],
                },
                (kind, _) => kind,
            };
            let metadata = node.metadata;
            let entry = Entry {
                path,
                kind,
                metadata,
            };
            listed.push((entry, node.inode));
        }
        for path in self.whiteouts {
            let whiteout = Entry {
                path,
                kind: EntryKind::Whiteout,
                metadata: Metadata::default(),
            };
            listed.push((whiteout, None));
        }
        listed.sort_by(|(a, _), (b, _)| a.canonical_cmp(b));
        let (mut entries, inodes): (Vec<_>, Vec<_>) = listed.into_iter().unzip();
        links::tie(&mut entries, &inodes);
        LayerIndex { entries }
    }
}

impl Node {
    /// A directory that no entry describes.
    fn implied() -> Self {
        Self {
            kind: EntryKind::Directory { opaque: false },
            metadata: Metadata {
                mode: 0o755,
                ..Metadata::default()
            },
            inode: None,
            implied: true,
        }
    }
}
