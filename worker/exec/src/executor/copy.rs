//! COPY, ADD and WORKDIR: where they run, and in which form their layer is kept.

use ashlar_model::digest::LayerId;
use ashlar_model::executor::{PackRequest, StepError};
use ashlar_model::step::{CopySource, CopySpec, MakeDirectorySpec};

use super::LocalExecutor;
use super::error::of_store;
use super::files::{self, CopyJob, LayerForm, StoredLayer};
use super::request::{self, Request, WorkError};
use super::run::explain_missing_ids;
use super::views::blocking;
use crate::sandbox::IdMode;

/// What makes a layer from files.
enum FileStep {
    Copy(CopySpec),
    MakeDirectory(MakeDirectorySpec),
}

impl LocalExecutor {
    pub(super) async fn copy_step(
        &self,
        spec: CopySpec,
        parent: &[LayerId],
        will_be_mounted: bool,
        wanted: &PackRequest,
    ) -> Result<LayerId, StepError> {
        let alone = !will_be_mounted && stays_in_process(&spec);
        self.file_step(FileStep::Copy(spec), parent, alone, wanted)
            .await
    }

    pub(super) async fn directory_step(
        &self,
        spec: MakeDirectorySpec,
        parent: &[LayerId],
        will_be_mounted: bool,
        wanted: &PackRequest,
    ) -> Result<LayerId, StepError> {
        // A user's name must be looked up in a file, and an index has none.
        let alone = !will_be_mounted && is_numeric(&spec.user);
        self.file_step(FileStep::MakeDirectory(spec), parent, alone, wanted)
            .await
    }

    async fn file_step(
        &self,
        step: FileStep,
        parent: &[LayerId],
        alone: bool,
        wanted: &PackRequest,
    ) -> Result<LayerId, StepError> {
        let layer = self.home().new_layer_id().map_err(of_store)?;
        if alone && let Some(parent) = self.index_view(parent).await? {
            let form = LayerForm::Packed(wanted.clone());
            self.in_process(step, layer, parent, form).await?;
            return Ok(layer);
        }
        let helper = self.helper().await?;
        let parent = self.tree_view(&helper, parent).await?;
        let mut sources = Vec::new();
        if let FileStep::Copy(spec) = &step {
            for source in &spec.sources {
                if let CopySource::Layers { layers, .. } = source {
                    sources.push(self.tree_view(&helper, layers).await?);
                }
            }
        }
        let scratch = self.home().scratch().map_err(of_store)?;
        let job = CopyJob {
            home: self.home().root().to_owned(),
            layer,
            parent,
            sources,
            scratch: scratch.path().to_owned(),
            form: LayerForm::Tree(self.tree_path(&helper, &layer)),
            single_owner: helper.id_map().mode() == IdMode::Single,
        };
        let request = match step {
            FileStep::Copy(spec) => Request::Copy { spec, job },
            FileStep::MakeDirectory(spec) => Request::MakeDirectory { spec, job },
        };
        let outcome = request::call(&helper, &request)
            .await
            .and_then(request::Answer::done);
        self.discard(&helper, scratch.path()).await;
        self.warn(&outcome.map_err(|error| explain_missing_ids(error, &helper))?);
        let map = helper.id_map().fingerprint();
        self.home().trust_tree(&map, &layer).map_err(of_store)?;
        Ok(layer)
    }

    async fn in_process(
        &self,
        step: FileStep,
        layer: LayerId,
        parent: Vec<StoredLayer>,
        form: LayerForm,
    ) -> Result<(), StepError> {
        let scratch = self.home().scratch().map_err(of_store)?;
        let job = CopyJob {
            home: self.home().root().to_owned(),
            layer,
            parent,
            sources: Vec::new(),
            scratch: scratch.path().to_owned(),
            form,
            single_owner: true,
        };
        let work = move || match step {
            FileStep::Copy(spec) => files::copy(&spec, &job),
            FileStep::MakeDirectory(spec) => files::make_directory(&spec, &job),
        };
        let outcome: Result<Vec<String>, WorkError> = blocking(work).await?;
        drop(std::fs::remove_dir_all(scratch.path()));
        self.warn(&outcome?);
        Ok(())
    }
}

/// Whether a copy needs nothing of the sandbox: no files of other stages, no archives to unpack,
/// no names to look up.
fn stays_in_process(spec: &CopySpec) -> bool {
    let plain = spec.sources.iter().all(|source| match source {
        CopySource::Inline { .. } => true,
        CopySource::Layers { .. } => false,
        CopySource::Directory { root, selection }
        | CopySource::Fetched {
            root, selection, ..
        } => {
            let mut items = selection.items.iter();
            !unpacks(spec, source) || !items.any(|item| files::is_archive(root, item))
        }
    });
    plain && spec.owner.as_deref().is_none_or(is_numeric)
}

/// Whether archives of a source are unpacked.
const fn unpacks(spec: &CopySpec, source: &CopySource) -> bool {
    match source {
        CopySource::Directory { .. } => spec.unpack,
        CopySource::Fetched { unpack, .. } => *unpack,
        CopySource::Layers { .. } | CopySource::Inline { .. } => false,
    }
}

fn is_numeric(owner: &str) -> bool {
    owner.bytes().all(|b| b.is_ascii_digit() || b == b':')
}
