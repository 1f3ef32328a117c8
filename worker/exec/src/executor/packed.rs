//! Layers in their packed forms: the tar, plain or compressed.
//!
//! A file of the store may have been damaged there. Reading it fails then, or gives something
//! else; only after that is it hashed. A damaged form is dropped, and the work is done with the
//! next one, or with a fetched one.

use std::path::{Path, PathBuf};

use ashlar_model::cas::SharedLayer;
use ashlar_model::executor::StepError;
use ashlar_model::layer::{LayerOrigin, LayerRecord};
use ashlar_store::home::blobs;

use super::LocalExecutor;
use super::error::of_store;
use super::views::blocking;
use crate::layer::split::Beside;

impl LocalExecutor {
    /// Whether a layer's tar or one of its blobs is here.
    pub(super) fn is_packed(&self, record: &LayerRecord) -> bool {
        let blobs = self.home().blobs();
        self.home().holds_tar_of(record)
            || record.blobs.iter().any(|blob| blobs.has(&blob.descriptor))
    }

    /// Does work on the file that holds a layer's tar, plain or compressed; with another one if
    /// the first turns out to be damaged.
    pub(super) async fn with_packed_form<T, Work>(
        &self,
        record: &LayerRecord,
        work: impl Fn(PathBuf) -> Work + Send,
    ) -> Result<T, StepError>
    where
        Work: Future<Output = Result<T, StepError>> + Send,
    {
        loop {
            let source = self.packed_form(record).await?;
            match work(source.clone()).await {
                Err(error) if !self.drop_if_damaged(record, source).await? => return Err(error),
                Err(_) => {}
                Ok(done) => return Ok(done),
            }
        }
    }

    /// The layer's tar, plain or compressed. Fetched if it is not here.
    pub(super) async fn packed_form(&self, record: &LayerRecord) -> Result<PathBuf, StepError> {
        if self.home().holds_tar_of(record) {
            return Ok(self.home().tar_path(&record.id));
        }
        let blobs = self.home().blobs();
        if let Some(blob) = record.blobs.iter().find(|blob| blobs.has(&blob.descriptor)) {
            return Ok(blobs.path(&blob.descriptor.digest));
        }
        match (&record.origin, record.blobs.first()) {
            (LayerOrigin::Image { repositories }, Some(blob)) => {
                let fetcher = &self.inner.fetcher;
                fetcher.fetch(&blob.descriptor, repositories).await?;
                Ok(blobs.path(&blob.descriptor.digest))
            }
            (LayerOrigin::Shared { copies }, _) => {
                let fetched = self.fetch_shared(record, copies, None).await;
                if matches!(fetched, Err(StepError::LayersLost { .. })) {
                    self.forget_lost(record)?;
                }
                fetched
            }
            _ => Err(lost(record)),
        }
    }

    /// Fetches a layer that another machine made; several may want it at the same time. `beside`
    /// takes its tar while it comes. If it is nowhere it is lost, and the caller
    /// [forgets](Self::forget_lost) it when nobody writes for it any more.
    pub(super) async fn fetch_shared(
        &self,
        record: &LayerRecord,
        copies: &[SharedLayer],
        beside: Option<Beside>,
    ) -> Result<PathBuf, StepError> {
        let _lock = self.lock(&format!("fetch-{}", record.id)).await?;
        if !self.home().holds_tar_of(record)
            && let Some(fetcher) = &self.shared
        {
            fetcher.fetch_layer(record, copies, beside).await?;
        }
        if self.home().holds_tar_of(record) {
            return Ok(self.home().tar_path(&record.id));
        }
        Err(lost(record))
    }

    /// Forgets a layer that cannot be had, unless it has a tree: a layer that is known must have
    /// its files, for without them no result that names it may be found again.
    pub(super) fn forget_lost(&self, record: &LayerRecord) -> Result<(), StepError> {
        let mut maps = self.home().tree_id_maps().map_err(of_store)?.into_iter();
        if !maps.any(|map| self.home().tree_path(&map, &record.id).is_dir()) {
            self.home().forget_layer(&record.id).map_err(of_store)?;
        }
        Ok(())
    }

    /// The SHA-256 that a packed form of a layer should have, where it was noted.
    fn expected_digest(&self, record: &LayerRecord, file: &Path) -> Option<[u8; 32]> {
        let blobs = self.home().blobs();
        for blob in &record.blobs {
            let digest = &blob.descriptor.digest;
            if blobs.path(digest) == file {
                return Some(*digest.as_bytes());
            }
        }
        record.diff_id.map(|diff_id| *diff_id.as_bytes())
    }

    /// Hashes a packed form after work on it failed, and removes it if that is why. A tar whose
    /// digest was never noted is left alone.
    async fn drop_if_damaged(
        &self,
        record: &LayerRecord,
        file: PathBuf,
    ) -> Result<bool, StepError> {
        let Some(expected) = self.expected_digest(record, &file) else {
            return Ok(false);
        };
        let hashed = file.clone();
        match blocking(move || blobs::sha256(&hashed)).await? {
            Ok(digest) if digest != expected => {}
            // Whole, or unreadable: a file that cannot be opened now may be whole as well.
            _ => return Ok(false),
        }
        remove(&file)?;
        self.warn(&[format!(
            "{} was damaged and has been removed from the store",
            file.display()
        )]);
        Ok(true)
    }
}

fn remove(file: &Path) -> Result<(), StepError> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let message = format!("cannot remove the damaged file {}", file.display());
            Err(super::error::environment(&message, None, error))
        }
        _ => Ok(()),
    }
}

/// A layer none of whose forms is here.
pub(super) fn lost(record: &LayerRecord) -> StepError {
    StepError::LayersLost {
        layers: vec![record.id],
    }
}
