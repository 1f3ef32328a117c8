//! Layers as directories: what an overlay is put together from.
//!
//! A tree lies under the fingerprint of the id map that it was made with, for its files' owners
//! are that map's. A layer that has no tree for the present map gets one from its tar or blob,
//! which is fetched if it is not here.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_model::digest::LayerId;
use ashlar_model::executor::StepError;
use ashlar_model::layer::{LayerOrigin, LayerRecord};
use ashlar_store::home::lock::FileLock;
use tokio::sync::oneshot;

use super::error::of_store;
use super::request::{self, Request};
use super::stream::open_ends;
use super::views::join_all;
use super::{LocalExecutor, error, files};
use crate::layer::split::Beside;
use crate::sandbox::{IdMode, SandboxHelper};

impl LocalExecutor {
    /// Where the trees of these layers are, bottom first. Makes those that are missing, several
    /// at once.
    pub(super) async fn trees(
        &self,
        helper: &SandboxHelper,
        layers: &[LayerId],
    ) -> Result<Vec<PathBuf>, StepError> {
        let trees = join_all(layers.iter().map(|layer| self.tree(helper, layer))).await;
        let trees = trees.into_iter().collect::<Result<Vec<_>, _>>()?;
        for (depth, layer) in layers.iter().enumerate() {
            self.set_on_ground(helper, layer, &layers[..depth], &trees[..=depth])
                .await?;
        }
        Ok(trees)
    }

    /// Sets up what of a layer's tree depends on the layers below. `trees` are those of the layers
    /// below, and the layer's own.
    async fn set_on_ground(
        &self,
        helper: &SandboxHelper,
        layer: &LayerId,
        below: &[LayerId],
        trees: &[PathBuf],
    ) -> Result<(), StepError> {
        let home = self.home();
        let map = helper.id_map().fingerprint();
        let Some((tree, trees)) = trees.split_last() else {
            return Ok(());
        };
        let is_set = || home.is_tree_on(&map, layer, below);
        if below.is_empty() || home.layer_ground(layer).map_err(of_store)?.is_empty() || is_set() {
            return Ok(());
        }
        let _lock = self.lock(&format!("tree-{layer}")).await?;
        if is_set() {
            return Ok(());
        }
        let request = Request::SetOnGround {
            home: home.root().to_owned(),
            layer: *layer,
            tree: tree.clone(),
            below: trees.to_vec(),
        };
        request::call(helper, &request).await?.done()?;
        home.note_tree_on(&map, layer, below).map_err(of_store)
    }

    pub(super) fn tree_path(&self, helper: &SandboxHelper, layer: &LayerId) -> PathBuf {
        self.home().tree_path(&helper.id_map().fingerprint(), layer)
    }

    async fn tree(&self, helper: &SandboxHelper, layer: &LayerId) -> Result<PathBuf, StepError> {
        let path = self.tree_path(helper, layer);
        let map = helper.id_map().fingerprint();
        if path.is_dir() && self.home().is_tree_trusted(&map, layer) {
            return Ok(path);
        }
        let record = self.record(layer)?;
        let _lock = self.lock(&format!("tree-{layer}")).await?;
        if path.is_dir()
            && (self.home().is_tree_trusted(&map, layer)
                || self.is_tree_whole(helper, layer, &path).await?)
        {
            return Ok(path);
        }
        self.home().forget_ground(&map, layer);
        let record = &record;
        let warnings = match self.unpack_arriving(helper, record, &path).await? {
            Some(warnings) => warnings,
            None => {
                let unpack = |source| self.unpack(helper, record, source, path.clone());
                self.with_packed_form(record, unpack).await?
            }
        };
        self.home().trust_tree(&map, layer).map_err(of_store)?;
        self.warn(&warnings);
        Ok(path)
    }

    /// Unpacks a layer of another machine while it is fetched. `None` if it is here already, or is
    /// to be unpacked once more from what was fetched.
    async fn unpack_arriving(
        &self,
        helper: &SandboxHelper,
        record: &LayerRecord,
        tree: &Path,
    ) -> Result<Option<Vec<String>>, StepError> {
        let LayerOrigin::Shared { copies } = &record.origin else {
            return Ok(None);
        };
        if self.shared.is_none() || self.is_packed(record) {
            return Ok(None);
        }
        let scratch = self.home().scratch().map_err(of_store)?;
        let fifo = scratch.path().join("arriving");
        let (reader, writer) = open_ends(&fifo)
            .map_err(|e| error::environment(&format!("cannot make {}", fifo.display()), None, e))?;
        // The worker has not many threads: none is to wait for a layer that is not coming yet.
        let (begin, begun) = oneshot::channel();
        let turns = Arc::clone(&self.inner.arriving);
        let beside = Beside::new(move || {
            let turn = turns.try_acquire_owned().ok()?;
            begin.send(turn).ok()?;
            Some(writer)
        });
        let unpacking = async {
            let _turn = begun.await.ok()?;
            let unpacked = self.unpack(helper, record, fifo, tree.to_owned()).await;
            // If the worker has failed, nobody reads any more.
            drop(reader);
            unpacked.ok()
        };
        let fetching = self.fetch_shared(record, copies, Some(beside));
        let (fetched, unpacked) = tokio::join!(fetching, unpacking);
        // What stays is swept later.
        let _ignored = fs::remove_dir_all(scratch.path());
        match (fetched, unpacked) {
            // If it was not unpacked, it came too late, or only the second copy was whole.
            (Ok(_), unpacked) => Ok(unpacked),
            // What is lost is forgotten here and not by who fetched: the worker, which stores the
            // layer's index and tree, has answered by now.
            (Err(error), None) => {
                if matches!(error, StepError::LayersLost { .. }) {
                    self.forget_lost(record)?;
                }
                Err(error)
            }
            (Err(error), Some(_)) => {
                // It was not what its record says, which is forgotten only while there is no tree.
                self.home().forget_layer(&record.id).map_err(of_store)?;
                let paths = vec![tree.to_owned()];
                request::call(helper, &Request::Remove { paths })
                    .await?
                    .done()?;
                Err(error)
            }
        }
    }

    async fn unpack(
        &self,
        helper: &SandboxHelper,
        record: &LayerRecord,
        source: PathBuf,
        tree: PathBuf,
    ) -> Result<Vec<String>, StepError> {
        let scratch = self.home().scratch().map_err(of_store)?;
        let unpack = Request::Unpack(files::UnpackJob {
            home: self.home().root().to_owned(),
            layer: record.id,
            source,
            expected: record.diff_id,
            scratch: scratch.path().to_owned(),
            tree,
            single_owner: helper.id_map().mode() == IdMode::Single,
        });
        let outcome = request::call(helper, &unpack)
            .await
            .and_then(request::Answer::done);
        self.discard(helper, scratch.path()).await;
        outcome
    }

    pub(super) fn record(&self, layer: &LayerId) -> Result<LayerRecord, StepError> {
        self.home()
            .layer(layer)
            .map_err(of_store)?
            .ok_or_else(|| StepError::LayersLost {
                layers: vec![*layer],
            })
    }

    /// Waits for a lock without holding up the runtime.
    pub(super) async fn lock(&self, name: &str) -> Result<FileLock, StepError> {
        let path = self.home().root().join("locks").join(name);
        if let Some(lock) = FileLock::try_acquire(&path).map_err(of_store)? {
            return Ok(lock);
        }
        match tokio::task::spawn_blocking(move || FileLock::acquire(&path)).await {
            Ok(lock) => lock.map_err(of_store),
            Err(_) => Err(StepError::Cancelled),
        }
    }

    /// Moves a finished tree into place.
    ///
    /// A directory that its owner may not write to can only be moved by the namespace's root.
    pub(super) async fn keep_tree(
        &self,
        helper: &SandboxHelper,
        made: &Path,
        layer: &LayerId,
    ) -> Result<(), StepError> {
        let path = self.tree_path(helper, layer);
        if let Some(parent) = path.parent()
            && !parent.is_dir()
        {
            fs::create_dir_all(parent).map_err(|error| {
                error::environment(&format!("cannot create {}", parent.display()), None, error)
            })?;
        }
        if fs::rename(made, &path).is_err() {
            let request = Request::Move {
                from: made.to_owned(),
                to: path,
            };
            request::call(helper, &request).await?.done()?;
        }
        let map = helper.id_map().fingerprint();
        self.home().trust_tree(&map, layer).map_err(of_store)
    }
}
