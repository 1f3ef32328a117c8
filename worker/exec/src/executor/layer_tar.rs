//! A layer's tar as a stream, to be sent elsewhere.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use ashlar_model::digest::{DiffId, LayerId};
use ashlar_model::executor::{PackRequest, StepError};
use ashlar_model::layer::{LayerOrigin, LayerRecord};
use ashlar_store::home::Home;
use ashlar_store::home::lock::FileLock;
use sha2::{Digest as _, Sha256};

use super::LocalExecutor;
use super::error::{environment, of_store};
use super::packed::lost;
use super::request::{self, Request};
use super::stream::WorkerStream;
use crate::layer::Decompressor;

/// The bytes of a layer's tar. If they turn out to be others than the layer's record says, reading
/// ends with an error, not with the end. Reading blocks, so it belongs beside the runtime.
pub struct LayerTar {
    home: Home,
    layer: LayerRecord,
    bytes: Box<dyn Read + Send>,
    hasher: Sha256,
    length: u64,
    ended: bool,
}

/// What was read is not the layer.
#[derive(Debug, thiserror::Error)]
#[error("layer {layer} is damaged in the store: its tar has the digest {found}, not {expected}")]
struct Damaged {
    layer: LayerId,
    found: DiffId,
    expected: DiffId,
}

impl LocalExecutor {
    /// The tar of a layer, from whatever form of it is here; one that another machine made is fetched
    /// if need be. `below` is the filesystem that it lies on, bottom first; needed only for a layer
    /// that was never read.
    pub async fn layer_tar(
        &self,
        layer: &LayerId,
        below: &[LayerId],
    ) -> Result<LayerTar, StepError> {
        let record = self.record(layer)?;
        let bytes: Box<dyn Read + Send> = match self.packed_here(&record) {
            Some(path) => Box::new(open(&path)?),
            None if matches!(record.origin, LayerOrigin::Shared { .. }) => {
                Box::new(open(&self.packed_form(&record).await?)?)
            }
            None => Box::new(self.tree_tar(&record, below).await?),
        };
        Ok(LayerTar {
            home: self.home().clone(),
            layer: record,
            bytes,
            hasher: Sha256::new(),
            length: 0,
            ended: false,
        })
    }

    /// The tar or a blob, if there is one.
    fn packed_here(&self, record: &LayerRecord) -> Option<PathBuf> {
        if self.home().holds_tar_of(record) {
            return Some(self.home().tar_path(&record.id));
        }
        let blobs = self.home().blobs();
        let mut here = record.blobs.iter();
        let blob = here.find(|blob| blobs.has(&blob.descriptor))?;
        Some(blobs.path(&blob.descriptor.digest))
    }

    async fn tree_tar(
        &self,
        record: &LayerRecord,
        below: &[LayerId],
    ) -> Result<WorkerStream, StepError> {
        let helper = self.helper().await?;
        // One that would have to be fetched is elsewhere already.
        if !self.tree_path(&helper, &record.id).is_dir() {
            return Err(lost(record));
        }
        let wanted = PackRequest::default();
        let (job, indexed) = self.pack_job(&helper, record.id, below, wanted).await?;
        let executor = self.clone();
        WorkerStream::start(self.home(), |output| async move {
            let trees = vec![(job.layer, job.tree.clone())];
            let request = Request::WriteTar { job, output };
            let written = request::call(&helper, &request).await;
            match written.and_then(request::Answer::done) {
                Ok(warnings) => {
                    executor.warn(&warnings);
                    Ok(())
                }
                Err(error) if indexed => Err(executor.blame_trees(&helper, trees, error).await),
                Err(error) => Err(error),
            }
        })
    }
}

fn open(path: &std::path::Path) -> Result<Decompressor<File>, StepError> {
    File::open(path)
        .and_then(Decompressor::new)
        .map_err(|e| environment(&format!("cannot read {}", path.display()), None, e))
}

impl LayerTar {
    /// The layer's record with digest and length of its tar, which are noted in the store if they
    /// were not known. The tar must have been read to its end. Blocks.
    pub fn finish(self) -> Result<LayerRecord, StepError> {
        if !self.ended {
            return Err(StepError::Cancelled);
        }
        let mut record = self.layer;
        let tar = DiffId::from_bytes(self.hasher.finalize().into());
        if record.diff_id.is_some() && record.tar_size.is_some() {
            return Ok(record);
        }
        // Whoever packs the layer writes its record too.
        let path = self.home.root().join("locks");
        let path = path.join(format!("pack-{}", record.id));
        let _lock = FileLock::acquire(&path).map_err(of_store)?;
        if let Some(known) = self.home.layer(&record.id).map_err(of_store)? {
            record = known;
        }
        record.diff_id = Some(tar);
        record.tar_size = Some(self.length);
        self.home.put_layer(&record).map_err(of_store)?;
        Ok(record)
    }

    fn check(&self) -> io::Result<()> {
        let found = DiffId::from_bytes(self.hasher.clone().finalize().into());
        match self.layer.diff_id {
            Some(expected) if expected != found => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                Damaged {
                    layer: self.layer.id,
                    found,
                    expected,
                },
            )),
            _ => Ok(()),
        }
    }
}

impl Read for LayerTar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        let count = self.bytes.read(buffer)?;
        if count == 0 {
            self.check()?;
            self.ended = true;
        }
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        self.length += count as u64;
        Ok(count)
    }
}

impl fmt::Debug for LayerTar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerTar")
            .field("layer", &self.layer.id)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}
