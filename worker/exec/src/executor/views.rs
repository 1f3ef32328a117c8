//! Layers as something to look into: trees where there are trees, indexes elsewhere.

use std::path::PathBuf;

use ashlar_model::digest::LayerId;
use ashlar_model::executor::StepError;
use ashlar_model::layer::LayerRecord;
use ashlar_model::select::SourceQuery;
use ashlar_model::step::Selection;

use super::error::of_store;
use super::files::StoredLayer;
use super::request::{self, Answer, Request, WorkError};
use super::{LocalExecutor, files};
use crate::sandbox::{IdMode, SandboxHelper};

impl LocalExecutor {
    /// The layers of a filesystem with all their files at hand.
    pub(super) async fn tree_view(
        &self,
        helper: &SandboxHelper,
        layers: &[LayerId],
    ) -> Result<Vec<StoredLayer>, StepError> {
        let trees = self.trees(helper, layers).await?;
        if helper.id_map().mode() == IdMode::Single {
            return self.described(layers, trees, |record| record.origin.is_elsewhere());
        }
        Ok(trees.into_iter().map(StoredLayer::Tree).collect())
    }

    /// The layers of a filesystem, some as their indexes have them: with what the trees of base
    /// images may lack (owners, where only one id is mapped, and devices), and with digests that
    /// show damage.
    pub(super) fn described(
        &self,
        layers: &[LayerId],
        trees: Vec<PathBuf>,
        needs_index: impl Fn(&LayerRecord) -> bool,
    ) -> Result<Vec<StoredLayer>, StepError> {
        let described = layers.iter().zip(trees).map(|(id, tree)| {
            let record = self.record(id)?;
            let indexed = self.home().layer_index(id).map_err(of_store)?.is_some();
            Ok(if indexed && needs_index(&record) {
                StoredLayer::Described { id: *id, tree }
            } else {
                StoredLayer::Tree(tree)
            })
        });
        described.collect()
    }

    /// The layers of a filesystem by their indexes, if all have one or can get one without
    /// entering a namespace.
    pub(super) async fn index_view(
        &self,
        layers: &[LayerId],
    ) -> Result<Option<Vec<StoredLayer>>, StepError> {
        for layer in layers {
            if self.home().layer_index(layer).map_err(of_store)?.is_some() {
                continue;
            }
            let record = self.record(layer)?;
            if !record.origin.is_elsewhere() && !self.is_packed(&record) {
                return Ok(None);
            }
            self.with_packed_form(&record, |source| {
                let (home, layer) = (self.home().clone(), *layer);
                let expected = record.diff_id;
                blocking_work(move || files::index(&home, &layer, expected, &source))
            })
            .await?;
        }
        Ok(Some(
            layers.iter().copied().map(StoredLayer::Index).collect(),
        ))
    }

    pub(super) async fn select_files(
        &self,
        layers: Vec<LayerId>,
        sources: Vec<SourceQuery>,
    ) -> Result<Vec<Selection>, StepError> {
        let helper = self.helper().await?;
        let layers = self.tree_view(&helper, &layers).await?;
        let home: PathBuf = self.home().root().to_owned();
        let request = Request::Select {
            home,
            layers,
            sources,
        };
        match request::call(&helper, &request).await? {
            Answer::Selected(selections) => Ok(selections),
            Answer::Failed(error) => Err(error.into()),
            _ => Err(request::wrong_answer()),
        }
    }
}

/// Runs work that blocks beside the runtime.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StepError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        if error.is_cancelled() {
            StepError::Cancelled
        } else {
            super::error::environment("internal error", None, error)
        }
    })
}

/// The same for work whose error is a [`WorkError`].
pub(super) async fn blocking_work<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, WorkError> + Send + 'static,
) -> Result<T, StepError> {
    Ok(blocking(work).await??)
}

/// Awaits all, side by side.
pub(super) async fn join_all<T>(
    futures: impl IntoIterator<Item = impl Future<Output = T>>,
) -> Vec<T> {
    futures::future::join_all(futures).await
}
