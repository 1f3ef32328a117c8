//! The context as a filesystem to look into: what the ignore file leaves out is not there.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use ashlar_model::layer::{Entry, LayerPath};
use ashlar_model::select::rules::Matches;
use ashlar_model::select::{FileView, PathRules};

use super::error::ReadError;
use super::root::{Root, read_names};
use super::stat::FileStat;
use super::walk::{Start, Walk, has_gone};

/// A context without its caches.
#[derive(Debug, Clone, Copy)]
pub(super) struct ContextView<'a> {
    pub(super) root: &'a Root,
    pub(super) rules: &'a PathRules,
}

/// A path that is there, and the way to it.
#[derive(Debug)]
pub(super) struct Located {
    /// The directory that holds it; for the root, the root itself.
    pub(super) parent: OwnedFd,
    /// Its name there; `.` for the root.
    pub(super) name: CString,
    pub(super) stat: FileStat,
}

impl ContextView<'_> {
    /// What is at a real path, whether left out or not; `None` if nothing is.
    pub(super) fn locate(&self, path: &LayerPath) -> Result<Option<Located>, ReadError> {
        let (parent, name) = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => (parent, name),
            _ => (LayerPath::ROOT, b".".as_slice()),
        };
        // A path has no NUL.
        let Ok(name) = CString::new(name) else {
            return Ok(None);
        };
        let located = self.root.open_directory(&parent).and_then(|parent| {
            let stat = FileStat::at(&parent, &name)?;
            Ok(Located { parent, name, stat })
        });
        match located {
            Ok(located) => Ok(Some(located)),
            Err(error) if has_gone(&error) => Ok(None),
            Err(source) => Err(ReadError::Metadata {
                path: self.root.show(path),
                source,
            }),
        }
    }

    /// Whether the rules leave a path out, and what they say of it to those below it.
    pub(super) fn judge(&self, path: &LayerPath) -> (bool, Matches) {
        let mut verdict = (false, self.rules.root());
        let bytes = path.as_bytes();
        if self.rules.is_empty() || path.is_root() {
            return verdict;
        }
        let slashes = (0..bytes.len()).filter(|index| bytes[*index] == b'/');
        for end in slashes.chain([bytes.len()]) {
            verdict = self.rules.judge_directory(&bytes[..end], &verdict.1);
        }
        verdict
    }

    /// Whether a directory that is left out has something below it that is not.
    fn is_partly_taken_back(&self, start: &Start) -> Result<bool, ReadError> {
        if !self.rules.may_take_back_below(start.path.as_bytes()) {
            return Ok(false);
        }
        let walk = Walk {
            root: self.root,
            rules: self.rules,
            digests: None,
            part: None,
        };
        Ok(!walk.run(start)?.is_empty())
    }
}

impl FileView for ContextView<'_> {
    type Error = ReadError;

    fn lookup(&self, path: &LayerPath) -> Result<Option<Entry>, ReadError> {
        let Some(Located { parent, name, stat }) = self.locate(path)? else {
            return Ok(None);
        };
        let (ignored, matches) = self.judge(path);
        let is_directory = stat.file_type().is_dir();
        if ignored {
            let start = Start {
                path: path.clone(),
                stat,
                matches,
                ignored,
                part: None,
            };
            if !is_directory || !self.is_partly_taken_back(&start)? {
                return Ok(None);
            }
        }
        let walk = Walk {
            root: self.root,
            rules: self.rules,
            digests: None,
            part: None,
        };
        let found = walk.leaf(&parent, &name, path.clone(), stat)?;
        Ok(found.map(|found| found.entry))
    }

    fn read_directory(&self, path: &LayerPath) -> Result<Vec<Vec<u8>>, ReadError> {
        let names = self
            .root
            .open_directory(path)
            .and_then(|directory| read_names(&directory));
        match names {
            Ok(names) => Ok(names.into_iter().map(CString::into_bytes).collect()),
            Err(error) if has_gone(&error) => Ok(Vec::new()),
            Err(source) => Err(ReadError::Directory {
                path: self.root.show(path),
                source,
            }),
        }
    }
}
