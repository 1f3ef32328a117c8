//! Where fetched files go: below one directory, and never out of it.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use ashlar_model::layer::LayerPath;
use ashlar_store::home::quota::{Meter, on_disk};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, linkat, mkdirat, openat, statat};
use rustix::io::Errno;

use super::ContextError;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

const NEW_FILE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A directory, and those below it.
#[derive(Debug)]
pub(super) struct Below {
    root: OwnedFd,
    /// The directory of the last file: the next one is mostly in it as well.
    last: Option<(LayerPath, OwnedFd)>,
}

impl Below {
    /// The path itself is trusted.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, path, flags, Mode::empty())?;
        Ok(Self { root, last: None })
    }

    /// The directory that a path is in, which is made if it is to be, and the path's name there.
    fn directory<'a>(
        &mut self,
        path: &'a LayerPath,
        make: bool,
    ) -> io::Result<(&OwnedFd, &'a [u8])> {
        let name = path.file_name().ok_or(Errno::ISDIR)?;
        let wanted = parent(path);
        if self.last.as_ref().is_none_or(|(last, _)| *last != wanted) {
            let opened = open_directory(&self.root, &wanted, make)?;
            self.last = Some((wanted, opened));
        }
        let (_, directory) = self.last.as_ref().ok_or(Errno::NOENT)?;
        Ok((directory, name))
    }
}

/// Makes files below a directory, with the directories that lead to them.
#[derive(Debug)]
pub(super) struct Ground {
    path: PathBuf,
    below: Below,
    meter: Meter,
}

impl Ground {
    /// The path itself is trusted.
    pub(super) fn open(path: &Path, meter: &Meter) -> Result<Self, ContextError> {
        let below = Below::open(path).map_err(|source| ContextError::Write {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            below,
            meter: meter.clone(),
        })
    }

    /// Makes a file, whole.
    pub(super) fn write(&mut self, path: &LayerPath, bytes: &[u8]) -> Result<(), ContextError> {
        let make = |ground: &mut Self| {
            let _permit = ground.meter.admit_io(on_disk(bytes.len() as u64))?;
            ground.new_file(path)?.write_all(bytes)
        };
        make(self).map_err(|source| self.unwritable(path, source))
    }

    /// Makes a file that is to be written piece by piece, and admits all of it.
    pub(super) fn begin(&mut self, path: &LayerPath, size: u64) -> Result<File, ContextError> {
        let make = |ground: &mut Self| {
            drop(ground.meter.admit_io(on_disk(size))?);
            ground.new_file(path)
        };
        make(self).map_err(|source| self.unwritable(path, source))
    }

    /// Gives a file another name.
    pub(super) fn link(&mut self, from: &LayerPath, to: &LayerPath) -> Result<(), ContextError> {
        let link = |ground: &mut Self| {
            let source = open_directory(&ground.below.root, &parent(from), false)?;
            let (directory, name) = ground.below.directory(to, true)?;
            let (old, flags) = (from.file_name().unwrap_or_default(), AtFlags::empty());
            match linkat(&source, old, directory, name, flags) {
                // A filesystem without hard links, or too many of them.
                Err(Errno::MLINK | Errno::OPNOTSUPP | Errno::PERM) => {
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let original = openat(&source, old, flags, Mode::empty())?;
                    let mut original = File::from(original);
                    let length = original.metadata()?.len();
                    let _permit = ground.meter.admit_io(on_disk(length))?;
                    io::copy(&mut original, &mut ground.new_file(to)?)?;
                    Ok(())
                }
                linked => Ok(linked?),
            }
        };
        link(self).map_err(|source| self.unwritable(to, source))
    }

    /// Gives a file that lies elsewhere a name here as well. Whether it has one now: it may be gone,
    /// or of another size, or the filesystem may have no more links.
    pub(super) fn adopt(
        &mut self,
        near: &mut Below,
        (old, size): (&LayerPath, u64),
        path: &LayerPath,
    ) -> Result<bool, ContextError> {
        let mut adopt = || -> io::Result<bool> {
            let Ok((source, from)) = near.directory(old, false) else {
                return Ok(false);
            };
            let is_it = statat(source, from, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|found| {
                FileType::from_raw_mode(found.st_mode).is_file()
                    && u64::try_from(found.st_size) == Ok(size)
            });
            if !is_it {
                return Ok(false);
            }
            let (directory, name) = self.below.directory(path, true)?;
            match linkat(source, from, directory, name, AtFlags::empty()) {
                Ok(()) => Ok(true),
                Err(Errno::MLINK | Errno::OPNOTSUPP | Errno::PERM | Errno::XDEV | Errno::NOENT) => {
                    Ok(false)
                }
                Err(errno) => Err(errno.into()),
            }
        };
        let adopted = adopt();
        adopted.map_err(|source| self.unwritable(path, source))
    }

    fn new_file(&mut self, path: &LayerPath) -> io::Result<File> {
        let (directory, name) = self.below.directory(path, true)?;
        let mode = Mode::from_raw_mode(0o644);
        Ok(File::from(openat(directory, name, NEW_FILE, mode)?))
    }

    pub(super) fn unwritable(&self, path: &LayerPath, source: io::Error) -> ContextError {
        ContextError::Write {
            path: self.path.join(path.as_path()),
            source,
        }
    }
}

fn parent(path: &LayerPath) -> LayerPath {
    path.parent().unwrap_or_default()
}

/// Opens a directory below, name by name, so that no link is followed and no path is too long.
fn open_directory(root: &OwnedFd, path: &LayerPath, make: bool) -> io::Result<OwnedFd> {
    let mut reached = root.as_fd().try_clone_to_owned()?;
    for name in path.components() {
        if make {
            match mkdirat(&reached, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        reached = openat(&reached, name, DIRECTORY, Mode::empty())?;
    }
    Ok(reached)
}
