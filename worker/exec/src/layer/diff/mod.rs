//! What a tree changes of the layers below it.
//!
//! The tree is an overlay's upper directory, or anything that looks like one. It is compared with
//! the layers below it as an overlay would show them, so the result depends only on what the
//! merged filesystem was and is, not on how the overlay came to hold it:
//!
//! - What is the same as below, modification time included, is left out: files that were only
//!   copied up, renamed there and back, or recreated just as they were.
//! - A directory is listed if something below it is, if it is new, or if its mode, owner or
//!   attributes differ. A modification time alone does not list it; it does list anything else.
//! - An opaque directory becomes whiteouts of what layers below have there and it has not.
//! - Of the names of one inode the first in canonical order is the file, the others are hard
//!   links to it; if one of them is listed, all are.
//! - A whiteout of something that is not there below is left out.
//! - Sockets are left out with a warning, flags of `chattr` too.
//!
//! The root is listed only if its mode, owner or attributes differ from those below, or, on
//! nothing, from 0755 of 0:0.
//!
//! | module | subject |
//! |---|---|
//! | `walk` | the tree, directory by directory, in parallel |
//! | `below` | the stack of layers below, looked up one directory at a time |
//! | `compare` | whether one inode is the same as another |
//! | `settle` | from what the walk found to the index |
//! | `digests` | BLAKE3 of the listed files |
//! | `owners` | ids that stand for "not mapped" |

mod below;
mod compare;
mod digests;
mod error;
mod owners;
mod settle;
mod walk;

use std::path::{Path, PathBuf};

use ashlar_model::layer::LayerIndex;

pub use error::DiffError;
pub use owners::UnmappedIds;

use crate::layer::Warning;

/// How a tree is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiffOptions {
    /// Owners that mean that the real one is not mapped.
    pub unmapped: UnmappedIds,
}

impl DiffOptions {
    /// What fits the user namespace that this process is in.
    pub fn for_this_process() -> Self {
        Self {
            unmapped: UnmappedIds::of_this_process(),
        }
    }
}

/// Lists what `tree` changes of the layers whose trees are `lowers`, bottom first. Every listed
/// file has its digest.
///
/// Uses the current rayon pool.
pub fn index_tree(
    tree: &Path,
    lowers: &[PathBuf],
    options: &DiffOptions,
) -> Result<(LayerIndex, Vec<Warning>), DiffError> {
    let walked = walk::walk(tree, lowers)?;
    let mut index = settle::settle(walked.found);
    owners::check(&index, options.unmapped)?;
    digests::fill_in(&mut index, &walked.root, tree)?;
    let mut warnings = walked.warnings;
    warnings.sort_by(|a, b| a.path().cmp(b.path()));
    Ok((index, warnings))
}
