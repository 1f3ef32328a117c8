//! Each entry of the tar, onto draft and disk.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};

use ashlar_model::layer::{EntryKind, LayerPath, Metadata};
use ashlar_model::select::rules::pattern::clean;
use ashlar_store::home::quota::Growth;
use rustix::fs::FileType;

use super::disk::{DeviceMade, Disk, create_file, finish_file};
use super::draft::{Draft, Place};
use super::workers::{FileJob, FilePlace, Workers};
use super::{NameRules, OwnerPolicy, UnpackError, UnpackOptions};
use crate::layer::Warning;
use crate::layer::tar_read::{TarEntry, TarKind, TarReader};
use crate::layer::tree::xattrs;

/// Files up to this many bytes are read whole and written by threads.
const SMALL: u64 = 256 * 1024;
/// Bytes of larger files read at a time.
const PIECE: usize = 256 * 1024;

/// Prefix of a whiteout's name. Source: OCI image specification, `layer.md`, "Whiteouts".
const WHITEOUT: &[u8] = b".wh.";
/// Name of the file that makes its directory opaque.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other names that begin so are AUFS's own bookkeeping, which Docker once let slip into layers.
const AUFS: &[u8] = b".wh..wh.";

/// A tar being applied.
#[derive(Debug)]
pub(super) struct Application<'w> {
    draft: Draft,
    disk: Option<Disk>,
    options: UnpackOptions,
    workers: &'w Workers<'w>,
    warnings: Vec<Warning>,
    attributes_warned: HashSet<Vec<u8>>,
    /// The first file with another owner than the process's, and how many there are.
    other_owners: Option<(LayerPath, (u32, u32), u64)>,
    buffer: Vec<u8>,
}

/// What is left when all is applied.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) draft: Draft,
    pub(super) warnings: Vec<Warning>,
}

impl<'w> Application<'w> {
    pub(super) fn new(
        disk: Option<Disk>,
        options: UnpackOptions,
        workers: &'w Workers<'w>,
    ) -> Self {
        Self {
            draft: Draft::new(),
            disk,
            options,
            workers,
            warnings: Vec::new(),
            attributes_warned: HashSet::new(),
            other_owners: None,
            buffer: Vec::new(),
        }
    }

    /// Applies an entry, whose bytes are read from `tar`.
    pub(super) fn entry<R: Read>(
        &mut self,
        mut entry: TarEntry,
        tar: &mut TarReader<R>,
    ) -> Result<(), UnpackError> {
        if self.options.names == NameRules::Archive {
            return self.archive_entry(entry, tar);
        }
        let path = std::mem::take(&mut entry.path);
        let (directory, name) = split(&path);
        if name.is_empty() {
            return self.root(entry);
        }
        let directory = LayerPath::new(directory)?;
        if directory
            .components()
            .next()
            .is_some_and(|name| name.starts_with(AUFS))
        {
            return Ok(());
        }
        // What a whiteout stands for: its own name may be longer than a name can be.
        let hidden = name.strip_prefix(WHITEOUT);
        let named = match hidden {
            Some(hidden) if !matches!(hidden, b"" | b"." | b"..") => directory.join(hidden)?,
            _ => directory.join(name)?,
        };
        let mut above = directory.components();
        if above.any(|name| name.starts_with(WHITEOUT))
            || hidden.is_some() && named.file_name() == Some(name)
        {
            return Err(UnpackError::Whiteout { path: named });
        }
        let parent = self.directory(&directory, &named)?;
        match hidden {
            None => self.put(&parent.join(name)?, entry, tar)?,
            Some(_) if name == OPAQUE => self.draft.make_opaque(&parent),
            Some(_) if name.starts_with(AUFS) => {}
            Some(hidden) => self.draft.white_out(parent.join(hidden)?),
        }
        Ok(())
    }

    fn archive_entry<R: Read>(
        &mut self,
        mut entry: TarEntry,
        tar: &mut TarReader<R>,
    ) -> Result<(), UnpackError> {
        let named = inside(&entry.path)?;
        if let TarKind::Hardlink(target) = &mut entry.kind {
            *target = inside(target)?.as_bytes().to_vec();
        }
        let (Some(directory), Some(name)) = (named.parent(), named.file_name()) else {
            return self.root(entry);
        };
        let parent = self.directory(&directory, &named)?;
        self.put(&parent.join(name)?, entry, tar)
    }

    /// Finishes the tree.
    pub(super) fn finish(mut self) -> Result<Applied, UnpackError> {
        self.settle()?;
        self.draft.settle_whiteouts();
        if let Some(disk) = &mut self.disk {
            for path in self.draft.whiteouts() {
                disk.make_whiteout(path)?;
            }
            for (path, metadata, opaque) in self.draft.directories() {
                disk.finish_directory(path, metadata, opaque)?;
            }
        }
        if let Some((path, (uid, gid), count)) = self.other_owners {
            self.warnings.push(Warning::OwnersNotApplied {
                path,
                uid,
                gid,
                count,
            });
        }
        Ok(Applied {
            draft: self.draft,
            warnings: self.warnings,
        })
    }

    /// The directory itself that everything is in.
    fn root(&mut self, entry: TarEntry) -> Result<(), UnpackError> {
        if entry.kind != TarKind::Directory {
            return Err(UnpackError::Root);
        }
        let metadata = self.metadata(&LayerPath::ROOT, entry)?;
        let kind = EntryKind::Directory { opaque: false };
        self.draft.put(&LayerPath::ROOT, kind, metadata);
        Ok(())
    }

    /// Where a directory of the tar really is; made if missing.
    fn directory(&mut self, path: &LayerPath, entry: &LayerPath) -> Result<LayerPath, UnpackError> {
        let mut made = Vec::new();
        let found = self.draft.directory(path, entry, &mut made)?;
        if let Some(disk) = &mut self.disk {
            for path in &made {
                disk.make_directory(path)?;
            }
        }
        Ok(found)
    }

    fn put<R: Read>(
        &mut self,
        path: &LayerPath,
        mut entry: TarEntry,
        tar: &mut TarReader<R>,
    ) -> Result<(), UnpackError> {
        let kind = std::mem::replace(&mut entry.kind, TarKind::Fifo);
        let kind = match kind {
            TarKind::Hardlink(target) => return self.link(path, &LayerPath::new(&target)?),
            TarKind::File => EntryKind::File {
                size: entry.size,
                digest: None,
            },
            TarKind::Directory => EntryKind::Directory { opaque: false },
            TarKind::Symlink(target) => EntryKind::Symlink(target),
            TarKind::CharDevice(major, minor) => EntryKind::CharDevice(major, minor),
            TarKind::BlockDevice(major, minor) => EntryKind::BlockDevice(major, minor),
            TarKind::Fifo => EntryKind::Fifo,
        };
        let size = entry.size;
        let is_directory = matches!(kind, EntryKind::Directory { .. });
        self.drop_unfit_attributes(path, &kind, &mut entry);
        let is_symlink = matches!(kind, EntryKind::Symlink(_));
        let mut metadata = self.metadata(path, entry)?;
        if is_symlink {
            // Links have no mode of their own; Linux shows this one.
            metadata.mode = 0o777;
        }
        let place = self.clear(path, is_directory)?;
        let inode = self.draft.put(path, kind.clone(), metadata.clone());
        match kind {
            EntryKind::File { .. } => {
                let place = match &mut self.disk {
                    Some(disk) => Some(disk.place(path, &metadata)?),
                    None => None,
                };
                if size > SMALL {
                    return self.large_file(inode, size, place.as_ref(), tar);
                }
                let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
                if let Err(error) = tar.read_to_end(&mut bytes) {
                    return Err(tar.read_failed(error).into());
                }
                self.workers.give(FileJob {
                    inode,
                    bytes,
                    place,
                })
            }
            kind => self.make(path, &kind, &metadata, place == Place::Directory),
        }
    }

    /// Makes on disk what has no content.
    fn make(
        &mut self,
        path: &LayerPath,
        kind: &EntryKind,
        metadata: &Metadata,
        exists: bool,
    ) -> Result<(), UnpackError> {
        let Some(disk) = &mut self.disk else {
            return Ok(());
        };
        let (file_type, device) = match kind {
            EntryKind::Directory { .. } if exists => return Ok(()),
            EntryKind::Directory { .. } => return disk.make_directory(path),
            EntryKind::Symlink(target) => return disk.make_symlink(path, target, metadata),
            EntryKind::Fifo => return disk.make_fifo(path, metadata),
            EntryKind::CharDevice(major, minor) => (FileType::CharacterDevice, (*major, *minor)),
            EntryKind::BlockDevice(major, minor) => (FileType::BlockDevice, (*major, *minor)),
            EntryKind::File { .. } | EntryKind::Hardlink(_) | EntryKind::Whiteout => {
                return Ok(());
            }
        };
        if disk.make_device(path, file_type, device, metadata)? == DeviceMade::NotAllowed {
            self.warnings.extend(Warning::device_skipped(path, device));
        }
        Ok(())
    }

    fn link(&mut self, path: &LayerPath, target: &LayerPath) -> Result<(), UnpackError> {
        let target = self.draft.link_target(target, path)?;
        self.clear(path, false)?;
        self.draft.link(&target, path);
        if let Some(disk) = &mut self.disk {
            disk.link_later(&target, path);
        }
        Ok(())
    }

    /// Takes away what earlier entries put at a path.
    fn clear(&mut self, path: &LayerPath, for_directory: bool) -> Result<Place, UnpackError> {
        let place = self.draft.clear(path, for_directory)?;
        if let Place::Taken(gone) = &place {
            // What goes may still be on its way, or be waited for by links to it.
            self.settle()?;
            if let Some(disk) = &mut self.disk {
                for (path, is_directory) in gone {
                    disk.remove(path, *is_directory)?;
                }
            }
        }
        Ok(place)
    }

    /// Waits for all files and makes the links to them.
    fn settle(&mut self) -> Result<(), UnpackError> {
        self.workers.wait()?;
        match &mut self.disk {
            Some(disk) => disk.make_links(),
            None => Ok(()),
        }
    }

    /// Writes a file as it is read, its holes as holes.
    fn large_file<R: Read>(
        &mut self,
        inode: usize,
        size: u64,
        place: Option<&FilePlace>,
        tar: &mut TarReader<R>,
    ) -> Result<(), UnpackError> {
        let mut file = place.map(create_file).transpose()?;
        let mut hasher = blake3::Hasher::new();
        let mut blocks = Growth::default();
        self.buffer.resize(PIECE, 0);
        loop {
            let hole = tar.skip_hole();
            if hole > 0 {
                hash_zeros(hole, &mut hasher);
                if let (Some(place), Some(file)) = (place, &mut file) {
                    skip(file, hole).map_err(|e| place.error("write", e))?;
                    blocks.skip(hole);
                }
            }
            let count = match tar.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(tar.read_failed(error).into()),
            };
            let bytes = &self.buffer[..count];
            if let (Some(place), Some(file)) = (place, &mut file) {
                let permit = place.admit(blocks.grown_by(count as u64))?;
                file.write_all(bytes).map_err(|e| place.error("write", e))?;
                drop(permit);
            }
            hasher.update(bytes);
        }
        if let (Some(place), Some(file)) = (place, &file) {
            // A hole at the end has moved the position only.
            file.set_len(size).map_err(|e| place.error("write", e))?;
            finish_file(place, file)?;
        }
        self.workers.note(inode, hasher.finalize().into());
        Ok(())
    }

    fn metadata(&mut self, path: &LayerPath, entry: TarEntry) -> Result<Metadata, UnpackError> {
        let mut xattrs = entry.xattrs;
        for xattr in &mut xattrs {
            xattr.value = xattrs::normalised(&xattr.name, std::mem::take(&mut xattr.value));
        }
        xattrs.sort();
        let metadata = Metadata {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs,
        };
        self.judge_owner(path, &metadata)?;
        Ok(metadata)
    }

    fn judge_owner(&mut self, path: &LayerPath, metadata: &Metadata) -> Result<(), UnpackError> {
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        if self.options.owners == OwnerPolicy::Apply || disk.is_creator(metadata) {
            return Ok(());
        }
        let Metadata { uid, gid, .. } = *metadata;
        if self.options.owners == OwnerPolicy::Refuse {
            return Err(UnpackError::OtherOwner {
                path: path.clone(),
                uid,
                gid,
            });
        }
        let first = || (path.clone(), (uid, gid), 0);
        self.other_owners.get_or_insert_with(first).2 += 1;
        Ok(())
    }

    /// Drops attributes that layers do not carry, or that Linux gives no file of this kind.
    fn drop_unfit_attributes(&mut self, path: &LayerPath, kind: &EntryKind, entry: &mut TarEntry) {
        entry.xattrs.retain(|xattr| {
            let fits = xattrs::is_carried(&xattr.name)
                && match kind {
                    EntryKind::File { .. } => !xattrs::is_for_directories(&xattr.name),
                    EntryKind::Directory { .. } => true,
                    _ => false,
                };
            if !fits && self.attributes_warned.insert(xattr.name.clone()) {
                self.warnings.push(Warning::AttributeSkipped {
                    path: path.clone(),
                    name: xattr.name.clone(),
                });
            }
            fits
        });
    }
}

/// A name in an archive, from where it is unpacked.
fn inside(name: &[u8]) -> Result<LayerPath, UnpackError> {
    let slashes = name.iter().take_while(|byte| **byte == b'/').count();
    LayerPath::new(&clean(&name[slashes..])).map_err(UnpackError::Path)
}

/// Splits an entry's name into its directory and its last component, which is empty for the root.
fn split(mut path: &[u8]) -> (&[u8], &[u8]) {
    loop {
        let (directory, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b""[..], path),
        };
        match name {
            b"" | b"." if !directory.is_empty() => path = directory,
            b"." => return (b"", b""),
            name => return (directory, name),
        }
    }
}

/// Leaves a hole in a file.
fn skip(file: &mut File, hole: u64) -> io::Result<()> {
    let distance = i64::try_from(hole).map_err(io::Error::other)?;
    file.seek(SeekFrom::Current(distance)).map(drop)
}

fn hash_zeros(count: u64, hasher: &mut blake3::Hasher) {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    let mut left = count;
    while left > 0 {
        let count = usize::try_from(left).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
        hasher.update(&ZEROS[..count]);
        left -= count as u64;
    }
}
