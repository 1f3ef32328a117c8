//! Why a tar cannot be unpacked.

use std::io;
use std::path::PathBuf;

use ashlar_model::layer::{LayerPath, LayerPathError};

use crate::layer::tar_read::TarError;

/// Why [`unpack`](super::unpack) or [`index_only`](super::index_only) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The tar is damaged or not one.
    #[error("the tar cannot be read")]
    Tar(#[from] TarError),
    /// An entry's name or link target is no path of a layer.
    #[error("the tar has an entry with a bad path")]
    Path(#[from] LayerPathError),
    /// A whiteout takes away no file that could be.
    #[error("the tar has a whiteout `{path}` that names no file")]
    Whiteout {
        /// The whiteout's own path.
        path: LayerPath,
    },
    /// An entry lies below something that is no directory.
    #[error("the tar has `{path}`, but `{parent}` is not a directory")]
    NotADirectory {
        /// The entry.
        path: LayerPath,
        /// What stands in the way.
        parent: LayerPath,
    },
    /// The root is something other than a directory.
    #[error("the tar makes the root of the filesystem something other than a directory")]
    Root,
    /// Symbolic links on the way to an entry lead in a circle.
    #[error("the tar has `{path}` below symbolic links that lead in a circle")]
    LinkLoop {
        /// The entry.
        path: LayerPath,
    },
    /// A hard link's target is not in the layer before it.
    #[error("the tar has a hard link `{path}` to `{target}`, which is not in the tar")]
    LinkTarget {
        /// The link.
        path: LayerPath,
        /// Its target.
        target: LayerPath,
    },
    /// An owner cannot be given with only one user id mapped.
    #[error(
        "`{path}` belongs to {uid}:{gid}, but only one user id is available; install the uidmap \
         package and give your user a range of subordinate ids: \
         `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`"
    )]
    OtherOwner {
        /// The first such file.
        path: LayerPath,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// An owner has no id in this user namespace.
    #[error(
        "`{path}` belongs to {uid}:{gid}, which is outside of the mapped range of user ids; \
         give your user a larger range of subordinate ids in /etc/subuid and /etc/subgid"
    )]
    UnmappedOwner {
        /// The file.
        path: LayerPath,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// The directory to unpack into has something in it.
    #[error("`{}` is not empty", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// The directory to unpack into cannot be opened.
    #[error("cannot open `{}`", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be made.
    #[error("cannot {action} `{path}` in `{}`", tree.display())]
    Write {
        /// What was tried: `create`, `chown`...
        action: &'static str,
        /// The file.
        path: LayerPath,
        /// The directory that is unpacked into.
        tree: PathBuf,
        /// Why.
        source: io::Error,
    },
}
