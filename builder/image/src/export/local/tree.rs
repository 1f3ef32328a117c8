//! Making files below a directory, one descriptor at a time.

use std::ffi::CString;
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::super::ExportError;

/// What a file has beside its content.
#[derive(Debug, Clone, Default)]
pub(super) struct Attributes {
    /// The twelve bits.
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A special file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Device {
    Fifo,
    Character(u32, u32),
    Block(u32, u32),
}

/// The directory that is written to.
pub(super) struct Tree {
    path: PathBuf,
    root: OwnedFd,
    /// The directory of the entry before, open: entries of one directory come together.
    current: Vec<(Vec<u8>, OwnedFd)>,
    /// Directories whose mode and times are set at the end: a file made later changes the time,
    /// and a mode without `w` would forbid it.
    directories: Vec<(Vec<Vec<u8>>, Attributes)>,
    is_root: bool,
    buffer: Vec<u8>,
}

/// The open directory that an entry belongs into: how many of `Tree::current` lead to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place(usize);

/// Bytes copied at once.
const BUFFER: usize = 128 * 1024;

fn name(bytes: &[u8]) -> CString {
    // Names with a NUL byte have been refused before.
    CString::new(bytes).unwrap_or_default()
}

fn mode(bits: u32) -> Mode {
    Mode::from_bits_truncate(bits & 0o7777)
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

impl Tree {
    pub(super) fn open(path: &Path) -> Result<Self, ExportError> {
        std::fs::create_dir_all(path).map_err(|e| ExportError::write("create", path, e))?;
        // The directory itself may be reached by a link: the user named it.
        let flags = DIRECTORY.difference(OFlags::NOFOLLOW);
        let root = rustix::fs::openat(CWD, path, flags, Mode::empty())
            .map_err(|e| ExportError::write("open", path, e.into()))?;
        Ok(Self {
            path: path.to_owned(),
            root,
            current: Vec::new(),
            directories: Vec::new(),
            is_root: rustix::process::geteuid().is_root(),
            buffer: vec![0; BUFFER],
        })
    }

    fn error(&self, action: &'static str, shown: &str, errno: Errno) -> ExportError {
        ExportError::write(
            action,
            &self.path.join(shown.trim_start_matches('/')),
            errno.into(),
        )
    }

    fn fd(&self, place: Place) -> &OwnedFd {
        match place.0 {
            0 => &self.root,
            depth => &self.current[depth - 1].1,
        }
    }

    /// Opens the directory with these names, from the last one that it has in common with the one
    /// before. Missing ones are made.
    pub(super) fn enter(&mut self, names: &[Vec<u8>], shown: &str) -> Result<Place, ExportError> {
        let common = self
            .current
            .iter()
            .zip(names)
            .take_while(|((open, _), wanted)| open == *wanted)
            .count();
        self.current.truncate(common);
        for wanted in &names[common..] {
            let parent = Place(self.current.len());
            let opened = match self.open_directory(parent, wanted) {
                Err(Errno::NOENT) => {
                    rustix::fs::mkdirat(self.fd(parent), name(wanted), mode(0o755))
                        .and_then(|()| self.open_directory(parent, wanted))
                }
                // Something else has the name: a file, or a link that must not be followed.
                Err(Errno::NOTDIR | Errno::LOOP) => remove(self.fd(parent), wanted)
                    .and_then(|()| rustix::fs::mkdirat(self.fd(parent), name(wanted), mode(0o755)))
                    .and_then(|()| self.open_directory(parent, wanted)),
                other => other,
            };
            let opened = opened.map_err(|e| self.error("open the directory of", shown, e))?;
            self.current.push((wanted.clone(), opened));
        }
        Ok(Place(names.len()))
    }

    fn open_directory(&self, parent: Place, wanted: &[u8]) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(self.fd(parent), name(wanted), DIRECTORY, Mode::empty())
    }

    /// Makes something new under a name. What has the name already is removed, but only if it is
    /// in the way: mostly nothing is.
    fn replacing<T>(
        &self,
        place: Place,
        wanted: &[u8],
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        match make() {
            Err(Errno::EXIST) => {
                remove(self.fd(place), wanted)?;
                make()
            }
            other => other,
        }
    }

    pub(super) fn directory(
        &mut self,
        place: Place,
        wanted: &[u8],
        attributes: Attributes,
        shown: &str,
    ) -> Result<Option<String>, ExportError> {
        let mut names: Vec<Vec<u8>> = self.current[..place.0]
            .iter()
            .map(|(name, _)| name.clone())
            .collect();
        names.push(wanted.to_vec());
        let entered = self.enter(&names, shown)?;
        // Until the end it must be possible to write into it, whatever its mode will be.
        let writable = mode(attributes.mode | 0o700);
        rustix::fs::fchmod(self.fd(entered), writable)
            .map_err(|e| self.error("set the mode of", shown, e))?;
        let skipped = self.own(entered, &attributes, shown)?;
        self.directories.push((names, attributes));
        Ok(skipped)
    }

    /// Owner and extended attributes of an open directory.
    fn own(
        &self,
        place: Place,
        attributes: &Attributes,
        shown: &str,
    ) -> Result<Option<String>, ExportError> {
        self.chown_fd(self.fd(place), attributes, shown)?;
        Ok(set_xattrs(self.fd(place), attributes, shown))
    }

    fn chown_fd(
        &self,
        fd: &OwnedFd,
        attributes: &Attributes,
        shown: &str,
    ) -> Result<(), ExportError> {
        if self.is_root {
            let (uid, gid) = ids(attributes);
            rustix::fs::fchown(fd, uid, gid)
                .map_err(|e| self.error("set the owner of", shown, e))?;
        }
        Ok(())
    }

    pub(super) fn file<R: Read>(
        &mut self,
        place: Place,
        wanted: &[u8],
        content: &mut R,
        attributes: &Attributes,
        shown: &str,
    ) -> Result<Option<String>, ExportError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self
            .replacing(place, wanted, || {
                rustix::fs::openat(self.fd(place), name(wanted), flags, mode(0o600))
            })
            .map_err(|e| self.error("create", shown, e))?;
        let mut file = std::fs::File::from(fd);
        loop {
            let count = match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(ExportError::Filesystem(error)),
            };
            file.write_all(&self.buffer[..count]).map_err(|source| {
                let path = self.path.join(shown.trim_start_matches('/'));
                ExportError::write("write", &path, source)
            })?;
        }
        let fd = OwnedFd::from(file);
        self.chown_fd(&fd, attributes, shown)?;
        let skipped = set_xattrs(&fd, attributes, shown);
        // After the owner, whose change takes the set-user-ID bit away.
        rustix::fs::fchmod(&fd, mode(attributes.mode))
            .map_err(|e| self.error("set the mode of", shown, e))?;
        rustix::fs::futimens(&fd, &times(attributes))
            .map_err(|e| self.error("set the time of", shown, e))?;
        Ok(skipped)
    }

    pub(super) fn symlink(
        &self,
        place: Place,
        wanted: &[u8],
        target: &[u8],
        attributes: &Attributes,
        shown: &str,
    ) -> Result<Option<String>, ExportError> {
        self.replacing(place, wanted, || {
            rustix::fs::symlinkat(name(target), self.fd(place), name(wanted))
        })
        .map_err(|e| self.error("create", shown, e))?;
        self.finish_named(place, wanted, attributes, shown)?;
        Ok(None)
    }

    /// Owner and time of something that is not opened.
    fn finish_named(
        &self,
        place: Place,
        wanted: &[u8],
        attributes: &Attributes,
        shown: &str,
    ) -> Result<(), ExportError> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if self.is_root {
            let (uid, gid) = ids(attributes);
            rustix::fs::chownat(self.fd(place), name(wanted), uid, gid, flags)
                .map_err(|e| self.error("set the owner of", shown, e))?;
        }
        rustix::fs::utimensat(self.fd(place), name(wanted), &times(attributes), flags)
            .map_err(|e| self.error("set the time of", shown, e))
    }

    pub(super) fn hard_link(
        &mut self,
        place: Place,
        wanted: &[u8],
        target: &[Vec<u8>],
        shown: &str,
    ) -> Result<Option<String>, ExportError> {
        let Some((last, parents)) = target.split_last() else {
            return Err(ExportError::Entry {
                entry: shown.to_owned(),
                reason: "it is a hard link to the root".to_owned(),
            });
        };
        let own = self
            .fd(place)
            .try_clone()
            .map_err(|e| ExportError::write("open the directory of", &self.path.join(shown), e))?;
        let from = self.enter(parents, shown)?;
        rustix::fs::linkat(
            self.fd(from),
            name(last),
            &own,
            name(wanted),
            AtFlags::empty(),
        )
        .map_err(|e| self.error("link", shown, e))?;
        Ok(None)
    }

    pub(super) fn device(
        &self,
        place: Place,
        wanted: &[u8],
        device: Device,
        attributes: &Attributes,
        shown: &str,
    ) -> Result<Option<String>, ExportError> {
        let (kind, number) = match device {
            Device::Fifo => (FileType::Fifo, 0),
            Device::Character(major, minor) => {
                (FileType::CharacterDevice, rustix::fs::makedev(major, minor))
            }
            Device::Block(major, minor) => {
                (FileType::BlockDevice, rustix::fs::makedev(major, minor))
            }
        };
        let made = self.replacing(place, wanted, || {
            rustix::fs::mknodat(self.fd(place), name(wanted), kind, mode(0o600), number)
        });
        match made {
            Ok(()) => {}
            Err(Errno::PERM) if !matches!(device, Device::Fifo) => {
                return Ok(Some(format!("{shown}: only root can make a device")));
            }
            Err(errno) => return Err(self.error("create", shown, errno)),
        }
        // It has just been made here, exclusively, so that this follows no link.
        rustix::fs::chmodat(
            self.fd(place),
            name(wanted),
            mode(attributes.mode),
            AtFlags::empty(),
        )
        .map_err(|e| self.error("set the mode of", shown, e))?;
        self.finish_named(place, wanted, attributes, shown)?;
        Ok(None)
    }

    /// Sets modes and times of directories, innermost first.
    pub(super) fn finish(mut self) -> Result<(), ExportError> {
        let directories = std::mem::take(&mut self.directories);
        for (names, attributes) in directories.iter().rev() {
            let shown = names
                .iter()
                .map(|name| String::from_utf8_lossy(name))
                .collect::<Vec<_>>()
                .join("/");
            let place = self.enter(names, &shown)?;
            rustix::fs::futimens(self.fd(place), &times(attributes))
                .map_err(|e| self.error("set the time of", &shown, e))?;
            rustix::fs::fchmod(self.fd(place), mode(attributes.mode))
                .map_err(|e| self.error("set the mode of", &shown, e))?;
        }
        Ok(())
    }
}

/// Removes whatever has a name, unless it is a directory with something in it.
fn remove(directory: &OwnedFd, wanted: &[u8]) -> Result<(), Errno> {
    let wanted = name(wanted);
    match rustix::fs::unlinkat(directory, &wanted, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {
            rustix::fs::unlinkat(directory, &wanted, AtFlags::REMOVEDIR)
        }
        other => other,
    }
}

fn ids(attributes: &Attributes) -> (Option<Uid>, Option<Gid>) {
    let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
    (
        id(attributes.uid).map(Uid::from_raw),
        id(attributes.gid).map(Gid::from_raw),
    )
}

fn times(attributes: &Attributes) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: attributes.seconds,
            tv_nsec: attributes.nanoseconds.into(),
        },
    }
}

/// Sets extended attributes. What this user or this filesystem cannot have is reported.
fn set_xattrs(fd: &OwnedFd, attributes: &Attributes, shown: &str) -> Option<String> {
    let mut failed = Vec::new();
    for (key, value) in &attributes.xattrs {
        if rustix::fs::fsetxattr(fd.as_fd(), name(key), value, XattrFlags::empty()).is_err() {
            failed.push(String::from_utf8_lossy(key).into_owned());
        }
    }
    (!failed.is_empty()).then(|| format!("{shown}: cannot keep {}", failed.join(", ")))
}
