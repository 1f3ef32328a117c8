//! Whether files of the store are still what they were.

use std::io;
use std::path::{Path, PathBuf};

use ashlar_model::digest::LayerId;
use ashlar_model::layer::LayerIndex;
use serde::{Deserialize, Serialize};

use super::super::request::WorkError;
use super::home;
use crate::layer::TreeContents;
use crate::layer::tar_write::{TarOptions, write_tar};
use crate::layer::tree::Root;
use crate::layer::tree::intact::{Expected, first_difference};

/// How closely a tree is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scrutiny {
    /// Whether files are read and hashed.
    pub contents: bool,
    /// Whether files have their owners: not so where only one id is mapped.
    pub owners: bool,
}

/// The layers whose trees lack a file of their index, or have another in its place. One that has
/// no index is passed over: nothing says what it should be.
pub(in super::super) fn damaged_trees(
    root: &Path,
    trees: &[(LayerId, PathBuf)],
    scrutiny: Scrutiny,
) -> Result<Vec<LayerId>, WorkError> {
    let home = home(root)?;
    let mut damaged = Vec::new();
    for (id, tree) in trees {
        let Some(index) = home.layer_index(id).map_err(super::of_store)? else {
            continue;
        };
        let expected = Expected {
            owners: scrutiny.owners,
        };
        let as_listed = Root::open(tree)
            .and_then(|root| Ok(first_difference(&root, &index, expected)?.is_none()))
            .unwrap_or(false);
        if !(as_listed && (!scrutiny.contents || has_contents(tree, &index))) {
            damaged.push(*id);
        }
    }
    Ok(damaged)
}

/// Whether all files have the digests that their index gives.
fn has_contents(tree: &Path, index: &LayerIndex) -> bool {
    let options = TarOptions {
        verify: true,
        ..TarOptions::default()
    };
    TreeContents::open(tree)
        .is_ok_and(|contents| write_tar(index, &contents, options, &mut io::sink()).is_ok())
}
