//! What can go wrong when a tree is made.

use std::io;
use std::path::PathBuf;

use ashlar_model::layer::{LayerPath, Metadata};
use rustix::io::Errno;

/// Why a recipe could not be made into a tree.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaterialiseError {
    /// The tree's own directory cannot be made or used.
    #[error("cannot make a layer in {}", path.display())]
    Tree {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory that files come from is not there.
    #[error("cannot open {}, from which files are copied", path.display())]
    Root {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that is copied cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file on this machine.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it was when it was selected.
    #[error("{} changed during the build", path.display())]
    Changed {
        /// The file on this machine.
        path: PathBuf,
    },
    /// Something cannot be made.
    #[error("cannot make {path}")]
    Make {
        /// What, as a container will see it.
        path: LayerPath,
        /// Why.
        source: io::Error,
    },
    /// Something cannot be given to its owner.
    #[error("cannot give {path} to {uid}:{gid}")]
    Owner {
        /// What, as a container will see it.
        path: LayerPath,
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
        /// Why.
        source: io::Error,
    },
    /// Something cannot get its extended attributes.
    #[error("cannot set the extended attributes of {path}")]
    Attributes {
        /// What, as a container will see it.
        path: LayerPath,
        /// Why.
        source: io::Error,
    },
}

impl MaterialiseError {
    pub(super) fn make(path: &LayerPath, errno: Errno) -> Self {
        Self::Make {
            path: path.clone(),
            source: errno.into(),
        }
    }

    pub(super) fn owner(path: &LayerPath, metadata: &Metadata, errno: Errno) -> Self {
        Self::Owner {
            path: path.clone(),
            uid: metadata.uid,
            gid: metadata.gid,
            source: errno.into(),
        }
    }

    pub(super) fn attributes(path: &LayerPath, errno: Errno) -> Self {
        Self::Attributes {
            path: path.clone(),
            source: errno.into(),
        }
    }

    /// What to do about it, if there is anything to say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Changed { .. } => Some(
                "a build takes files as they are when it begins; stop what writes to it, or \
                 exclude it in the .dockerignore file"
                    .into(),
            ),
            Self::Owner { uid, gid, .. } => Some(format!(
                "user or group {uid}:{gid} is not mapped on this machine: give your user a larger \
                 range of subordinate ids in /etc/subuid and /etc/subgid"
            )),
            _ => None,
        }
    }
}
