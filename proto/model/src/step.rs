//! Steps: the nodes of the build graph that make a filesystem layer.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::content_hash::{ContentHash, KeyEncoder};
use crate::digest::{ContentDigest, FileDigest, LayerId};
use crate::layer::{Entry, LayerPath, Timestamp};
use crate::mount::MountSpec;
use crate::select::SourceQuery;

/// What a step does to its parent filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepOp {
    /// Runs a command (RUN).
    Run(RunSpec),
    /// Puts files into the filesystem (COPY, ADD).
    Copy(CopySpec),
    /// Makes a directory and its missing parents (WORKDIR).
    MakeDirectory(MakeDirectorySpec),
}

/// A command and all that it can see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSpec {
    /// The command with its arguments; never empty.
    pub args: Vec<String>,
    /// Environment in order; names are unique.
    pub env: Vec<(String, String)>,
    /// Environment that no key holds (proxies).
    pub unkeyed_env: Vec<(String, String)>,
    /// Working directory, absolute inside the container; made if missing.
    pub cwd: String,
    /// `user[:group]` as USER has it, empty for root. Names are looked up in the container.
    pub user: String,
    /// Network access.
    pub network: Network,
    /// Host name inside.
    pub hostname: String,
    /// Lines for `/etc/hosts` beside the usual ones.
    pub extra_hosts: Vec<ExtraHost>,
    /// A script (RUN heredoc with `#!`) that is put read-only at this path for the command.
    pub script: Option<Script>,
    /// What the command sees besides its filesystem. Of mounts with one target the last counts.
    pub mounts: Vec<MountSpec>,
    /// Rights inside the sandbox.
    pub security: Security,
    /// Limits on the command's resources.
    pub ulimits: Vec<Ulimit>,
}

/// What a command may do inside the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Security {
    /// Docker's default capabilities and system call filter.
    #[default]
    Sandbox,
    /// All that the user namespace gives: every capability, no filter, nothing masked.
    Insecure,
}

/// A limit on a resource, as `setrlimit(2)` knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Its name in lower case: `nofile`, `core`...
    pub name: String,
    /// What the command gets; `None` for no limit.
    pub soft: Option<u64>,
    /// How far it may raise that; `None` for no limit.
    pub hard: Option<u64>,
}

/// A name and its address for `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraHost {
    /// Host name.
    pub name: String,
    /// Address.
    pub address: IpAddr,
}

/// A file that exists only while the command runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// Absolute path inside the container.
    pub path: String,
    /// Content; the mode is 0755.
    pub body: String,
}

/// What network a command sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The network of the machine.
    Host,
    /// A loopback interface and nothing else.
    None,
}

/// Files to put somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopySpec {
    /// What to copy, in order; later files replace earlier ones.
    pub sources: Vec<CopySource>,
    /// Destination, absolute inside the container. A trailing `/` means a directory.
    pub destination: String,
    /// `--chown`, expanded; names are looked up in the destination filesystem.
    pub owner: Option<String>,
    /// `--chmod`, expanded.
    pub mode: Option<String>,
    /// ADD: local archives are unpacked.
    pub unpack: bool,
    /// Times of directories that the copy itself makes; `None` for the present.
    pub created: Option<Timestamp>,
}

/// One source of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopySource {
    /// Files of a directory on this machine, already selected and hashed. Their owner is 0:0.
    Directory {
        /// The directory.
        root: PathBuf,
        /// What of it.
        selection: Arc<Selection>,
    },
    /// Files that were fetched from elsewhere, selected and hashed. Their owner is 0:0.
    Fetched {
        /// The directory that they are in.
        root: PathBuf,
        /// What of it.
        selection: Arc<Selection>,
        /// Whether archives among them are unpacked, whatever is done with local ones.
        unpack: bool,
    },
    /// Files of another filesystem of the build (`--from`); ownership is kept.
    Layers {
        /// The filesystem, bottom first.
        layers: Vec<LayerId>,
        /// What of it.
        query: SourceQuery,
    },
    /// A file given in the Dockerfile (heredoc), mode 0644.
    Inline {
        /// File name.
        name: String,
        /// Content.
        data: Vec<u8>,
    },
}

/// The files that a source pattern stands for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Selection {
    /// One item for each match, in bytewise order of the matched paths.
    pub items: Vec<SelectedItem>,
}

/// One match of a source pattern: a file, or a directory with all below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectedItem {
    /// The name that the copy takes when it goes into a directory: the last name of the match as
    /// written, not of what a symbolic link led to. Empty for the root.
    pub name: Vec<u8>,
    /// Where it really is below the source's root, symbolic links followed.
    pub path: LayerPath,
    /// The item itself (its path is the root), then all below it, relative to `path`, in
    /// canonical order. Regular files have their digests. Hard links point inside the item.
    pub entries: Vec<Entry>,
    /// Places in `entries`, ascending, of directories that are there only as the way to others:
    /// `--parents` does not name them, or `--exclude` leaves them out.
    pub ways: Vec<usize>,
}

/// Makes a directory and its missing parents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MakeDirectorySpec {
    /// Absolute path inside the container.
    pub path: String,
    /// `user[:group]` that owns what is made, empty for root.
    pub user: String,
    /// Times of what is made; `None` for the present.
    pub created: Option<Timestamp>,
}

impl Selection {
    /// What the selected files contain. For a directory, its own mode and owner do not enter,
    /// for a copy takes only its contents (BuildKit: reference section 0, point 14).
    pub fn content_digest(&self) -> ContentDigest {
        let mut encoder = KeyEncoder::new("ashlar 2026-11 selected files v2");
        encoder.number(self.items.len() as u64);
        for item in &self.items {
            encoder.bytes(&item.name);
            let (own, below) = match item.entries.split_first() {
                Some((own, below)) => (Some(own), below),
                None => (None, [].as_slice()),
            };
            match own {
                Some(own) if !own.is_directory() => encoder.tag("item").value(own),
                _ => encoder.tag("contents"),
            };
            encoder.value(below).number(item.ways.len() as u64);
            for place in &item.ways {
                encoder.number(*place as u64);
            }
        }
        encoder.finish().into()
    }

    /// What a mount of the selected file or directory shows: all of it, its own mode and owner
    /// as well.
    pub fn mount_digest(&self) -> ContentDigest {
        let mut encoder = KeyEncoder::new("ashlar 2026-11 mounted files v1");
        encoder.number(self.items.len() as u64);
        for item in &self.items {
            encoder.value(&item.entries);
        }
        encoder.finish().into()
    }
}

impl Entry {
    /// Whether this is a directory.
    pub const fn is_directory(&self) -> bool {
        matches!(self.kind, crate::layer::EntryKind::Directory { .. })
    }

    /// Digest of a regular file's bytes, where known.
    pub const fn file_digest(&self) -> Option<FileDigest> {
        match self.kind {
            crate::layer::EntryKind::File { digest, .. } => digest,
            _ => None,
        }
    }
}

impl ContentHash for Security {
    fn encode(&self, encoder: &mut KeyEncoder) {
        encoder.tag(match self {
            Self::Sandbox => "sandbox",
            Self::Insecure => "insecure",
        });
    }
}

impl ContentHash for Ulimit {
    fn encode(&self, encoder: &mut KeyEncoder) {
        let Self { name, soft, hard } = self;
        encoder.value(name).value(soft).value(hard);
    }
}

impl ContentHash for Network {
    fn encode(&self, encoder: &mut KeyEncoder) {
        encoder.tag(match self {
            Self::Host => "host",
            Self::None => "none",
        });
    }
}
