//! Tars and blobs into trees.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ashlar_model::digest::{DiffId, LayerId};
use ashlar_model::layer::{EntryKind, LayerIndex};
use ashlar_store::home::trees::Ground;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::super::request::WorkError;
use super::pack::check;
use super::{failed, home, of_error, of_store};
use crate::layer::{Decompressor, NameRules, OwnerPolicy, UnpackError, UnpackOptions};

/// A layer to unpack.
#[derive(Debug, Serialize, Deserialize)]
pub struct UnpackJob {
    /// The store.
    pub home: PathBuf,
    /// The layer's name.
    pub layer: LayerId,
    /// Its tar, plain or compressed.
    pub source: PathBuf,
    /// What its tar's digest must be.
    pub expected: Option<DiffId>,
    /// A directory for temporary files, on the store's filesystem.
    pub scratch: PathBuf,
    /// Where the tree goes.
    pub tree: PathBuf,
    /// Whether only one user id exists.
    pub single_owner: bool,
}

/// Unpacks a layer and stores its index. Returns warnings.
pub fn unpack(job: &UnpackJob) -> Result<Vec<String>, WorkError> {
    let home = home(&job.home)?;
    let made = job.scratch.join("tree");
    fs::create_dir(&made)
        .map_err(|e| failed(format_args!("cannot create {}", made.display()), &e))?;
    let options = UnpackOptions {
        owners: if job.single_owner {
            OwnerPolicy::Refuse
        } else {
            OwnerPolicy::Apply
        },
        names: NameRules::Layer,
        meter: home.meter(),
    };
    let plain = open(&job.source)?;
    let unpacked =
        crate::layer::unpack(plain, &made, options).map_err(|error| of_unpack(&error))?;
    check(&job.source, job.expected, unpacked.diff_id)?;
    if home.layer_index(&job.layer).map_err(of_store)?.is_none() {
        home.put_layer_index(&job.layer, &unpacked.index)
            .map_err(of_store)?;
    }
    let ground = Ground {
        hides_all: hides_all(&unpacked.index),
        unnamed: unpacked.implied,
    };
    if !ground.is_empty() {
        home.put_layer_ground(&job.layer, &ground)
            .map_err(of_store)?;
    }
    if let Some(parent) = job.tree.parent() {
        fs::create_dir_all(parent)
            .map_err(|e| failed(format_args!("cannot create {}", parent.display()), &e))?;
    }
    super::note_tree(&home, &made, &job.tree)?;
    super::rename(&made, &job.tree)?;
    Ok(unpacked.warnings.iter().map(ToString::to_string).collect())
}

/// Opens a file; or a fifo to which somebody writes or has written, without waiting for another.
pub(super) fn open_input(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    rustix::fs::fcntl_setfl(&file, OFlags::empty())?;
    Ok(file)
}

/// Whether a layer hides everything below it.
pub(super) fn hides_all(index: &LayerIndex) -> bool {
    index.entries.first().is_some_and(|entry| {
        entry.path.is_root() && entry.kind == EntryKind::Directory { opaque: true }
    })
}

/// Reads a layer's index from its tar or blob, and stores it; nothing is unpacked.
pub(in super::super) fn index(
    home: &ashlar_store::home::Home,
    layer: &LayerId,
    expected: Option<DiffId>,
    source: &Path,
) -> Result<(), WorkError> {
    let read = crate::layer::index_only(open(source)?).map_err(|e| of_unpack(&e))?;
    check(source, expected, read.diff_id)?;
    home.put_layer_index(layer, &read.index).map_err(of_store)
}

fn open(path: &Path) -> Result<Decompressor<File>, WorkError> {
    open_input(path)
        .and_then(Decompressor::new)
        .map_err(|e| failed(format_args!("cannot read {}", path.display()), &e))
}

fn of_unpack(error: &UnpackError) -> WorkError {
    let input = matches!(
        error,
        UnpackError::OtherOwner { .. } | UnpackError::UnmappedOwner { .. }
    );
    WorkError {
        input,
        ..of_error(error)
    }
}
