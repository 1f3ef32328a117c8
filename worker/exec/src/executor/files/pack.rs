//! Reads a layer: its index, what it contains, its tar, its blobs.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::{BlobDigest, ContentDigest, DiffId, LayerId};
use ashlar_model::executor::{BlobForm, PackRequest};
use ashlar_model::layer::{LayerIndex, LayerRecord, StoredBlob};
use ashlar_store::home::Home;
use ashlar_store::home::quota::Metered;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::super::request::WorkError;
use super::{failed, home, of_error, of_store};
use crate::layer::compress::{CompressedWriter, HashingWriter};
use crate::layer::finalize::{self, PackError, PackOptions, PackOutput, PackTarget};
use crate::layer::tar_write::{TarWriteError, write_tar};
use crate::layer::{Decompressor, DiffError, DiffOptions, FileContents, TreeContents, index_tree};

/// A layer's tree to read.
#[derive(Debug, Serialize, Deserialize)]
pub struct PackJob {
    /// The store.
    pub home: PathBuf,
    /// The layer's name.
    pub layer: LayerId,
    /// Its tree.
    pub tree: PathBuf,
    /// The trees below it, bottom first. Looked at only if the layer has no index yet.
    pub lowers: Vec<PathBuf>,
    /// What to make.
    pub wanted: PackRequest,
}

/// What was learnt of a layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PackedLayer {
    /// What it contains; `None` if that was known before.
    pub content: Option<ContentDigest>,
    /// Digest and length of its tar, if it was made.
    pub tar: Option<(DiffId, u64)>,
    /// The blobs that were made.
    pub blobs: Vec<(BlobForm, BlobDigest, u64)>,
    /// What could not be taken along.
    pub warnings: Vec<String>,
}

impl PackedLayer {
    /// Adds to a record what was learnt.
    pub fn fill_in(&self, record: &mut LayerRecord) {
        record.content = self.content.or(record.content);
        if let Some((diff_id, size)) = self.tar {
            record.diff_id = Some(diff_id);
            record.tar_size = Some(size);
        }
        for (form, digest, size) in &self.blobs {
            // One that was made before is gone: else this would not have been made.
            let (compression, level) = (form.compression, Some(form.level));
            record
                .blobs
                .retain(|blob| blob.compression != compression || blob.level != level);
            let media_type = form.compression.oci_media_type();
            record.blobs.push(StoredBlob {
                descriptor: Descriptor::new(media_type, *digest, *size),
                compression: form.compression,
                level: Some(form.level),
            });
        }
    }
}

/// Reads a tree. Its index is stored; the record is the caller's to write.
pub fn pack(job: &PackJob) -> Result<PackedLayer, WorkError> {
    let home = home(&job.home)?;
    let (index, warnings) = indexed(&home, job)?;
    let content = Some(index.content_digest());
    let contents = contents(job)?;
    let mut packed = if job.wanted == PackRequest::default() {
        PackedLayer {
            content: None,
            tar: None,
            blobs: Vec::new(),
            warnings: Vec::new(),
        }
    } else {
        pack_contents(&home, &job.layer, &index, &contents, &job.wanted, false)?
    };
    packed.content = content;
    packed.warnings = warnings;
    Ok(packed)
}

/// The index of a layer's tree, and warnings. It is stored, unless it was before.
fn indexed(home: &Home, job: &PackJob) -> Result<(LayerIndex, Vec<String>), WorkError> {
    if let Some(index) = home.layer_index(&job.layer).map_err(of_store)? {
        return Ok((index, Vec::new()));
    }
    let options = DiffOptions::for_this_process();
    let (index, found) =
        index_tree(&job.tree, &job.lowers, &options).map_err(|error| of_diff(&error))?;
    home.put_layer_index(&job.layer, &index).map_err(of_store)?;
    let warnings = found.iter().map(ToString::to_string).collect();
    Ok((index, warnings))
}

fn contents(job: &PackJob) -> Result<TreeContents, WorkError> {
    TreeContents::open(&job.tree)
        .map_err(|e| failed(format_args!("cannot open {}", job.tree.display()), &e))
}

/// Writes the tar of a layer's tree to a fifo. Returns warnings.
pub(in super::super) fn write_layer_tar(
    job: &PackJob,
    output: &Path,
) -> Result<Vec<String>, WorkError> {
    let home = home(&job.home)?;
    let (index, warnings) = indexed(&home, job)?;
    let mut out = open_fifo(output)?;
    let options = PackOptions::default().tar;
    write_tar(&index, &contents(job)?, options, &mut out)
        .map_err(|error| of_pack(&PackError::Tar(error)))?;
    out.flush()
        .map_err(|e| failed("cannot write the layer's tar", &e))?;
    Ok(warnings)
}

/// Opens a fifo that somebody has opened to read; an error if nobody has (any more), for they will
/// not come.
pub(super) fn open_fifo(path: &Path) -> Result<BufWriter<File>, WorkError> {
    let open = || -> std::io::Result<File> {
        let file = OpenOptions::new()
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)?;
        rustix::fs::fcntl_setfl(&file, OFlags::empty())?;
        Ok(file)
    };
    let file = open().map_err(|e| failed(format_args!("cannot open {}", path.display()), &e))?;
    Ok(BufWriter::with_capacity(256 * 1024, file))
}

/// Makes blobs from a layer's tar, plain or compressed, as it is. An error if its digest is not the
/// one that is `expected`.
pub fn repack(
    home: &Home,
    path: &Path,
    expected: Option<DiffId>,
    wanted: &PackRequest,
) -> Result<PackedLayer, WorkError> {
    let mut blobs = Vec::with_capacity(wanted.blobs.len());
    for form in &wanted.blobs {
        let reading = |e| failed(format_args!("cannot read {}", path.display()), &e);
        let mut tar = File::open(path)
            .and_then(Decompressor::new)
            .map_err(reading)?;
        let scratch = home.scratch().map_err(of_store)?;
        let blob = scratch.path().join("blob");
        let writing = |e| failed(format_args!("cannot write {}", blob.display()), &e);
        let file = File::create_new(&blob).map_err(writing)?;
        let file = Metered::new(file, home.meter());
        let threads = PackOptions::default().threads;
        let mut writer =
            CompressedWriter::new(HashingWriter::new(file), *form, threads).map_err(writing)?;
        let mut hasher = Sha256::new();
        let copied = copy_hashed(&mut tar, &mut writer, &mut hasher).map_err(writing);
        let found = DiffId::from_bytes(hasher.finalize().into());
        if let Err(error) = copied.and_then(|()| check(path, expected, found)) {
            // What stays is swept later.
            let _ignored = fs::remove_dir_all(scratch.path());
            return Err(error);
        }
        let (_, digest, size) = writer.finish().map_err(writing)?.finish();
        home.blobs().adopt(&blob, &digest).map_err(of_store)?;
        let _ignored = fs::remove_dir(scratch.path());
        blobs.push((*form, digest, size));
    }
    Ok(PackedLayer {
        content: None,
        tar: None,
        blobs,
        warnings: Vec::new(),
    })
}

fn copy_hashed(
    from: &mut impl Read,
    to: &mut impl Write,
    hasher: &mut Sha256,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                to.write_all(&buffer[..count])?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Refuses a tar that is not the one that it should be.
pub(super) fn check(path: &Path, expected: Option<DiffId>, found: DiffId) -> Result<(), WorkError> {
    match expected {
        Some(expected) if expected != found => Err(WorkError::environment(format!(
            "the layer in {} is damaged: its content has the digest {found}, not {expected}",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// Makes the tar of a layer, and from it what is wanted; keeps the tar itself if asked to.
pub(super) fn pack_contents(
    home: &Home,
    layer: &LayerId,
    index: &LayerIndex,
    contents: &dyn FileContents,
    wanted: &PackRequest,
    keep_tar: bool,
) -> Result<PackedLayer, WorkError> {
    let mut outputs = Vec::new();
    let mut names = Vec::new();
    let scratch = home.scratch().map_err(of_store)?;
    let create = |name: &str| -> Result<(PathBuf, BufWriter<Metered<File>>), WorkError> {
        let path = scratch.path().join(name);
        let file = File::create_new(&path)
            .map_err(|e| failed(format_args!("cannot create {}", path.display()), &e))?;
        let file = Metered::new(file, home.meter());
        Ok((path, BufWriter::with_capacity(256 * 1024, file)))
    };
    for (number, form) in wanted.blobs.iter().enumerate() {
        let (path, writer) = create(&format!("blob-{number}"))?;
        names.push(path);
        outputs.push(PackOutput::new(PackTarget::Blob(*form), writer));
    }
    let mut tar_path = None;
    if keep_tar {
        let (path, writer) = create("tar")?;
        tar_path = Some(path);
        outputs.push(PackOutput::new(PackTarget::Tar, writer));
    }
    let packed = finalize::pack(index, contents, outputs, PackOptions::default());
    let packed = packed.map_err(|error| of_pack(&error));
    if packed.is_err() {
        // The error matters more; what stays is swept later.
        let _ignored = fs::remove_dir_all(scratch.path());
    }
    let packed = packed?;
    let mut blobs = Vec::with_capacity(names.len());
    for (path, blob) in names.iter().zip(&packed.blobs) {
        home.blobs().adopt(path, &blob.digest).map_err(of_store)?;
        blobs.push((blob.form, blob.digest, blob.size));
    }
    if let Some(path) = tar_path {
        let kept = home.tar_path(layer);
        if let Some(parent) = kept.parent() {
            fs::create_dir_all(parent)
                .map_err(|e| failed(format_args!("cannot create {}", parent.display()), &e))?;
        }
        super::rename(&path, &kept)?;
    }
    // Empty now; if not, it is swept later.
    let _ignored = fs::remove_dir(scratch.path());
    let tar = Some((packed.diff_id, packed.tar_size));
    Ok(PackedLayer {
        content: None,
        tar,
        blobs,
        warnings: Vec::new(),
    })
}

fn of_diff(error: &DiffError) -> WorkError {
    let input = matches!(
        error,
        DiffError::UnmappedOwner { .. } | DiffError::ReservedName { .. }
    );
    WorkError {
        input,
        ..of_error(error)
    }
}

fn of_pack(error: &PackError) -> WorkError {
    let input = matches!(
        error,
        PackError::Tar(TarWriteError::Changed { .. } | TarWriteError::Unrepresentable { .. })
    );
    WorkError {
        input,
        ..of_error(error)
    }
}
