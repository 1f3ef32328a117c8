//! Which files a source pattern of COPY or ADD stands for, over any view of a filesystem.
//!
//! | module | subject |
//! |---|---|
//! | [`wildcard`] | one name against one pattern, as Go's `filepath.Match` has it |
//! | [`resolve`](mod@resolve) | paths with symbolic links, clamped to the root |
//! | [`pattern`] | from a pattern to its matches |
//! | [`rules`] | ordered patterns for whole paths: `.dockerignore`, `--exclude`, `--parents` |
//! | [`source`] | a whole source: pattern, `--parents`, `--exclude` |
//!
//! A view answers for *real* paths only: no component but the last may be a symbolic link. It
//! never follows one itself; [`resolve`](fn@resolve) does that, so that a link can never lead out
//! of the root, whatever the view is made of.

pub mod pattern;
pub mod resolve;
pub mod rules;
pub mod source;
pub mod wildcard;

pub use pattern::{Match, PatternError, SelectError, SourcePattern, literal};
pub use resolve::{LINK_LIMIT, ResolveError, Resolved, resolve};
pub use rules::PathRules;
pub use source::{Filter, FilterState, Source, SourceQuery};
pub use wildcard::{Wildcard, WildcardError};

use crate::layer::{Entry, LayerPath};

/// A filesystem that can be looked into: a build context, a stack of layers.
pub trait FileView {
    /// Why it could not be looked into.
    type Error: std::error::Error + 'static;

    /// What is at `path` itself; a symbolic link is not followed. `None` if nothing is there, if
    /// a parent is missing, and if a parent is no directory. The root is always a directory.
    fn lookup(&self, path: &LayerPath) -> Result<Option<Entry>, Self::Error>;

    /// The names in the directory at `path`, in any order; empty if there is no directory.
    fn read_directory(&self, path: &LayerPath) -> Result<Vec<Vec<u8>>, Self::Error>;
}

#[cfg(test)]
mod memory;
