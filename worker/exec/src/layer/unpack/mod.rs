//! A layer's tar into a tree, or only into its index.
//!
//! The tar may be anybody's. Later entries replace earlier ones at the same path; whiteouts take
//! away only what lower layers have, wherever they stand in the tar; directories that the tar
//! does not name are made with mode 0755. Symbolic links on the way to an entry are followed
//! within the root, as an engine would that applies the tar in a chroot. A hard link's target
//! must be in the same layer, which holds for every layer that tools make.
//!
//! Attributes that layers do not carry (see [`tree::xattrs`](crate::layer::tree::xattrs)) are
//! left out of tree and index with a warning. Devices that this process may not make are in the
//! index only.
//!
//! Reading, hashing, parsing and writing each go on at the same time; see `stream` and `workers`.
//!
//! | module | subject |
//! |---|---|
//! | `stream` | the uncompressed stream, read and hashed on threads |
//! | `draft` | what is at each path so far, in memory |
//! | `disk` | the tree |
//! | `workers` | threads that write small files |
//! | `apply` | each entry of the tar, onto draft and disk |

mod apply;
mod disk;
mod draft;
mod error;
mod stream;
mod workers;

use std::io::Read;
use std::path::Path;

use ashlar_model::digest::DiffId;
use ashlar_model::layer::{LayerIndex, LayerPath};
use ashlar_store::home::quota::Meter;

use self::apply::Application;
use self::disk::Disk;
use self::stream::read_hashed;
use self::workers::Workers;
use super::Warning;
use super::tar_read::TarReader;

pub use self::error::UnpackError;

/// What is done about files that this process does not own once it has made them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OwnerPolicy {
    /// They are given to their owners. For a process with a range of ids.
    #[default]
    Apply,
    /// They are an error. For a process with one id.
    Refuse,
    /// Their owners are in the index only. For a process with one id.
    IndexOnly,
}

/// What the names in a tar mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NameRules {
    /// Those of a layer: `.wh.x` takes `x` away.
    #[default]
    Layer,
    /// Those of an archive that somebody made for himself: each is a file. A leading `/` says
    /// nothing, and `..` that stays inside is followed as text.
    Archive,
}

/// How a tar is unpacked.
#[derive(Debug, Clone, Default)]
pub struct UnpackOptions {
    /// What is done about owners.
    pub owners: OwnerPolicy,
    /// What names mean.
    pub names: NameRules,
    /// What is asked before anything is written.
    pub meter: Meter,
}

/// What unpacking a layer gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// Its entries. Every file has its digest.
    pub index: LayerIndex,
    /// Digest of the uncompressed tar.
    pub diff_id: DiffId,
    /// Length of the uncompressed tar in bytes.
    pub tar_size: u64,
    /// Directories, parents first, that the tar has only by what is below them, the root
    /// included. The tree has them with mode 0755, owner 0:0 and time 0; to show what layers below
    /// have there, an overlay needs those layers' values on them.
    pub implied: Vec<LayerPath>,
    /// What the tree or the index lacks of the tar.
    pub warnings: Vec<Warning>,
}

/// Unpacks an uncompressed tar into the empty directory `tree`, in the form of an overlay's lower
/// directory. On an error the tree is left as it is at that moment.
pub fn unpack(
    reader: impl Read + Send,
    tree: &Path,
    options: UnpackOptions,
) -> Result<Unpacked, UnpackError> {
    let disk = Disk::open(tree, options.owners, options.meter.clone())?;
    read(reader, Some(disk), options)
}

/// Reads an uncompressed tar without writing anything. Its index is the one that [`unpack`]
/// gives.
pub fn index_only(reader: impl Read + Send) -> Result<Unpacked, UnpackError> {
    read(reader, None, UnpackOptions::default())
}

fn read(
    reader: impl Read + Send,
    disk: Option<Disk>,
    options: UnpackOptions,
) -> Result<Unpacked, UnpackError> {
    let ((index, implied, warnings), diff_id, tar_size) = read_hashed(reader, |stream| {
        let (application, digests) = Workers::with(|workers| {
            let mut tar = TarReader::new(stream);
            let mut application = Application::new(disk, options, workers);
            while let Some(entry) = tar.next_entry()? {
                application.entry(entry, &mut tar)?;
            }
            tar.drain()?;
            application.finish()
        })?;
        let implied = application.draft.implied();
        let index = application.draft.into_index(&digests);
        Ok::<_, UnpackError>((index, implied, application.warnings))
    })?;
    Ok(Unpacked {
        index,
        diff_id,
        tar_size,
        implied,
        warnings,
    })
}

#[cfg(test)]
mod tests;
