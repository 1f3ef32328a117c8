//! What a container is to be: the request that the builder makes and the sandbox carries out.
//!
//! A [`ContainerSpec`] crosses a process boundary as postcard; paths of this machine cross as
//! bytes, for they need not be UTF-8.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use ashlar_model::executor::StepOutput;
use ashlar_model::mount::Owner;
use ashlar_model::secret::SecretValue;
use ashlar_model::step::{ExtraHost, Network, Script, Security, Ulimit};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// One command and the container to run it in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The root filesystem.
    pub root: RootFilesystem,
    /// The command with its arguments; never empty. A name without `/` is looked up in the
    /// `PATH` of `env`, inside the container.
    pub args: Vec<String>,
    /// The whole environment, in order. `HOME` is added from the container's `/etc/passwd` if
    /// it is not here.
    pub env: Vec<(String, String)>,
    /// Working directory, absolute inside the container; made (0755, owned by `user`) if missing.
    pub cwd: String,
    /// `user[:group]`, names or numbers, empty for root. Names are looked up in the container.
    pub user: String,
    /// Network access.
    pub network: Network,
    /// Host name inside; empty for the machine's own.
    pub hostname: String,
    /// Lines for `/etc/hosts` beside the usual ones.
    pub extra_hosts: Vec<ExtraHost>,
    /// A file that exists, read-only, only while the command runs.
    pub script: Option<Script>,
    /// What else the container sees. Of mounts with one destination the last counts; those above
    /// others are mounted first.
    pub mounts: Vec<Mount>,
    /// What the command may do.
    pub security: Security,
    /// Limits on the command's resources.
    pub ulimits: Vec<Ulimit>,
}

/// Something that a container sees besides its root filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mount {
    /// A file or directory of this machine.
    Host(BindMount),
    /// Part of another stack of layers.
    Layers(LayersMount),
    /// A directory in memory, for everyone to write to.
    Memory(MemoryMount),
    /// A file in memory that only this container has.
    Secret(SecretMount),
    /// A socket of this machine that is the container's alone.
    Socket(SocketMount),
}

impl Mount {
    /// Where the container sees it.
    pub fn destination(&self) -> &str {
        match self {
            Self::Host(mount) => &mount.destination,
            Self::Layers(mount) => &mount.destination,
            Self::Memory(mount) => &mount.destination,
            Self::Secret(mount) => &mount.destination,
            Self::Socket(mount) => &mount.destination,
        }
    }
}

/// Part of a stack of layers, inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayersMount {
    /// The layers; with directories for changes where the container may write.
    pub layers: RootFilesystem,
    /// The file or directory to show; symbolic links are followed inside the layers.
    pub path: String,
    /// Where, absolute inside the container.
    pub destination: String,
}

/// A directory in memory, inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryMount {
    /// Where, absolute inside the container.
    pub destination: String,
    /// Bytes that it may hold; the kernel's own limit if not given.
    pub size: Option<u64>,
    /// Whether the container may not write to it.
    pub read_only: bool,
}

/// A file with a value that no disk and no other container sees. It is read-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretMount {
    /// Where, absolute inside the container.
    pub destination: String,
    /// The value.
    #[serde(with = "revealed")]
    pub value: SecretValue,
    /// Whose it is.
    pub owner: Owner,
}

/// A listening socket, inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketMount {
    /// Its path on this machine. It is given to `owner`.
    #[serde(with = "path_as_bytes")]
    pub source: PathBuf,
    /// Where, absolute inside the container.
    pub destination: String,
    /// Whose it becomes.
    pub owner: Owner,
}

/// The layers of a container's root, and where its changes go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFilesystem {
    /// Layer trees, bottom first: overlay directories with whiteouts and `user.overlay.opaque`.
    #[serde(with = "paths_as_bytes")]
    pub lowers: Vec<PathBuf>,
    /// Where changes go; without it the root is read-only.
    pub writable: Option<Writable>,
}

/// The directories that take a container's changes: on one filesystem, and that of the layers
/// and of [`SandboxConfig::directory`](super::SandboxConfig), if inode numbers are to be kept.
///
/// Both exist and are empty before the run. After it, `upper` is a layer tree, and `work` is
/// empty again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writable {
    /// Gets what the container adds, changes and removes.
    #[serde(with = "path_as_bytes")]
    pub upper: PathBuf,
    /// Scratch space of overlayfs.
    #[serde(with = "path_as_bytes")]
    pub work: PathBuf,
}

/// A file or directory of this machine inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindMount {
    /// What to show, an absolute path of this machine.
    #[serde(with = "path_as_bytes")]
    pub source: PathBuf,
    /// Where, absolute inside the container.
    pub destination: String,
    /// Whether the container may not write to it.
    pub read_only: bool,
    /// Whether mounts below the source are seen too.
    pub recursive: bool,
}

/// Where a command's standard streams lead.
pub enum Stdio {
    /// Standard input is empty; output goes here as it comes.
    Captured(Arc<dyn StepOutput>),
    /// The command gets these very files.
    Inherited {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// A new terminal inside the container controls the command. Its master side comes through
    /// `master` before the command starts; whoever holds it copies bytes to and fro and sets the
    /// window size.
    Terminal {
        /// Height at the start, in characters.
        rows: u16,
        /// Width at the start, in characters.
        columns: u16,
        /// Receives the master side.
        master: oneshot::Sender<OwnedFd>,
    },
}

impl fmt::Debug for Stdio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Captured(_) => "Captured",
            Self::Inherited { .. } => "Inherited",
            Self::Terminal { .. } => "Terminal",
        })
    }
}

/// One path as a byte string.
pub(super) mod path_as_bytes {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(
        path: &Path,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        path.as_os_str().as_bytes().serialize(to)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<PathBuf, D::Error> {
        Vec::<u8>::deserialize(from).map(|bytes| OsString::from_vec(bytes).into())
    }
}

/// A secret's value, which crosses to the sandbox and nowhere else.
mod revealed {
    use ashlar_model::secret::SecretValue;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &SecretValue, to: S) -> Result<S::Ok, S::Error> {
        value.reveal().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SecretValue, D::Error> {
        Vec::<u8>::deserialize(from).map(SecretValue::new)
    }
}

/// Many paths as byte strings.
mod paths_as_bytes {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    use std::path::PathBuf;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(paths.iter().map(|path| path.as_os_str().as_bytes()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<PathBuf>, D::Error> {
        let paths = Vec::<Vec<u8>>::deserialize(from)?;
        Ok(paths
            .into_iter()
            .map(|bytes| OsString::from_vec(bytes).into())
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;

    #[test]
    fn paths_that_are_not_utf8_survive_the_crossing() {
        let odd = PathBuf::from(OsString::from_vec(b"/layers/\xff\x00x".to_vec()));
        let root = RootFilesystem {
            lowers: vec![odd.clone(), PathBuf::from("/plain")],
            writable: Some(Writable {
                upper: odd.clone(),
                work: odd,
            }),
        };
        let bytes = postcard::to_stdvec(&root).unwrap();
        assert_eq!(
            postcard::from_bytes::<RootFilesystem>(&bytes).unwrap(),
            root
        );
    }
}
