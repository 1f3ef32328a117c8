//! Everything below a directory of the context, in order, on all cores.
//!
//! Each directory is one task: it lists, looks at what it finds, reads what the stat cache does
//! not know, and hands its subdirectories to further tasks. The results are put in order at the
//! end. No task waits for another, so the depth of a tree costs neither stack nor descriptors.
//!
//! What vanishes between being listed and being looked at was never there.

use std::ffi::{CStr, CString};
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use ashlar_model::layer::{Entry, EntryKind, LayerPath, Metadata, Xattr};
use ashlar_model::select::rules::Matches;
use ashlar_model::select::{Filter, FilterState, PathRules};
use rayon::Scope;
use rayon::iter::{
    IndexedParallelIterator as _, IntoParallelRefIterator as _, ParallelIterator as _,
};
use rustix::fs::{FileType, readlinkat};
use rustix::io::Errno;

use super::digest::read_content;
use super::error::ReadError;
use super::root::{Root, read_names};
use super::stat::{FileStat, Identity};
use super::stat_cache::StatCache;
use super::xattr::read_user_xattrs;

/// A directory with more names than this is looked at by several threads at once.
const MANY_NAMES: usize = 512;

/// One thing in the context.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// The entry; its path is relative to the context.
    pub(super) entry: Entry,
    /// What its other names share, for a regular file that has several.
    pub(super) shared: Option<Identity>,
    /// Whether it is a directory that is only there as the way to others.
    pub(super) is_way: bool,
}

/// A directory to list.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) path: LayerPath,
    pub(super) stat: FileStat,
    /// What the ignore rules have said of it and its parents.
    pub(super) matches: Matches,
    /// Whether it is itself left out, and so is there only if something below it is.
    pub(super) ignored: bool,
    /// The same for a walk that takes only a part.
    pub(super) part: Option<PartOf>,
}

/// Which files of a walk are taken: what a filter says of paths relative to where the walk begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    filter: &'a Filter,
    /// Bytes of a path before the part that the filter sees.
    offset: usize,
}

/// What a filter has said of a directory.
#[derive(Debug)]
pub(super) struct PartOf {
    state: FilterState,
    taken: bool,
}

impl<'a> Part<'a> {
    pub(super) fn new(filter: &'a Filter, start: &LayerPath) -> Self {
        let length = start.as_bytes().len();
        let offset = if length == 0 { 0 } else { length + 1 };
        Self { filter, offset }
    }

    /// Where a walk begins: always taken.
    pub(super) fn start(&self) -> PartOf {
        PartOf {
            state: self.filter.root(),
            taken: true,
        }
    }

    fn path<'p>(&self, path: &'p LayerPath) -> &'p [u8] {
        path.as_bytes().get(self.offset..).unwrap_or_default()
    }

    /// Whether a path is taken; `None` if nothing below it can be either.
    fn takes(&self, path: &LayerPath, parent: &PartOf) -> Option<bool> {
        let path = self.path(path);
        let taken = self.filter.takes(path, &parent.state);
        (taken || self.filter.may_take_below(path, &parent.state)).then_some(taken)
    }

    fn enter(&self, path: &LayerPath, parent: &PartOf) -> PartOf {
        let (taken, state) = self.filter.judge_directory(self.path(path), &parent.state);
        PartOf { state, taken }
    }
}

/// How to walk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk<'a> {
    pub(super) root: &'a Root,
    pub(super) rules: &'a PathRules,
    /// Where digests come from; `None` to leave files without.
    pub(super) digests: Option<&'a StatCache>,
    /// What of it; `None` for everything.
    pub(super) part: Option<Part<'a>>,
}

/// One directory, listed.
#[derive(Debug)]
struct Listing {
    own: Found,
    ignored: bool,
    children: Vec<Child>,
}

#[derive(Debug)]
enum Child {
    Leaf(Found),
    /// Where the listing of a subdirectory will be.
    Directory(usize),
}

/// What looking at one name gave.
enum Step {
    Leaf(Found),
    Enter(Start),
}

/// A directory itself, and what each of its names gave.
type Inside = (Found, Vec<Result<Option<Step>, ReadError>>);

/// What the tasks have gathered so far.
#[derive(Debug, Default)]
struct Gathered {
    /// A place for each directory that was met; empty until it is listed, and if it has gone.
    listings: Vec<Option<Listing>>,
    /// Of all errors, the one whose path comes first.
    error: Option<ReadError>,
}

impl Walk<'_> {
    /// The directory and all below it that is not left out, in the order of [`LayerPath`]s.
    pub(super) fn run(&self, start: &Start) -> Result<Vec<Found>, ReadError> {
        let gathered = Mutex::new(Gathered::default());
        let id = reserve(&gathered);
        rayon::scope(|scope| self.list(scope, &gathered, id, start));
        let gathered = gathered
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        match gathered.error {
            Some(error) => Err(error),
            None => Ok(in_order(gathered.listings, id)),
        }
    }

    /// Lists one directory and spawns the tasks of its subdirectories.
    fn list<'s>(
        &'s self,
        scope: &Scope<'s>,
        gathered: &'s Mutex<Gathered>,
        id: usize,
        start: &Start,
    ) {
        let (own, steps) = match self.look_inside(start) {
            Ok(Some(inside)) => inside,
            Ok(None) => return,
            Err(error) => return report(gathered, error),
        };
        let mut children = Vec::with_capacity(steps.len());
        for step in steps {
            match step {
                Ok(None) => {}
                Ok(Some(Step::Leaf(found))) => children.push(Child::Leaf(found)),
                Ok(Some(Step::Enter(below))) => {
                    let id = reserve(gathered);
                    children.push(Child::Directory(id));
                    scope.spawn(move |scope| self.list(scope, gathered, id, &below));
                }
                Err(error) => report(gathered, error),
            }
        }
        let ignored = start.ignored || own.is_way;
        let mut gathered = gathered.lock().unwrap_or_else(PoisonError::into_inner);
        gathered.listings[id] = Some(Listing {
            own,
            ignored,
            children,
        });
    }

    /// Looks at every name of a directory; `None` if it has gone.
    fn look_inside(&self, start: &Start) -> Result<Option<Inside>, ReadError> {
        let unreadable = |source: io::Error| ReadError::Directory {
            path: self.root.show(&start.path),
            source,
        };
        let directory = match self.root.open_directory(&start.path) {
            Ok(directory) => directory,
            Err(error) if has_gone(&error) => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        let names = read_names(&directory).map_err(unreadable)?;
        let xattrs = read_user_xattrs(&directory).map_err(unreadable)?;
        let kind = EntryKind::Directory { opaque: false };
        let mut own = found(start.path.clone(), &start.stat, kind, xattrs);
        own.is_way = start.part.as_ref().is_some_and(|part| !part.taken);
        let look = |name: &CString| self.look(&directory, name, start);
        let steps = if names.len() > MANY_NAMES {
            names.par_iter().with_min_len(64).map(look).collect()
        } else {
            names.iter().map(look).collect()
        };
        Ok(Some((own, steps)))
    }

    fn look(
        &self,
        directory: &OwnedFd,
        name: &CStr,
        parent: &Start,
    ) -> Result<Option<Step>, ReadError> {
        // A name that the kernel gives is always one component of a path.
        let Ok(path) = parent.path.join(name.to_bytes()) else {
            return Ok(None);
        };
        // Leaf names are judged before anything is asked of the kernel.
        let ignored = self.rules.is_match(path.as_bytes(), &parent.matches);
        if ignored && !self.rules.may_take_back_below(path.as_bytes()) {
            return Ok(None);
        }
        let part = self.part.zip(parent.part.as_ref());
        let taken = match part.map(|(part, parent)| part.takes(&path, parent)) {
            None => true,
            Some(Some(taken)) => taken,
            Some(None) => return Ok(None),
        };
        let Some(stat) = self.stat(directory, name, &path)? else {
            return Ok(None);
        };
        if stat.file_type().is_dir() {
            let (ignored, matches) = self.rules.judge_directory(path.as_bytes(), &parent.matches);
            let part = part.map(|(part, parent)| part.enter(&path, parent));
            return Ok(Some(Step::Enter(Start {
                path,
                stat,
                matches,
                ignored,
                part,
            })));
        }
        if ignored || !taken {
            return Ok(None);
        }
        let leaf = self.leaf(directory, name, path, stat)?;
        Ok(leaf.map(Step::Leaf))
    }

    fn stat(
        &self,
        directory: &OwnedFd,
        name: &CStr,
        path: &LayerPath,
    ) -> Result<Option<FileStat>, ReadError> {
        match FileStat::at(directory, name) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if has_gone(&error) => Ok(None),
            Err(source) => Err(ReadError::Metadata {
                path: self.root.show(path),
                source,
            }),
        }
    }

    /// What is at a name that is no directory; `None` if it has gone.
    pub(super) fn leaf(
        &self,
        directory: &OwnedFd,
        name: &CStr,
        path: LayerPath,
        stat: FileStat,
    ) -> Result<Option<Found>, ReadError> {
        if stat.file_type() == FileType::RegularFile {
            return self.file(directory, name, path, stat);
        }
        let kind = match stat.kind() {
            Some(kind) => kind,
            None => match readlinkat(directory, name, Vec::new()) {
                Ok(target) => EntryKind::Symlink(target.into_bytes()),
                Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
                Err(error) => {
                    return Err(ReadError::Metadata {
                        path: self.root.show(&path),
                        source: error.into(),
                    });
                }
            },
        };
        Ok(Some(found(path, &stat, kind, Vec::new())))
    }

    fn file(
        &self,
        directory: &OwnedFd,
        name: &CStr,
        path: LayerPath,
        stat: FileStat,
    ) -> Result<Option<Found>, ReadError> {
        let Some(cache) = self.digests else {
            let (size, digest) = (stat.size, None);
            let kind = EntryKind::File { size, digest };
            return Ok(Some(found(path, &stat, kind, Vec::new())));
        };
        if let Some(digest) = cache.find(&path, &stat) {
            let kind = EntryKind::File {
                size: stat.size,
                digest: Some(digest),
            };
            return Ok(Some(found(path, &stat, kind, Vec::new())));
        }
        let show = || self.root.show(&path);
        let Some(content) = read_content(directory, name, stat, show)? else {
            return Ok(None);
        };
        cache.learn(&path, &content);
        let kind = EntryKind::File {
            size: content.stat.size,
            digest: Some(content.digest),
        };
        Ok(Some(found(path, &content.stat, kind, content.xattrs)))
    }
}

/// Puts the listings in the order of their paths. A directory that is left out is dropped unless
/// something below it is not.
fn in_order(mut listings: Vec<Option<Listing>>, first: usize) -> Vec<Found> {
    let total: usize = listings
        .iter()
        .flatten()
        .map(|listing| listing.children.len() + 1)
        .sum();
    let mut ordered = Vec::with_capacity(total);
    let mut open = Vec::new();
    let mut enter = |id: usize, ordered: &mut Vec<Found>| {
        let listing = listings.get_mut(id).and_then(mem::take)?;
        ordered.push(listing.own);
        let kept_at = if listing.ignored { ordered.len() } else { 0 };
        Some((kept_at, listing.children.into_iter()))
    };
    open.extend(enter(first, &mut ordered));
    while let Some((only_own_at, children)) = open.last_mut() {
        match children.next() {
            Some(Child::Leaf(found)) => ordered.push(found),
            Some(Child::Directory(id)) => {
                let below = enter(id, &mut ordered);
                open.extend(below);
            }
            None => {
                if *only_own_at == ordered.len() {
                    ordered.pop();
                }
                open.pop();
            }
        }
    }
    ordered
}

fn reserve(gathered: &Mutex<Gathered>) -> usize {
    let mut gathered = gathered.lock().unwrap_or_else(PoisonError::into_inner);
    gathered.listings.push(None);
    gathered.listings.len() - 1
}

fn report(gathered: &Mutex<Gathered>, error: ReadError) {
    let mut gathered = gathered.lock().unwrap_or_else(PoisonError::into_inner);
    let first = match &gathered.error {
        Some(known) => error.path() < known.path(),
        None => true,
    };
    if first {
        gathered.error = Some(error);
    }
}

/// Context files belong to root in an image, whoever they belong to here.
fn found(path: LayerPath, stat: &FileStat, kind: EntryKind, xattrs: Vec<Xattr>) -> Found {
    let shared = matches!(kind, EntryKind::File { .. }) && stat.links > 1;
    Found {
        entry: Entry {
            path,
            kind,
            metadata: Metadata {
                mode: stat.permissions(),
                uid: 0,
                gid: 0,
                mtime: stat.mtime,
                xattrs,
            },
        },
        shared: shared.then_some(stat.identity),
        is_way: false,
    }
}

/// Whether an error says that a path is not there, or is something else by now.
pub(super) fn has_gone(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
    )
}
