//! Trees that are not what their layers' indexes say.
//!
//! When a tree is first used after a start of the machine it is looked at, by what `stat` tells.
//! When bytes of a file turn out to differ, on their way into a tar, all trees in play are read.
//! What is damaged is dropped: a layer that is also there in a packed form, or can be fetched, is
//! unpacked again at once; another is lost, and with it the results that name it, so that the build
//! makes it anew. The store's module doc says what is promised.

use std::path::{Path, PathBuf};

use ashlar_model::digest::LayerId;
use ashlar_model::executor::StepError;
use ashlar_model::layer::LayerRecord;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::LocalExecutor;
use super::error::of_store;
use super::files::Scrutiny;
use super::request::{self, Answer, Request};
use crate::sandbox::{IdMode, SandboxHelper};

/// What came of reading the store's trees.
#[derive(Debug, Default)]
pub struct ExaminedTrees {
    /// How many were read.
    pub read: usize,
    /// How many were made for other id maps, and cannot be read with this one.
    pub skipped: usize,
    /// Those that are damaged.
    pub damaged: Vec<(LayerId, PathBuf)>,
}

/// Trees that are read at once.
const READ_AT_ONCE: usize = 4;

impl LocalExecutor {
    /// Reads every file of the store's trees; with `remove`, removes trees that are damaged, and
    /// forgets layers that have no other form. Starts the sandbox if there are trees.
    pub async fn examine_trees(&self, remove: bool) -> Result<ExaminedTrees, StepError> {
        let mut examined = ExaminedTrees::default();
        let maps = self.home().tree_id_maps().map_err(of_store)?;
        let mut layers = Vec::new();
        for id in self.home().layer_ids().map_err(of_store)? {
            if self.home().layer(&id).map_err(of_store)?.is_some() {
                layers.push(id);
            }
        }
        let is_tree = |map: &str, id: &LayerId| self.home().tree_path(map, id).is_dir();
        if !maps
            .iter()
            .any(|map| layers.iter().any(|id| is_tree(map, id)))
        {
            return Ok(examined);
        }
        let helper = self.helper().await?;
        let own = helper.id_map().fingerprint();
        for map in maps.iter().filter(|map| **map != own) {
            examined.skipped += layers.iter().filter(|id| is_tree(map, id)).count();
        }
        let trees = layers.into_iter().filter(|id| is_tree(&own, id));
        let mut read = stream::iter(trees)
            .map(|id| {
                let (helper, tree) = (&helper, self.home().tree_path(&own, &id));
                async move {
                    let alone = vec![(id, tree.clone())];
                    let damaged = self.damaged_of(helper, alone, true).await?;
                    Ok::<_, StepError>((id, tree, !damaged.is_empty()))
                }
            })
            .buffer_unordered(READ_AT_ONCE);
        while let Some((id, tree, is_damaged)) = read.try_next().await? {
            examined.read += 1;
            if is_damaged {
                if remove {
                    self.drop_tree(&helper, &self.record(&id)?, &tree).await?;
                }
                examined.damaged.push((id, tree));
            }
        }
        Ok(examined)
    }

    /// Looks for damage after reading these trees failed. The error if there is none.
    pub(super) async fn blame_trees(
        &self,
        helper: &SandboxHelper,
        layers: Vec<(LayerId, PathBuf)>,
        error: StepError,
    ) -> StepError {
        match self.drop_damaged_trees(helper, layers).await {
            Ok(Some(layers)) => StepError::LayersLost { layers },
            Ok(None) | Err(_) => error,
        }
    }

    /// Removes trees that are damaged. Gives the layers that are lost with them: there may be none,
    /// where all of them have another form. `None` if no tree is damaged.
    async fn drop_damaged_trees(
        &self,
        helper: &SandboxHelper,
        layers: Vec<(LayerId, PathBuf)>,
    ) -> Result<Option<Vec<LayerId>>, StepError> {
        let found = self.damaged_of(helper, layers.clone(), true).await?;
        let mut lost = Vec::new();
        for (id, tree) in layers.iter().filter(|(id, _)| found.contains(id)) {
            if !self.drop_tree(helper, &self.record(id)?, tree).await? {
                lost.push(*id);
            }
        }
        Ok((!found.is_empty()).then_some(lost))
    }

    /// Which of these trees are damaged, by what `stat` tells or, with `contents`, by every byte.
    pub(super) async fn damaged_of(
        &self,
        helper: &SandboxHelper,
        trees: Vec<(LayerId, PathBuf)>,
        contents: bool,
    ) -> Result<Vec<LayerId>, StepError> {
        let request = Request::Check {
            home: self.home().root().to_owned(),
            trees,
            scrutiny: Scrutiny {
                contents,
                owners: helper.id_map().mode() != IdMode::Single,
            },
        };
        match request::call(helper, &request).await? {
            Answer::Damaged(damaged) => Ok(damaged),
            Answer::Failed(error) => Err(error.into()),
            _ => Err(request::wrong_answer()),
        }
    }

    /// Removes a damaged tree. False if that was the last form of its layer, which is forgotten.
    pub(super) async fn drop_tree(
        &self,
        helper: &SandboxHelper,
        record: &LayerRecord,
        tree: &Path,
    ) -> Result<bool, StepError> {
        let is_left = record.origin.is_elsewhere() || self.is_packed(record);
        // First: a layer that is known must have its files.
        if !is_left {
            self.home().forget_layer(&record.id).map_err(of_store)?;
        }
        self.warn(&[format!(
            "{} was damaged and has been removed from the store",
            tree.display()
        )]);
        let paths = vec![tree.to_owned()];
        request::call(helper, &Request::Remove { paths })
            .await?
            .done()?;
        Ok(is_left)
    }

    /// Looks at a tree that is used for the first time since the machine was started. False if it
    /// was damaged and has to be made again from another form of its layer.
    pub(super) async fn is_tree_whole(
        &self,
        helper: &SandboxHelper,
        layer: &LayerId,
        tree: &Path,
    ) -> Result<bool, StepError> {
        let map = helper.id_map().fingerprint();
        let record = self.record(layer)?;
        let indexed = self.home().layer_index(layer).map_err(of_store)?.is_some();
        let whole = if indexed {
            let trees = vec![(*layer, tree.to_owned())];
            self.damaged_of(helper, trees, false).await?.is_empty()
        } else {
            // Nothing says what it should be. Another form does; without one, it has to do.
            !record.origin.is_elsewhere() && !self.is_packed(&record)
        };
        if whole {
            self.home().trust_tree(&map, layer).map_err(of_store)?;
        } else if !self.drop_tree(helper, &record, tree).await? {
            return Err(StepError::LayersLost {
                layers: vec![*layer],
            });
        }
        Ok(whole)
    }
}
