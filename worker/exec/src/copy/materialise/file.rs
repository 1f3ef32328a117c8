//! One regular file: linked, cloned, copied or written.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use ashlar_model::digest::FileDigest;
use ashlar_model::layer::{Entry, EntryKind, LayerPath};
use ashlar_store::home::quota::{Meter, on_disk};
use rustix::fs::{AtFlags, Mode, OFlags, copy_file_range, ioctl_ficlone, linkat, openat};
use rustix::io::{Errno, pread, read, retry_on_intr, write};

use super::MaterialiseError;
use super::metadata::{self, Creator};
use crate::copy::recipe::{ByteSource, Recipe, RecipeEntry};
use crate::layer::tree::Root;

/// Files of up to this length are read with one call and hashed before they are written.
const SMALL: u64 = 128 * 1024;

/// How much of a larger file is copied at a time.
const PIECE: usize = 1 << 20;

/// Files of at least this length are hashed on several cores.
const HUGE: u64 = 16 << 20;

/// Makes the files of a recipe.
#[derive(Debug)]
pub(super) struct FileMaker<'a> {
    roots: Vec<Source<'a>>,
    meter: &'a Meter,
}

/// A directory that files come from.
#[derive(Debug)]
struct Source<'a> {
    path: &'a PathBuf,
    root: Root,
    /// Whether links to its files, and clones of them, are still worth trying.
    links: AtomicBool,
    clones: AtomicBool,
}

/// A file to make, and where.
#[derive(Clone, Copy)]
struct Target<'a> {
    directory: BorrowedFd<'a>,
    name: &'a [u8],
    path: &'a LayerPath,
}

impl<'a> FileMaker<'a> {
    /// Opens the directories that a recipe names.
    pub(super) fn open(recipe: &'a Recipe, meter: &'a Meter) -> Result<Self, MaterialiseError> {
        let open = |path: &'a PathBuf| match Root::open(path) {
            Ok(root) => Ok(Source {
                path,
                root,
                links: AtomicBool::new(true),
                clones: AtomicBool::new(true),
            }),
            Err(source) => Err(MaterialiseError::Root {
                path: path.clone(),
                source,
            }),
        };
        let roots = recipe.roots.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { roots, meter })
    }

    /// Makes one file in an open directory. `buffer` may be used for one file after another.
    pub(super) fn make(
        &self,
        directory: BorrowedFd<'_>,
        item: &RecipeEntry,
        creator: Creator,
        buffer: &mut Vec<u8>,
    ) -> Result<(), MaterialiseError> {
        let Entry {
            path,
            kind,
            metadata,
        } = &item.entry;
        let EntryKind::File { size, digest } = *kind else {
            return Err(MaterialiseError::make(path, Errno::INVAL));
        };
        let target = Target {
            directory,
            name: path.file_name().unwrap_or_default(),
            path,
        };
        // A file that becomes a link to another one was asked for in vain, and counts until the
        // store is counted anew.
        let admitted = self.meter.admit_io(on_disk(size));
        let _permit = admitted.map_err(|source| MaterialiseError::Make {
            path: path.clone(),
            source,
        })?;
        let made = match &item.source {
            ByteSource::Nothing => return Err(MaterialiseError::make(path, Errno::INVAL)),
            ByteSource::Inline(bytes) => {
                let made = target.create()?;
                write_all(&made, bytes).map_err(|errno| MaterialiseError::make(path, errno))?;
                made
            }
            ByteSource::Changeable { root, path: from } => {
                let copy = self.copy(*root, from, size, target)?;
                copy.checked(digest, buffer)?
            }
            ByteSource::Immutable {
                root,
                path: from,
                same_inode,
            } => {
                if *same_inode && self.link(*root, from, target)? {
                    return Ok(());
                }
                self.copy(*root, from, size, target)?.trusted(buffer)?
            }
        };
        metadata::set(made.as_fd(), path, metadata, creator)
    }

    fn source(&self, number: u32, target: Target<'_>) -> Result<&Source<'a>, MaterialiseError> {
        let number = usize::try_from(number).ok();
        let source = number.and_then(|number| self.roots.get(number));
        source.ok_or_else(|| MaterialiseError::make(target.path, Errno::INVAL))
    }

    /// Makes the file a hard link to one that never changes; tells whether it could.
    fn link(
        &self,
        root: u32,
        from: &LayerPath,
        target: Target<'_>,
    ) -> Result<bool, MaterialiseError> {
        let source = self.source(root, target)?;
        if !source.links.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let flags = AtFlags::empty();
        let (old, new) = (source.root.as_fd(), target.directory);
        match linkat(old, from.as_bytes(), new, target.name, flags) {
            Ok(()) => Ok(true),
            // Another filesystem, or one without hard links: no other file will do better.
            Err(Errno::XDEV | Errno::OPNOTSUPP) => {
                source.links.store(false, Ordering::Relaxed);
                Ok(false)
            }
            // Too many links to this file, a file of another owner, a path too long.
            Err(Errno::MLINK | Errno::PERM | Errno::ACCESS | Errno::NAMETOOLONG) => Ok(false),
            Err(errno) => Err(MaterialiseError::make(target.path, errno)),
        }
    }

    fn copy<'t>(
        &'t self,
        root: u32,
        from: &'t LayerPath,
        size: u64,
        target: Target<'t>,
    ) -> Result<Copy<'t>, MaterialiseError> {
        let source = self.source(root, target)?;
        let opened = match source.root.open_file(from) {
            // A socket: listed as an empty file, as BuildKit has it.
            Err(Errno::NXIO) if size == 0 => rustix::fs::open(
                c"/dev/null",
                OFlags::RDONLY | OFlags::CLOEXEC,
                Mode::empty(),
            ),
            opened => opened,
        };
        match opened {
            Ok(opened) => Ok(Copy {
                opened,
                size,
                path: source.path.join(from.as_path()),
                clones: &source.clones,
                target,
            }),
            // It has gone, or a link or a directory has taken its place.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Err(MaterialiseError::Changed {
                path: source.path.join(from.as_path()),
            }),
            Err(errno) => Err(MaterialiseError::Read {
                path: source.path.join(from.as_path()),
                source: errno.into(),
            }),
        }
    }
}

impl Target<'_> {
    fn create(&self) -> Result<OwnedFd, MaterialiseError> {
        // Readable, for what was cloned is hashed afterwards.
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        openat(self.directory, self.name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| self.failed(errno))
    }

    fn failed(&self, errno: Errno) -> MaterialiseError {
        MaterialiseError::make(self.path, errno)
    }
}

/// A file about to be copied.
struct Copy<'a> {
    opened: OwnedFd,
    size: u64,
    path: PathBuf,
    clones: &'a AtomicBool,
    target: Target<'a>,
}

impl Copy<'_> {
    /// Copies bytes that must be what the digest says.
    fn checked(
        self,
        digest: Option<FileDigest>,
        buffer: &mut Vec<u8>,
    ) -> Result<OwnedFd, MaterialiseError> {
        if self.size <= SMALL {
            let bytes = self.read_whole(buffer)?;
            if digest.is_some_and(|digest| digest != blake3::hash(bytes).into()) {
                return Err(self.changed());
            }
            let made = self.target.create()?;
            write_all(&made, bytes).map_err(|errno| self.target.failed(errno))?;
            return Ok(made);
        }
        let made = self.target.create()?;
        let cloned = self.clone_into(&made)?;
        let found = if cloned {
            self.hash_clone(&made, buffer)?
        } else {
            self.copy_and_hash(&made, buffer)?
        };
        if digest.is_some_and(|digest| digest != found) {
            return Err(self.changed());
        }
        Ok(made)
    }

    /// Copies bytes that nobody changes.
    fn trusted(self, buffer: &mut Vec<u8>) -> Result<OwnedFd, MaterialiseError> {
        let made = self.target.create()?;
        if self.size <= SMALL {
            let bytes = self.read_whole(buffer)?;
            write_all(&made, bytes).map_err(|errno| self.target.failed(errno))?;
        } else if !self.clone_into(&made)? {
            self.copy_in_kernel(&made, buffer)?;
        }
        Ok(made)
    }

    /// The bytes of a small file, which must be as many as expected.
    fn read_whole<'b>(&self, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], MaterialiseError> {
        // Room for one byte more than expected shows a file that grew without another call.
        let size = usize::try_from(self.size).map_err(|_| self.changed())?;
        if buffer.len() <= size {
            buffer.resize(size + 1, 0);
        }
        let room = &mut buffer[..=size];
        let mut filled = 0;
        loop {
            let count = retry_on_intr(|| read(&self.opened, &mut room[filled..]));
            match count.map_err(|errno| self.unreadable(errno))? {
                0 => break,
                count => filled += count,
            }
            if filled >= size {
                break;
            }
        }
        if filled == size {
            Ok(&buffer[..size])
        } else {
            Err(self.changed())
        }
    }

    /// Lets the new file share the blocks of the old one, where the filesystem can.
    fn clone_into(&self, made: &OwnedFd) -> Result<bool, MaterialiseError> {
        if !self.clones.load(Ordering::Relaxed) {
            return Ok(false);
        }
        match ioctl_ficlone(made, &self.opened) {
            Ok(()) => Ok(true),
            Err(Errno::NOSPC) => Err(self.target.failed(Errno::NOSPC)),
            Err(_) => {
                self.clones.store(false, Ordering::Relaxed);
                Ok(false)
            }
        }
    }

    fn copy_and_hash(
        &self,
        made: &OwnedFd,
        buffer: &mut Vec<u8>,
    ) -> Result<FileDigest, MaterialiseError> {
        let mut hasher = blake3::Hasher::new();
        buffer.resize(buffer.len().max(PIECE), 0);
        let mut length = 0;
        loop {
            let count = retry_on_intr(|| read(&self.opened, &mut buffer[..]));
            let count = count.map_err(|errno| self.unreadable(errno))?;
            if count == 0 {
                break;
            }
            self.add(&mut hasher, &buffer[..count]);
            write_all(made, &buffer[..count]).map_err(|errno| self.target.failed(errno))?;
            length += count as u64;
        }
        self.digest_of(&hasher, length)
    }

    fn hash_clone(
        &self,
        made: &OwnedFd,
        buffer: &mut Vec<u8>,
    ) -> Result<FileDigest, MaterialiseError> {
        let mut hasher = blake3::Hasher::new();
        buffer.resize(buffer.len().max(PIECE), 0);
        let mut length = 0;
        loop {
            let count = retry_on_intr(|| pread(made, &mut buffer[..], length));
            let count = count.map_err(|errno| self.target.failed(errno))?;
            if count == 0 {
                break;
            }
            self.add(&mut hasher, &buffer[..count]);
            length += count as u64;
        }
        self.digest_of(&hasher, length)
    }

    fn add(&self, hasher: &mut blake3::Hasher, bytes: &[u8]) {
        if self.size >= HUGE {
            hasher.update_rayon(bytes);
        } else {
            hasher.update(bytes);
        }
    }

    fn digest_of(
        &self,
        hasher: &blake3::Hasher,
        length: u64,
    ) -> Result<FileDigest, MaterialiseError> {
        if length == self.size {
            Ok(hasher.finalize().into())
        } else {
            Err(self.changed())
        }
    }

    fn copy_in_kernel(&self, made: &OwnedFd, buffer: &mut Vec<u8>) -> Result<(), MaterialiseError> {
        let mut left = self.size;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX);
            match copy_file_range(&self.opened, None, made, None, wanted) {
                Ok(0) => return Err(self.changed()),
                Ok(count) => left -= count as u64,
                Err(Errno::INTR) => {}
                // Other filesystems, or a filesystem that cannot: the plain way, once more from
                // the start.
                Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP)
                    if left == self.size =>
                {
                    return self.copy_and_hash(made, buffer).map(drop);
                }
                Err(errno) => return Err(self.target.failed(errno)),
            }
        }
        Ok(())
    }

    fn changed(&self) -> MaterialiseError {
        let path = self.path.clone();
        MaterialiseError::Changed { path }
    }

    fn unreadable(&self, errno: Errno) -> MaterialiseError {
        MaterialiseError::Read {
            path: self.path.clone(),
            source: errno.into(),
        }
    }
}

fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        let count = retry_on_intr(|| write(file, bytes))?;
        bytes = &bytes[count..];
    }
    Ok(())
}
