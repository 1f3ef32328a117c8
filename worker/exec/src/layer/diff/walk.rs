//! The tree, directory by directory, in parallel.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use ashlar_model::layer::{Entry, EntryKind, LayerPath, Metadata, Xattr};
use rayon::iter::ParallelIterator as _;
use rayon::slice::ParallelSlice as _;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::DiffError;
use super::below::{Below, Found, Parts};
use super::compare::{Place, read_link, same};
use crate::layer::Warning;
use crate::layer::tree::Root;
use crate::layer::tree::beneath::list_names;
use crate::layer::tree::inode::{Inode, InodeId};
use crate::layer::tree::whiteout::is_opaque;
use crate::layer::tree::xattrs;

/// Names of one directory that are looked at together. Small enough that a directory of many
/// files keeps all cores busy, large enough that opening the layers' directories for each piece
/// costs nothing.
const NAMES_PER_PIECE: usize = 256;

/// Prefix of names that mean something else in a tar.
const RESERVED: &[u8] = b".wh.";

/// What the walk found.
#[derive(Debug)]
pub(super) struct Walked {
    pub(super) root: Root,
    pub(super) found: Vec<Candidate>,
    pub(super) warnings: Vec<Warning>,
}

/// One path that may be listed.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) entry: Entry,
    pub(super) standing: Standing,
    /// Of a regular file with several names: which inode it is.
    pub(super) inode: Option<InodeId>,
}

/// How a path stands to the layers below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// New, changed, or gone.
    Changed,
    /// The same as this inode below.
    Same(InodeId),
}

/// A directory to be walked.
#[derive(Debug)]
struct Job {
    path: LayerPath,
    /// What the layers below have at its path.
    parts: Parts,
    /// Whether a directory above it is opaque, so that nothing of `parts` is seen.
    hidden: bool,
}

#[derive(Debug)]
struct Walk<'a> {
    root: Root,
    tree: &'a Path,
    below: Below,
    collected: Mutex<Collected>,
    failed: AtomicBool,
}

#[derive(Debug, Default)]
struct Collected {
    found: Vec<Candidate>,
    warnings: Vec<Warning>,
    error: Option<DiffError>,
}

/// What one piece of a directory gives.
#[derive(Debug, Default)]
struct Piece {
    found: Vec<Candidate>,
    warnings: Vec<Warning>,
    directories: Vec<Job>,
}

/// A name of the tree, looked at.
struct Looked<'n> {
    name: &'n [u8],
    inode: Inode,
    xattrs: Vec<Xattr>,
    below: Found,
    standing: Standing,
}

pub(super) fn walk(tree: &Path, lowers: &[PathBuf]) -> Result<Walked, DiffError> {
    let root = Root::open(tree).map_err(|source| DiffError::Open {
        path: tree.to_owned(),
        source,
    })?;
    let walk = Walk {
        root,
        tree,
        below: Below::open(lowers)?,
        collected: Mutex::default(),
        failed: AtomicBool::new(false),
    };
    let first = walk.root_directory()?;
    rayon::scope(|scope| walk.directory(scope, first));
    let Collected {
        found,
        warnings,
        error,
    } = walk
        .collected
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    match error {
        Some(error) => Err(error),
        None => Ok(Walked {
            root: walk.root,
            found,
            warnings,
        }),
    }
}

impl Walk<'_> {
    /// Compares the root itself; its contents are the first job.
    fn root_directory(&self) -> Result<Job, DiffError> {
        let path = LayerPath::ROOT;
        let fd = self.root.as_fd();
        let inode = Inode::of(fd).map_err(|e| self.error("stat", &path, e))?;
        let xattrs = self.xattrs(fd, b"", &path)?;
        let below = self.below.root()?;
        let expected = match below.seen {
            Some((part, inode)) => {
                let directory = self.below.open_part(part, &path)?;
                let xattrs = xattrs::read(directory.as_fd(), b"")
                    .map_err(|e| self.below.error("read the attributes of", part, &path, e))?;
                inode.metadata(xattrs)
            }
            None => Metadata {
                mode: 0o755,
                ..Metadata::default()
            },
        };
        let metadata = inode.metadata(xattrs);
        if !metadata.same_but_time(&expected) {
            self.collect(Piece {
                found: vec![Candidate {
                    entry: Entry {
                        path: path.clone(),
                        kind: EntryKind::Directory { opaque: false },
                        metadata,
                    },
                    standing: Standing::Changed,
                    inode: None,
                }],
                ..Piece::default()
            });
        }
        Ok(Job {
            path,
            parts: below.parts,
            hidden: false,
        })
    }

    fn directory<'s>(&'s self, scope: &rayon::Scope<'s>, job: Job) {
        if self.failed.load(Ordering::Relaxed) {
            return;
        }
        match self.read_directory(job) {
            Ok(piece) => {
                for child in self.collect(piece) {
                    scope.spawn(move |scope| self.directory(scope, child));
                }
            }
            Err(error) => {
                self.failed.store(true, Ordering::Relaxed);
                self.lock().error.get_or_insert(error);
            }
        }
    }

    fn read_directory(&self, mut job: Job) -> Result<Piece, DiffError> {
        let directory = self
            .root
            .open_directory(&job.path)
            .map_err(|e| self.error("open", &job.path, e))?;
        // The layers' parts count even where the tree hides them: what it lacks of them becomes
        // whiteouts.
        job.hidden |= is_opaque(directory.as_fd())
            .map_err(|e| self.error("read the attributes of", &job.path, e))?;
        let names = list_names(directory.as_fd()).map_err(|e| self.error("list", &job.path, e))?;
        let mut whole = Piece::default();
        if names.len() <= NAMES_PER_PIECE {
            self.read_names(&job, directory.as_fd(), &names, &mut whole)?;
        } else {
            let pieces = names
                .par_chunks(NAMES_PER_PIECE)
                .map(|names| {
                    let mut piece = Piece::default();
                    self.read_names(&job, directory.as_fd(), names, &mut piece)?;
                    Ok(piece)
                })
                .collect::<Result<Vec<_>, DiffError>>()?;
            for piece in pieces {
                whole.found.extend(piece.found);
                whole.warnings.extend(piece.warnings);
                whole.directories.extend(piece.directories);
            }
        }
        if job.hidden {
            self.whiteouts_of_hidden(&job, &names, &mut whole)?;
        }
        Ok(whole)
    }

    /// What an opaque directory hides and does not have itself.
    fn whiteouts_of_hidden(
        &self,
        job: &Job,
        names: &[Vec<u8>],
        piece: &mut Piece,
    ) -> Result<(), DiffError> {
        let hidden = self.below.names(&job.path, &job.parts)?;
        if hidden.is_empty() {
            return Ok(());
        }
        let own: std::collections::HashSet<&[u8]> = names.iter().map(Vec::as_slice).collect();
        for name in hidden.iter().filter(|name| !own.contains(name.as_slice())) {
            let path = self.join(&job.path, name)?;
            piece.found.push(whiteout(path)?);
        }
        Ok(())
    }

    fn read_names(
        &self,
        job: &Job,
        directory: BorrowedFd<'_>,
        names: &[Vec<u8>],
        piece: &mut Piece,
    ) -> Result<(), DiffError> {
        let mut looked = names
            .iter()
            .map(|name| self.look(job, directory, name))
            .collect::<Result<Vec<_>, _>>()?;
        let found = self.below.look_up(
            &job.path,
            &job.parts,
            names.iter().map(Vec::as_slice),
            |position, lower_directory, lower| {
                let Looked {
                    name,
                    inode,
                    xattrs,
                    standing,
                    below: _,
                } = &mut looked[position];
                let upper_place = Place {
                    directory,
                    name,
                    inode,
                };
                let lower_place = Place {
                    directory: lower_directory.as_fd(),
                    name,
                    inode: lower,
                };
                if same(upper_place, lower_place, xattrs)
                    .map_err(|e| self.error_at("compare", &job.path, name, e))?
                {
                    *standing = Standing::Same(lower.id);
                }
                Ok(())
            },
        )?;
        for (mut looked, below) in looked.into_iter().zip(found) {
            looked.below = below;
            self.judge(job, directory, looked, piece)?;
        }
        Ok(())
    }

    fn look<'n>(
        &self,
        job: &Job,
        directory: BorrowedFd<'_>,
        name: &'n [u8],
    ) -> Result<Looked<'n>, DiffError> {
        let inode =
            Inode::at(directory, name).map_err(|e| self.error_at("stat", &job.path, name, e))?;
        let xattrs = if inode.is_whiteout() {
            Vec::new()
        } else {
            xattrs::read(directory, name).map_err(|e| self.attributes_error(&job.path, name, e))?
        };
        Ok(Looked {
            name,
            inode,
            xattrs,
            below: Found::default(),
            standing: Standing::Changed,
        })
    }

    /// Decides what a name of the tree says about the layers below.
    fn judge(
        &self,
        job: &Job,
        directory: BorrowedFd<'_>,
        looked: Looked<'_>,
        piece: &mut Piece,
    ) -> Result<(), DiffError> {
        let Looked {
            name,
            inode,
            xattrs,
            below,
            standing,
        } = looked;
        let path = self.join(&job.path, name)?;
        let is_socket = inode.file_type == FileType::Socket;
        if is_socket {
            let path = path.clone();
            piece.warnings.push(Warning::SocketSkipped { path });
        }
        if is_socket || inode.is_whiteout() {
            if below.seen.is_some() {
                piece.found.push(whiteout(path)?);
            }
            return Ok(());
        }
        if name.starts_with(RESERVED) {
            return Err(DiffError::ReservedName { path });
        }
        if inode.locked {
            let path = path.clone();
            piece.warnings.push(Warning::FlagsIgnored { path });
        }
        let kind = match inode.file_type {
            FileType::RegularFile => EntryKind::File {
                size: inode.size,
                digest: None,
            },
            FileType::Directory => EntryKind::Directory { opaque: false },
            FileType::Symlink => {
                let place = Place {
                    directory,
                    name,
                    inode: &inode,
                };
                let target = read_link(place).map_err(|e| self.error("read", &path, e))?;
                EntryKind::Symlink(target)
            }
            FileType::CharacterDevice => EntryKind::CharDevice(inode.device.0, inode.device.1),
            FileType::BlockDevice => EntryKind::BlockDevice(inode.device.0, inode.device.1),
            FileType::Fifo => EntryKind::Fifo,
            FileType::Socket | FileType::Unknown => {
                return Err(self.error("tell the type of", &path, Errno::NOTSUP));
            }
        };
        if inode.file_type == FileType::Directory {
            piece.directories.push(Job {
                path: path.clone(),
                parts: below.parts,
                hidden: job.hidden,
            });
        }
        let several_names = inode.file_type == FileType::RegularFile && inode.links > 1;
        piece.found.push(Candidate {
            entry: Entry {
                path,
                kind,
                metadata: inode.metadata(xattrs),
            },
            standing,
            inode: several_names.then_some(inode.id),
        });
        Ok(())
    }

    fn xattrs(
        &self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        path: &LayerPath,
    ) -> Result<Vec<Xattr>, DiffError> {
        xattrs::read(directory, name).map_err(|e| self.attributes_error(path, name, e))
    }

    fn attributes_error(&self, directory: &LayerPath, name: &[u8], errno: Errno) -> DiffError {
        match directory.join(name) {
            Ok(path) if errno == Errno::XDEV => DiffError::Redirected { path },
            _ => self.error_at("read the attributes of", directory, name, errno),
        }
    }

    fn join(&self, directory: &LayerPath, name: &[u8]) -> Result<LayerPath, DiffError> {
        // A name that the kernel listed is at most 255 bytes and has no slash.
        directory
            .join(name)
            .map_err(|_| self.error("name a file of", directory, Errno::INVAL))
    }

    fn error_at(
        &self,
        action: &'static str,
        directory: &LayerPath,
        name: &[u8],
        errno: Errno,
    ) -> DiffError {
        match directory.join(name) {
            Ok(path) => self.error(action, &path, errno),
            Err(_) => self.error(action, directory, errno),
        }
    }

    fn error(&self, action: &'static str, path: &LayerPath, errno: Errno) -> DiffError {
        DiffError::Read {
            action,
            path: path.clone(),
            layer: self.tree.to_owned(),
            source: errno.into(),
        }
    }

    fn collect(&self, piece: Piece) -> Vec<Job> {
        let mut collected = self.lock();
        collected.found.extend(piece.found);
        collected.warnings.extend(piece.warnings);
        piece.directories
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Collected> {
        self.collected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn whiteout(path: LayerPath) -> Result<Candidate, DiffError> {
    if path
        .file_name()
        .is_some_and(|name| name.starts_with(RESERVED))
    {
        return Err(DiffError::ReservedName { path });
    }
    Ok(Candidate {
        entry: Entry {
            path,
            kind: EntryKind::Whiteout,
            metadata: Metadata::default(),
        },
        standing: Standing::Changed,
        inode: None,
    })
}
