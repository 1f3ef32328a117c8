//! Why a tree cannot be made into a layer.

use std::io;
use std::path::PathBuf;

use ashlar_model::layer::LayerPath;

/// Why [`index_tree`](super::index_tree) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiffError {
    /// A layer's directory cannot be opened.
    #[error("cannot open the layer directory `{}`", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of a layer cannot be looked at.
    #[error("cannot {action} `{path}` in the layer `{}`", layer.display())]
    Read {
        /// What was tried: `list`, `stat`...
        action: &'static str,
        /// The file.
        path: LayerPath,
        /// The layer's directory.
        layer: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file's owner has no id in this user namespace.
    #[error(
        "`{path}` belongs to a user or group ({uid}:{gid}) that is not mapped in this user \
         namespace, so the layer cannot name its owner; give the builder a larger range of \
         subordinate ids"
    )]
    UnmappedOwner {
        /// The file.
        path: LayerPath,
        /// Its owner, as shown.
        uid: u32,
        /// Its group, as shown.
        gid: u32,
    },
    /// A file's name means something else in a layer.
    #[error(
        "`{path}` cannot be stored: names that begin with `.wh.` mark deleted files in image \
         layers; rename or remove it in the same step"
    )]
    ReservedName {
        /// The file.
        path: LayerPath,
    },
    /// The overlay was mounted with options that move content elsewhere.
    #[error(
        "`{path}` only points to its content (overlay redirect or metacopy); the overlay must be \
         mounted with redirect_dir=off and metacopy=off"
    )]
    Redirected {
        /// The file.
        path: LayerPath,
    },
    /// Something else writes to the tree.
    #[error("`{path}` changed while the layer was read; something still writes to it")]
    Changed {
        /// The file.
        path: LayerPath,
    },
}
