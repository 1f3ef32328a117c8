//! What a command sees besides its own filesystem: `RUN --mount`.
//!
//! A specification names secrets and agents, and never holds them: whoever runs the step asks its
//! [`SecretSource`](crate::secret::SecretSource).

use serde::{Deserialize, Serialize};

use crate::digest::LayerId;

/// One mount. Targets are absolute inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSpec {
    /// Files of another filesystem of the build.
    Bind(BindMount),
    /// A directory that outlives the step, and is no part of its result.
    Cache(CacheMount),
    /// A directory in memory.
    Tmpfs(TmpfsMount),
    /// A value that no result holds.
    Secret(SecretMount),
    /// A socket behind which an SSH agent answers.
    Ssh(SshMount),
}

/// Part of another filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MountSource {
    /// The filesystem, bottom layer first. Empty in a plan: it is known when its steps have run.
    pub layers: Vec<LayerId>,
    /// The file or directory in it, absolute; symbolic links are followed inside.
    pub path: String,
}

/// `type=bind`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindMount {
    /// Where it is seen.
    pub target: String,
    /// What is seen.
    pub source: MountSource,
    /// Whether writing fails; what is written otherwise is thrown away with the step.
    pub read_only: bool,
}

/// `type=cache`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheMount {
    /// Where it is seen.
    pub target: String,
    /// Its name, with its namespace: mounts of one name and one beginning are the same directory.
    pub id: String,
    /// What happens if another step uses it.
    pub sharing: CacheSharing,
    /// What it holds at first; nothing if there is none.
    pub seed: Option<MountSource>,
    /// What its directory is given when it is made; that of the seed, or 0755 of root, where
    /// nothing is said.
    pub owner: OptionalOwner,
    /// Whether writing fails.
    pub read_only: bool,
}

/// What happens if several steps want a cache at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum CacheSharing {
    /// They all use it.
    #[default]
    Shared,
    /// Each uses a directory of its own.
    Private,
    /// They wait for one another.
    Locked,
}

/// `type=tmpfs`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmpfsMount {
    /// Where it is seen.
    pub target: String,
    /// Bytes that it may hold; the kernel's own limit if not given.
    pub size: Option<u64>,
    /// Whether writing fails.
    pub read_only: bool,
}

/// `type=secret`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretMount {
    /// Which secret.
    pub id: String,
    /// The file that holds it, if there is to be one.
    pub file: Option<SecretFile>,
    /// The environment variable that holds it, if there is to be one.
    pub env: Option<String>,
    /// Whether the step fails where there is no such secret.
    pub required: bool,
}

/// Where a secret's value lies as a file, in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretFile {
    /// Absolute path.
    pub target: String,
    /// Whose it is.
    pub owner: Owner,
}

/// `type=ssh`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshMount {
    /// Which agent.
    pub id: String,
    /// Absolute path of the socket.
    pub target: String,
    /// Whose it is.
    pub owner: Owner,
    /// Whether the step fails where there is no such agent.
    pub required: bool,
}

/// Mode and owner of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Permission bits.
    pub mode: u32,
    /// User inside the container.
    pub uid: u32,
    /// Group inside the container.
    pub gid: u32,
}

/// Mode and owner as far as something was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OptionalOwner {
    /// Permission bits.
    pub mode: Option<u32>,
    /// User inside the container.
    pub uid: Option<u32>,
    /// Group inside the container.
    pub gid: Option<u32>,
}

impl OptionalOwner {
    /// What was said, and `otherwise` for the rest.
    pub fn or(self, otherwise: Owner) -> Owner {
        Owner {
            mode: self.mode.unwrap_or(otherwise.mode),
            uid: self.uid.unwrap_or(otherwise.uid),
            gid: self.gid.unwrap_or(otherwise.gid),
        }
    }
}

impl MountSpec {
    /// The other filesystem that the mount shows or begins with.
    pub const fn source(&self) -> Option<&MountSource> {
        match self {
            Self::Bind(bind) => Some(&bind.source),
            Self::Cache(cache) => cache.seed.as_ref(),
            Self::Tmpfs(_) | Self::Secret(_) | Self::Ssh(_) => None,
        }
    }

    /// The same, to fill in its layers.
    pub const fn source_mut(&mut self) -> Option<&mut MountSource> {
        match self {
            Self::Bind(bind) => Some(&mut bind.source),
            Self::Cache(cache) => cache.seed.as_mut(),
            Self::Tmpfs(_) | Self::Secret(_) | Self::Ssh(_) => None,
        }
    }
}
