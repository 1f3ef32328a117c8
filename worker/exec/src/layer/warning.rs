//! What a layer could not take along, though it is no error.

use std::fmt;

use ashlar_model::layer::LayerPath;
use serde::{Deserialize, Serialize};

/// Something that a user may miss in a layer or in its files on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Warning {
    /// Layers have no sockets.
    SocketSkipped {
        /// The socket.
        path: LayerPath,
    },
    /// Layers have no immutable and append-only flags.
    FlagsIgnored {
        /// The file.
        path: LayerPath,
    },
    /// A device of the layer could not be made here. The index has it; the tree does not.
    DeviceSkipped {
        /// The device.
        path: LayerPath,
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// An extended attribute of a foreign layer is not one that layers carry.
    AttributeSkipped {
        /// The first file that has it.
        path: LayerPath,
        /// Its name.
        name: Vec<u8>,
    },
    /// Owners that this process cannot give are in the index but not on disk.
    OwnersNotApplied {
        /// The first such file.
        path: LayerPath,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
        /// How many files there are.
        count: u64,
    },
}

impl Warning {
    /// What to say of a device that could not be made. Nothing is to be said of those in `/dev`: a
    /// container has a `/dev` of its own there, whatever the image has.
    pub(crate) fn device_skipped(path: &LayerPath, (major, minor): (u32, u32)) -> Option<Self> {
        let covered = path.components().next() == Some(b"dev".as_slice());
        (!covered).then(|| Self::DeviceSkipped {
            path: path.clone(),
            major,
            minor,
        })
    }

    /// The file that it is about.
    pub const fn path(&self) -> &LayerPath {
        match self {
            Self::SocketSkipped { path }
            | Self::FlagsIgnored { path }
            | Self::DeviceSkipped { path, .. }
            | Self::AttributeSkipped { path, .. }
            | Self::OwnersNotApplied { path, .. } => path,
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SocketSkipped { path } => {
                write!(f, "socket `{path}` is left out: layers cannot hold sockets")
            }
            Self::FlagsIgnored { path } => write!(
                f,
                "`{path}` is immutable or append-only; layers cannot hold these flags, so the \
                 image's file will not be"
            ),
            Self::DeviceSkipped { path, major, minor } => write!(
                f,
                "device node `{path}` ({major}:{minor}) is kept in the image, but commands of \
                 this build will not see it: device nodes need root on this machine"
            ),
            Self::AttributeSkipped { path, name } => write!(
                f,
                "extended attribute `{}` of `{path}` is left out: layers carry `user.*`, \
                 `security.capability` and POSIX access control lists",
                name.escape_ascii()
            ),
            Self::OwnersNotApplied {
                path,
                uid,
                gid,
                count,
            } => write!(
                f,
                "{count} files keep their owners in the image but not for commands of this \
                 build, the first being `{path}` ({uid}:{gid}): only one user id is mapped"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_missed_only_where_a_container_would_see_them() {
        let about = |path: &str| {
            let path = LayerPath::new(path.as_bytes()).unwrap();
            Warning::device_skipped(&path, (1, 3)).map(|warning| warning.to_string())
        };
        for covered in ["dev/null", "dev/net/tun"] {
            assert_eq!(about(covered), None, "{covered}");
        }
        for missed in ["chroot/dev/null", "device", "devices/null"] {
            let warning = about(missed).unwrap();
            assert!(warning.contains(&format!("`/{missed}` (1:3)")), "{warning}");
        }
    }
}
