//! The build context on disk: which files of it a COPY takes, and what they contain.
//!
//! Only what source patterns ask for is looked at. Directories are walked on all cores; contents
//! are hashed once and remembered with the file's metadata, so that an unchanged context costs
//! little more than a walk that only looks.
//!
//! | module | subject |
//! |---|---|
//! | [`ignore`] | `.dockerignore` |
//! | [`error`] | what can go wrong |
//! | `root` | the directory, and ways into it that follow no link |
//! | `stat` | a file's metadata |
//! | `view` | the context as a filesystem without what is ignored |
//! | `walk` | all below a directory |
//! | `digest`, `xattr` | what is in a file |
//! | `stat_cache` | what was in a file when it was last read |
//! | `selection` | from a walk to a [`Selection`] |
//!
//! What a context says of its files is the image's truth, not the machine's: owners are 0:0,
//! sockets are empty files, capabilities are lost (reference: section 0 point 10, section 1.10).

mod digest;
pub mod error;
pub mod ignore;
mod root;
mod selection;
mod stat;
mod stat_cache;
mod view;
mod walk;
mod xattr;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ashlar_model::layer::LayerPath;
use ashlar_model::select::{Filter, Match, PathRules, SelectError, Source, SourceQuery};
use ashlar_model::step::{SelectedItem, Selection};
use ashlar_store::home::quota::Meter;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

pub use self::error::{ContextError, ReadError};
pub use self::ignore::{IgnoreError, parse_ignore_file};
use self::root::Root;
use self::stat_cache::StatCache;
use self::view::ContextView;
use self::walk::{Found, Part, Start, Walk};

/// A directory of source files.
#[derive(Debug)]
pub struct Context {
    root: Root,
    rules: PathRules,
    cache: StatCache,
    /// What was walked so far, by the directory where the walk began. Held only to look and to
    /// add, never during a walk.
    walked: Mutex<BTreeMap<LayerPath, Arc<Walked>>>,
}

/// All below one directory, in the order of paths.
#[derive(Debug)]
struct Walked(Vec<Found>);

impl Context {
    /// Opens the context at `root`. `stat_cache` is where digests are remembered between builds,
    /// if anywhere; each context should have its own file.
    pub fn open(
        root: &Path,
        rules: PathRules,
        stat_cache: Option<PathBuf>,
    ) -> Result<Self, ContextError> {
        let opened = Root::open(root).map_err(|source| ContextError::Open {
            path: root.to_owned(),
            source,
        })?;
        Ok(Self {
            root: opened,
            rules,
            cache: StatCache::load(stat_cache),
            walked: Mutex::default(),
        })
    }

    /// Where the context is, as it was opened.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The files that each of the sources stands for, with their digests. Ask for all sources of
    /// a build at once: what several of them share is walked once.
    pub fn select<S>(&self, sources: &[S]) -> Result<Vec<Selection>, ContextError>
    where
        S: Clone + Into<SourceQuery>,
    {
        let mut found = Vec::with_capacity(sources.len());
        for source in sources {
            let source = Source::parse(&source.clone().into())?;
            let matches = self.find(&source)?;
            found.push((source, matches));
        }
        let whole = found.iter().filter(|(source, _)| source.filter().is_none());
        self.walk_directories(whole.flat_map(|(_, matches)| matches))?;
        let selections = found.into_iter().map(|(source, matches)| {
            let items: Result<Vec<_>, _> = matches
                .into_par_iter()
                .map(|found| self.item(found, source.filter()))
                .collect();
            let mut items = items?;
            items.retain(|item| !item.entries.is_empty());
            Ok(Selection { items })
        });
        selections.collect()
    }

    /// A source pattern, cleaned, if the ignore file leaves it out for certain.
    pub fn left_out(&self, pattern: &str) -> Option<String> {
        let path = self.rules.match_for_certain(pattern.as_bytes())?;
        Some(String::from_utf8_lossy(&path).into_owned())
    }

    /// Writes what was learnt of files' contents to the stat cache, if anything was. Worth doing
    /// once, when all is selected; tells whether there was anything to write. `meter` is asked for
    /// room first. A failure costs nothing but time in the next build.
    pub fn save_stat_cache(&self, meter: &Meter) -> io::Result<bool> {
        self.cache.save(meter)
    }

    fn view(&self) -> ContextView<'_> {
        ContextView {
            root: &self.root,
            rules: &self.rules,
        }
    }

    fn walk(&self) -> Walk<'_> {
        Walk {
            root: &self.root,
            rules: &self.rules,
            digests: Some(&self.cache),
            part: None,
        }
    }

    fn find(&self, source: &Source) -> Result<Vec<Match>, ContextError> {
        let view = self.view();
        source.find(&view).map_err(|error| match error {
            SelectError::NotFound { path } | SelectError::Dangling { path, .. }
                if view.judge(&path).0 =>
            {
                let ignored = matches!(view.locate(&path), Ok(Some(_)));
                ContextError::NotFound { path, ignored }
            }
            SelectError::NotFound { path } => ContextError::NotFound {
                path,
                ignored: false,
            },
            SelectError::View { source, .. } => ContextError::Read(source),
            other => ContextError::Select(other),
        })
    }

    /// Walks the directories among the matches that no walk has covered yet, each file once.
    fn walk_directories<'a>(
        &self,
        matches: impl Iterator<Item = &'a Match>,
    ) -> Result<(), ContextError> {
        let mut wanted: Vec<&LayerPath> = matches
            .filter(|found| found.entry.is_directory())
            .map(|found| &found.path)
            .collect();
        wanted.sort_unstable();
        wanted.dedup_by(|later, earlier| later.starts_with(earlier));
        for path in wanted {
            if self.covering_walk(path).is_some() {
                continue;
            }
            let found = self.walk_of(path, None)?;
            let mut walked = self.walked.lock().unwrap_or_else(PoisonError::into_inner);
            walked.insert(path.clone(), Arc::new(Walked(found)));
        }
        Ok(())
    }

    /// Everything below a directory, or the part of it that a filter takes.
    fn walk_of(
        &self,
        path: &LayerPath,
        filter: Option<&Filter>,
    ) -> Result<Vec<Found>, ContextError> {
        let view = self.view();
        let Some(located) = view.locate(path)? else {
            return Ok(Vec::new());
        };
        let (ignored, matches) = view.judge(path);
        let part = filter.map(|filter| Part::new(filter, path));
        let walk = Walk {
            part,
            ..self.walk()
        };
        Ok(walk.run(&Start {
            path: path.clone(),
            stat: located.stat,
            matches,
            ignored,
            part: part.map(|part| part.start()),
        })?)
    }

    /// The walk that went through `path`, if one did.
    fn covering_walk(&self, path: &LayerPath) -> Option<Arc<Walked>> {
        let walked = self.walked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut at = Some(path.clone());
        while let Some(directory) = at {
            if let Some(found) = walked.get(&directory) {
                return Some(Arc::clone(found));
            }
            at = directory.parent();
        }
        None
    }

    fn item(&self, found: Match, filter: Option<&Filter>) -> Result<SelectedItem, ContextError> {
        let Match { name, path, entry } = found;
        if entry.is_directory() && filter.is_some() {
            let part = self.walk_of(&path, filter)?;
            return Ok(selection::item(name, path, &part));
        }
        if let Some(walked) = self.covering_walk(&path) {
            let part = selection::part(&walked.0, &path);
            return Ok(selection::item(name, path, part));
        }
        let mut own = Vec::new();
        if let Some(located) = self.view().locate(&path)? {
            let walk = self.walk();
            own.extend(walk.leaf(&located.parent, &located.name, path.clone(), located.stat)?);
        }
        Ok(selection::item(name, path, &own))
    }
}

#[cfg(test)]
mod tests;
