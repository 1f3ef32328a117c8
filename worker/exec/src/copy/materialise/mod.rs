//! From a recipe to a tree on disk.
//!
//! Three rounds, each on all cores:
//!
//! 1. Directories are made for their owner alone, and filled. Each directory is a task that makes
//!    its subdirectories, hands them to further tasks, and then makes its files, in several tasks
//!    if they are many or large. No task waits for another.
//! 2. Hard links are made, for their targets may be anywhere.
//! 3. Directories get their metadata, deepest first: only now does nothing change their times,
//!    and only now may they be closed to their owner.
//!
//! Everything goes by open directories and never through a symbolic link. Files that others may
//! change are hashed while they are copied: what is in the tree is what the digests say.
//!
//! | module | subject |
//! |---|---|
//! | [`error`] | what can go wrong |
//! | `layout` | which entries are in which directory |
//! | `file` | one regular file |
//! | `special` | links, devices, pipes |
//! | `metadata` | owner, mode, attributes, times |

pub mod error;
mod file;
mod layout;
mod metadata;
mod special;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ashlar_model::layer::{EntryKind, LayerPath};
use ashlar_store::home::quota::{Meter, Permit, on_disk};
use rayon::Scope;
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use rustix::fs::{Mode, fchmod, linkat, mkdirat};
use rustix::io::Errno;

pub use self::error::MaterialiseError;
use self::file::FileMaker;
use self::layout::{Directory, Layout};
use self::metadata::Creator;
pub use self::metadata::set_directory;
use super::recipe::{Recipe, RecipeEntry};
use crate::layer::Warning;
use crate::layer::tree::Root;

/// The most files that one task makes. Two threads that make files in one directory wait for each
/// other, so most directories should be one task; a crowded one should still be several.
const FILES_OF_A_TASK: usize = 256;

/// A task with that many bytes takes no more files, so that large ones are spread.
const BYTES_OF_A_TASK: u64 = 4 << 20;

/// Makes the tree of a recipe in the directory `tree`, which is made if it is missing and must
/// otherwise be empty. `meter` is asked before anything is written. Runs where owners have the numbers that the recipe gives them. What is
/// there after an error is of no use.
pub fn materialise(
    recipe: &Recipe,
    tree: &Path,
    meter: &Meter,
) -> Result<Vec<Warning>, MaterialiseError> {
    let root = make_root(tree).map_err(|source| MaterialiseError::Tree {
        path: tree.to_owned(),
        source,
    })?;
    let work = Work {
        recipe,
        layout: Layout::of(&recipe.entries),
        files: FileMaker::open(recipe, meter)?,
        meter,
        creator: Creator::of_this_process(),
        root,
        failed: AtomicBool::new(false),
        outcome: Mutex::default(),
    };
    rayon::scope(|scope| work.fill(scope, Layout::ROOT));
    work.proceed()?;
    work.make_links();
    work.proceed()?;
    work.finish_directories();
    work.proceed()?;
    let outcome = work.outcome.into_inner();
    Ok(outcome.unwrap_or_else(PoisonError::into_inner).warnings)
}

fn make_root(tree: &Path) -> io::Result<Root> {
    match fs::create_dir(tree) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let root = Root::open(tree)?;
    // Takes away a set-group-id bit, which would hand down its group.
    fchmod(root.as_fd(), Mode::RWXU)?;
    Ok(root)
}

/// A tree in the making.
struct Work<'a> {
    recipe: &'a Recipe,
    layout: Layout,
    files: FileMaker<'a>,
    meter: &'a Meter,
    creator: Creator,
    root: Root,
    /// Set once there is an error: what is not begun then never is.
    failed: AtomicBool,
    outcome: Mutex<Outcome>,
}

#[derive(Debug, Default)]
struct Outcome {
    error: Option<MaterialiseError>,
    warnings: Vec<Warning>,
}

impl<'a> Work<'a> {
    fn entry(&self, index: usize) -> &'a RecipeEntry {
        &self.recipe.entries[index]
    }

    fn path(&self, directory: &Directory) -> &'a LayerPath {
        match directory.entry {
            Some(index) => &self.entry(index).entry.path,
            None => const { &LayerPath::ROOT },
        }
    }

    /// Makes all that is in a directory, but hard links.
    fn fill<'s>(&'s self, scope: &Scope<'s>, number: usize) {
        let directory = &self.layout.directories[number];
        let Some(opened) = self.open(directory) else {
            return;
        };
        for &below in &directory.directories {
            let made = self.make_directory(opened.as_fd(), &self.layout.directories[below]);
            if self.report(made).is_some() {
                scope.spawn(move |scope| self.fill(scope, below));
            }
        }
        // After the subdirectories: a thread takes its newest task first, so that directories
        // are filled one after another and few are open at once.
        let opened = Arc::new(opened);
        let mut rest = directory.others.as_slice();
        while !rest.is_empty() {
            let (files, later) = rest.split_at(self.length_of_a_task(rest));
            rest = later;
            let opened = Arc::clone(&opened);
            scope.spawn(move |_| self.make_files(&opened, files));
        }
    }

    /// How many of these entries one task should make; at least one.
    fn length_of_a_task(&self, entries: &[usize]) -> usize {
        let mut bytes = 0;
        let mut length = 0;
        for &index in entries.iter().take(FILES_OF_A_TASK) {
            if bytes >= BYTES_OF_A_TASK {
                break;
            }
            if let EntryKind::File { size, .. } = self.entry(index).entry.kind {
                bytes += size;
            }
            length += 1;
        }
        length
    }

    fn open(&self, directory: &Directory) -> Option<OwnedFd> {
        if self.failed.load(Ordering::Relaxed) {
            return None;
        }
        let path = self.path(directory);
        let opened = self.root.open_directory(path);
        self.report(opened.map_err(|errno| MaterialiseError::make(path, errno)))
    }

    fn make_directory(
        &self,
        parent: BorrowedFd<'_>,
        directory: &Directory,
    ) -> Result<(), MaterialiseError> {
        let path = self.path(directory);
        let name = path.file_name().unwrap_or_default();
        let _permit = self.admit(4096, path)?;
        mkdirat(parent, name, Mode::RWXU).map_err(|errno| MaterialiseError::make(path, errno))
    }

    /// Asks for room for something of this length.
    fn admit(&self, length: u64, path: &LayerPath) -> Result<Permit, MaterialiseError> {
        let admitted = self.meter.admit_io(on_disk(length));
        admitted.map_err(|source| MaterialiseError::Make {
            path: path.clone(),
            source,
        })
    }

    fn make_files(&self, directory: &OwnedFd, entries: &[usize]) {
        let mut buffer = Vec::new();
        for &index in entries {
            if self.failed.load(Ordering::Relaxed) {
                return;
            }
            let item = self.entry(index);
            let made = match item.entry.kind {
                EntryKind::File { .. } => {
                    let files = &self.files;
                    files.make(directory.as_fd(), item, self.creator, &mut buffer)
                }
                _ => self
                    .admit(0, &item.entry.path)
                    .and_then(|_permit| special::make(directory.as_fd(), &item.entry, self.creator))
                    .map(|warning| self.warn(warning)),
            };
            self.report(made);
        }
    }

    fn make_links(&self) {
        self.layout.links.par_iter().for_each(|&index| {
            let entry = &self.entry(index).entry;
            if let EntryKind::Hardlink(target) = &entry.kind {
                self.report(self.make_link(&entry.path, target));
            }
        });
    }

    fn make_link(&self, path: &LayerPath, target: &LayerPath) -> Result<(), MaterialiseError> {
        let failed = |errno| MaterialiseError::make(path, errno);
        let open_parent = |path: &LayerPath| {
            let parent = path.parent().unwrap_or_default();
            self.root.open_directory(&parent).map_err(failed)
        };
        let names = (target.file_name(), path.file_name());
        let (Some(old), Some(new)) = names else {
            return Err(failed(Errno::INVAL));
        };
        let flags = rustix::fs::AtFlags::empty();
        linkat(open_parent(target)?, old, open_parent(path)?, new, flags).map_err(failed)
    }

    fn finish_directories(&self) {
        for level in &self.layout.levels_deepest_first() {
            level.par_iter().for_each(|&number| {
                let directory = &self.layout.directories[number];
                if let Some(opened) = self.open(directory) {
                    self.report(self.finish(directory, &opened));
                }
            });
        }
    }

    fn finish(&self, directory: &Directory, opened: &OwnedFd) -> Result<(), MaterialiseError> {
        let path = self.path(directory);
        let Some(index) = directory.entry else {
            let metadata = &self.recipe.root;
            return metadata::set(opened.as_fd(), path, metadata, self.creator);
        };
        let entry = &self.entry(index).entry;
        if entry.kind == (EntryKind::Directory { opaque: true }) {
            let marked = crate::layer::tree::whiteout::mark_opaque(opened.as_fd());
            marked.map_err(|errno| MaterialiseError::make(path, errno))?;
        }
        metadata::set(opened.as_fd(), path, &entry.metadata, self.creator)
    }

    fn warn(&self, warning: Option<Warning>) {
        if let Some(warning) = warning {
            let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
            outcome.warnings.push(warning);
        }
    }

    /// Keeps the first error.
    fn report<T>(&self, result: Result<T, MaterialiseError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.failed.store(true, Ordering::Relaxed);
                let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
                outcome.error.get_or_insert(error);
                None
            }
        }
    }

    fn proceed(&self) -> Result<(), MaterialiseError> {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.error.take().map_or(Ok(()), Err)
    }
}
