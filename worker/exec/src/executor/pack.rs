//! Reading a layer after its step, and making the forms that an output needs.

use ashlar_model::digest::LayerId;
use ashlar_model::executor::{PackRequest, StepError};
use ashlar_model::layer::LayerRecord;

use super::LocalExecutor;
use super::error::of_store;
use super::files::{self, PackJob, PackedLayer};
use super::packed::lost;
use super::request::{self, Answer, Request};
use super::views::blocking_work;
use crate::sandbox::SandboxHelper;

impl LocalExecutor {
    pub(super) async fn pack_layer(
        &self,
        layer: LayerId,
        below: Vec<LayerId>,
        wanted: PackRequest,
    ) -> Result<LayerRecord, StepError> {
        let record = self.record(&layer)?;
        if self.is_complete(&record, &wanted)? {
            return Ok(record);
        }
        // Another process may be at the same layer.
        let _lock = self.lock(&format!("pack-{layer}")).await?;
        let mut record = self.record(&layer)?;
        if self.is_complete(&record, &wanted)? {
            return Ok(record);
        }
        let missing = self.missing(&record, &wanted);
        // What was read before is read again from the tar, which needs no sandbox.
        let has_index = record.content.is_some() && record.diff_id.is_some();
        let is_packed = record.origin.is_elsewhere() || has_index && self.is_packed(&record);
        let packed = if is_packed {
            self.with_packed_form(&record, |source| {
                let (home, missing) = (self.home().clone(), missing.clone());
                let expected = record.diff_id;
                blocking_work(move || files::repack(&home, &source, expected, &missing))
            })
            .await?
        } else {
            self.pack_tree(layer, below, missing).await?
        };
        self.warn(&packed.warnings);
        packed.fill_in(&mut record);
        self.home().put_layer(&record).map_err(of_store)?;
        Ok(record)
    }

    /// Whether all that is wanted of a layer is known, and all of it that must be here is.
    fn is_complete(&self, record: &LayerRecord, wanted: &PackRequest) -> Result<bool, StepError> {
        if !self.home().holds_files_of(record).map_err(of_store)? {
            return Err(lost(record));
        }
        Ok(record.content.is_some() && self.missing(record, wanted) == PackRequest::default())
    }

    /// What a request asks for that is not known yet, or was lost.
    fn missing(&self, record: &LayerRecord, wanted: &PackRequest) -> PackRequest {
        let blobs = self.home().blobs();
        let mut missing = record.missing(wanted);
        let is_lost = |form| {
            record
                .blob(form)
                .is_some_and(|blob| !blobs.has(&blob.descriptor))
        };
        let lost = wanted.blobs.iter().copied().filter(|form| is_lost(*form));
        missing.blobs.extend(lost);
        missing
    }

    /// What to ask for to read a layer's tree, and whether its index is there.
    pub(super) async fn pack_job(
        &self,
        helper: &SandboxHelper,
        layer: LayerId,
        below: &[LayerId],
        wanted: PackRequest,
    ) -> Result<(PackJob, bool), StepError> {
        let tree = self.trees(helper, &[layer]).await?.remove(0);
        // Only a layer without index is compared with what it lies on.
        let indexed = self.home().layer_index(&layer).map_err(of_store)?.is_some();
        let lowers = if indexed {
            Vec::new()
        } else {
            self.trees(helper, below).await?
        };
        let job = PackJob {
            home: self.home().root().to_owned(),
            layer,
            tree,
            lowers,
            wanted,
        };
        Ok((job, indexed))
    }

    async fn pack_tree(
        &self,
        layer: LayerId,
        below: Vec<LayerId>,
        wanted: PackRequest,
    ) -> Result<PackedLayer, StepError> {
        let helper = self.helper().await?;
        let (job, indexed) = self.pack_job(&helper, layer, &below, wanted).await?;
        let tree = job.tree.clone();
        match request::call(&helper, &Request::Pack(job)).await? {
            Answer::Packed(packed) => Ok(packed),
            Answer::Failed(error) if indexed => {
                let trees = vec![(layer, tree)];
                Err(self.blame_trees(&helper, trees, error.into()).await)
            }
            Answer::Failed(error) => Err(error.into()),
            _ => Err(request::wrong_answer()),
        }
    }
}
