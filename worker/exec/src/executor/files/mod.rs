//! Work on layers' files: plain functions that run in the builder's own process where that has
//! all rights it needs, and in the sandbox's file worker elsewhere.

mod archive;
mod cache;
mod cache_tar;
mod check;
mod copy;
mod export;
mod ground;
mod pack;
mod remove;
mod select;
mod unpack;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ashlar_model::digest::LayerId;
use ashlar_model::layer::LayerIndex;
use ashlar_store::home::gc::measure;
use ashlar_store::home::quota::Joined;
use ashlar_store::home::{Home, StoreError, io_hint};
use serde::{Deserialize, Serialize};

pub(super) use archive::is_archive;
pub use cache::{CacheJob, make_cache};
pub use cache_tar::FillJob;
pub(super) use cache_tar::{fill_cache, write_cache};
pub use check::Scrutiny;
pub(super) use check::damaged_trees;
pub use copy::{CopyJob, LayerForm, copy, make_directory};
pub(super) use export::export;
pub(super) use ground::set_on_ground;
pub(super) use pack::write_layer_tar;
pub use pack::{PackJob, PackedLayer, pack, repack};
pub(super) use remove::{remove, rename};
pub(super) use select::select;
pub(super) use unpack::index;
pub use unpack::{UnpackJob, unpack};

use super::error::chain;
use super::request::WorkError;
use crate::copy::{LayeredView, Recipe, ViewError, ViewLayer};

/// A layer of the store as something to look into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoredLayer {
    /// It has a tree here.
    Tree(PathBuf),
    /// It has a tree here that lacks owners or devices which this process could not make. What
    /// files are is in the index, their bytes in the tree.
    Described {
        /// The layer.
        id: LayerId,
        /// Its tree.
        tree: PathBuf,
    },
    /// Only its index is here.
    Index(LayerId),
}

/// A stack of layers as one filesystem.
fn view(home: &Home, layers: &[StoredLayer]) -> Result<LayeredView, WorkError> {
    let mut opened = Vec::with_capacity(layers.len());
    for layer in layers {
        let layer = match layer {
            StoredLayer::Tree(path) => ViewLayer::Tree(path.clone()),
            StoredLayer::Described { id, tree } => {
                let index = stored_index(home, id)?;
                if unpack::hides_all(&index) {
                    opened.clear();
                }
                ViewLayer::Recipe(Arc::new(Recipe::of_tree(tree.clone(), index)))
            }
            StoredLayer::Index(id) => ViewLayer::Index(Arc::new(stored_index(home, id)?)),
        };
        opened.push(layer);
    }
    LayeredView::open(opened).map_err(|error| of_view(&error))
}

fn stored_index(home: &Home, id: &LayerId) -> Result<LayerIndex, WorkError> {
    home.layer_index(id).map_err(of_store)?.ok_or_else(|| {
        WorkError::environment(format!("the index of layer {id} is not in the store"))
    })
}

/// Makes this process, which serves only one builder, a part of that one.
pub(super) fn join(root: &Path, user: &str) -> Result<(), WorkError> {
    static JOINED: Mutex<Vec<Joined>> = Mutex::new(Vec::new());
    let joined = Home::join_user(root, user).map_err(of_store)?;
    let mut kept = JOINED.lock().unwrap_or_else(PoisonError::into_inner);
    kept.push(joined);
    Ok(())
}

fn home(root: &Path) -> Result<Home, WorkError> {
    Home::open(root).map_err(of_store)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "used as a function for map_err"
)]
fn of_store(error: StoreError) -> WorkError {
    WorkError {
        input: false,
        hint: error.hint(),
        message: chain(&error),
    }
}

fn of_view(error: &ViewError) -> WorkError {
    WorkError::environment(chain(error))
}

/// An error of the operating system, with what was tried.
fn failed(action: impl Display, error: &std::io::Error) -> WorkError {
    WorkError {
        input: false,
        message: format!("{action}: {error}"),
        hint: space_hint(error),
    }
}

/// An error with causes; a full disk or store is found wherever it is in the chain.
fn of_error(error: &(dyn std::error::Error + 'static)) -> WorkError {
    let mut next = Some(error);
    let mut hint = None;
    while let Some(cause) = next {
        let of_system = cause.downcast_ref::<std::io::Error>();
        hint = hint.or_else(|| of_system.and_then(space_hint));
        next = cause.source();
    }
    WorkError {
        input: false,
        message: chain(error),
        hint,
    }
}

/// What to do if the store, or its disk, is full. Other errors need not have to do with the store.
fn space_hint(error: &std::io::Error) -> Option<String> {
    let full = matches!(
        error.kind(),
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
    );
    full.then(|| io_hint(error)).flatten()
}

/// In a store with a quota, notes what a finished tree takes: where it has directories that only
/// the sandbox may enter, others could not tell.
fn note_tree(home: &Home, made: &Path, tree: &Path) -> Result<(), WorkError> {
    if home.meter().is_limited() {
        home.note_size(tree, measure(made)).map_err(of_store)?;
    }
    Ok(())
}
