//! What COPY, ADD and WORKDIR put where.
//!
//! A plan looks at the destination and changes nothing. It gives the layer as a [`Recipe`]: all
//! that is put there, and the directories on the way, with the metadata that they have already,
//! so that laying the layer over the others changes nothing else.
//!
//! The rules are BuildKit's (`tonistiigi/fsutil/copy`, reference section 1.10 and section 0
//! points 1, 2, 11 to 13):
//!
//! - A file goes *into* a destination that is a directory or ends with `/`, else it *becomes*
//!   the destination. A directory's contents go into the destination, never it itself.
//! - Each match is copied by itself, in order: what an earlier one has put there is what a later
//!   one finds.
//! - Missing directories are made with mode 0755, or what `--chmod` says without its special
//!   bits, and belong to root, or to whom `--chown` says.
//! - The destination directory of a directory takes its modification time, and nothing else of
//!   it. Directories below take all that the source says, new or not.
//! - Symbolic links in the destination path are followed inside the root; below it, a file
//!   replaces a link, and a directory does not.
//!
//! | module | subject |
//! |---|---|
//! | `state` | the destination with what is planned so far |
//! | `place` | one match |
//! | `archive` | what an archive of ADD unpacks to |
//! | [`error`] | what can go wrong |

mod archive;
pub mod error;
mod place;
mod state;
#[cfg(test)]
mod tests;

use std::path::Path;

use ashlar_model::chmod::ModeChange;
use ashlar_model::layer::Timestamp;
use ashlar_model::step::{CopySpec, MakeDirectorySpec, Selection};

pub use self::error::CopyError;
use self::place::{Destination, Item, Rules};
use self::state::State;
use super::owner::{CopyWarning, Owner, find_owner};
use super::recipe::Recipe;
use super::select::LayerSelection;
use super::view::LayeredView;

/// The files of one source of a copy, and where their bytes are.
#[derive(Debug, Clone)]
pub enum SourceFiles<'a> {
    /// Of a directory on this machine that others may change.
    Directory {
        /// The directory that the selection's paths are relative to.
        root: &'a Path,
        /// What of it.
        selection: &'a Selection,
    },
    /// Of another stack of layers.
    Layers {
        /// The stack.
        view: &'a LayeredView,
        /// What of it, from [`select`](super::select::select) on this view.
        selection: &'a LayerSelection,
    },
    /// An archive of an ADD, unpacked into a stack of layers of its own.
    Unpacked {
        /// The stack that it was unpacked into.
        view: &'a LayeredView,
        /// Its root, from [`select`](super::select::select) on this view. Directories that the
        /// archive does not name are marked as ways.
        selection: &'a LayerSelection,
    },
    /// A file given in the Dockerfile.
    Inline {
        /// File name.
        name: &'a str,
        /// Content.
        data: &'a [u8],
    },
}

/// A layer, planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// How to make it.
    pub recipe: Recipe,
    /// What its author may not have meant.
    pub warnings: Vec<CopyWarning>,
}

/// Plans a COPY or ADD. `sources` are the resolved `spec.sources`, in the same order;
/// `destination` is the filesystem that the layer will lie on; `now` is the time of directories
/// that are made, unless the spec says another.
pub fn plan_copy(
    spec: &CopySpec,
    sources: &[SourceFiles<'_>],
    destination: &LayeredView,
    now: Timestamp,
) -> Result<Plan, CopyError> {
    let mut warnings = Vec::new();
    let rules = Rules {
        owner: match &spec.owner {
            Some(owner) => Some(find_owner(owner, destination, &mut warnings)?),
            None => None,
        },
        mode: match &spec.mode {
            Some(mode) => Some(ModeChange::parse(mode)?),
            None => None,
        },
        made_at: spec.created.unwrap_or(now),
    };
    let mut state = State::new(destination);
    let target = Destination::parse(spec.destination.as_bytes())?;
    for source in sources {
        for item in Item::all_of(source, &rules) {
            place::place(&mut state, &target, &item, &rules)?;
        }
    }
    let recipe = state.into_recipe()?;
    Ok(Plan { recipe, warnings })
}

/// Plans a WORKDIR: the directory and its missing parents. A directory that is there already is
/// left as it is, and the layer is empty.
pub fn plan_make_directory(
    spec: &MakeDirectorySpec,
    destination: &LayeredView,
    now: Timestamp,
) -> Result<Plan, CopyError> {
    let mut warnings = Vec::new();
    let owner = if spec.user.is_empty() {
        Owner::default()
    } else {
        find_owner(&spec.user, destination, &mut warnings)?
    };
    let rules = Rules {
        owner: Some(owner),
        mode: None,
        made_at: spec.created.unwrap_or(now),
    };
    let mut state = State::new(destination);
    place::make_directory(&mut state, spec.path.as_bytes(), &rules)?;
    let recipe = state.into_recipe()?;
    Ok(Plan { recipe, warnings })
}
