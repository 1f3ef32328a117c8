//! Reads a layer that was just made and stores the step's result.

use std::sync::Arc;

use ashlar_model::digest::{ContentDigest, LayerId};
use ashlar_model::executor::PackRequest;
use ashlar_model::layer::LayerRecord;
use ashlar_store::home::lock::FileLock;
use ashlar_store::home::results::{ContentResult, DefinitionResult};
use futures::FutureExt as _;

use super::failure::Failure;
use super::fresh::Audience;
use super::lookup::made_from;
use super::runner::{Ready, Runner, Settled, SettledFuture, ended_early};
use crate::graph::{NodeId, NodeKind};
use crate::key::{content_key, layer_identity};
use crate::share::StepLease;
use crate::task::spawn;

/// What a step was made from.
pub(super) struct Inputs {
    pub(super) parent: Ready,
    /// The other filesystems that it read.
    pub(super) sources: Vec<Ready>,
    /// What it took from each, if that was looked at already.
    pub(super) source_contents: Option<Vec<ContentDigest>>,
}

impl Runner {
    /// Settles a layer in the background. The lock is held until the result is stored, so that
    /// whoever waits for it then finds the result; the lease until other machines find it.
    pub(super) fn start_settling(
        self: &Arc<Self>,
        id: NodeId,
        layer: LayerId,
        inputs: Inputs,
        (lock, lease): (Option<FileLock>, Option<Box<dyn StepLease>>),
    ) -> SettledFuture {
        let runner = Arc::clone(self);
        let task = spawn(async move {
            let settled = runner.settle(id, layer, inputs, lease).await;
            if let Err(failure) = &settled {
                runner.note_failure(failure);
            }
            drop(lock);
            settled
        });
        self.note_abort(task.abort_handle());
        async move { task.await.unwrap_or_else(|error| Err(ended_early(&error))) }
            .boxed()
            .shared()
    }

    async fn settle(
        &self,
        id: NodeId,
        layer: LayerId,
        inputs: Inputs,
        lease: Option<Box<dyn StepLease>>,
    ) -> Result<Settled, Failure> {
        let Inputs {
            parent,
            sources,
            source_contents,
        } = inputs;
        let home = &self.surroundings.home;
        let wanted = self.wanted_of(id);

        let word = made_from(parent.proven && sources.iter().all(|source| source.proven));
        let below = parent.stack.to_vec();
        let record = self
            .pack(layer, below.clone(), wanted.clone())
            .await
            .map_err(|error| self.step_failure(id, error, Vec::new()))?;
        let content = record.content.ok_or_else(|| {
            Failure::Internal(format!("layer {layer} was packed without content digest").into())
        })?;
        let identity = match &self.graph.node(id).kind {
            NodeKind::Step { op, .. } => layer_identity(op, &content),
            NodeKind::Base(_) | NodeKind::Stack { .. } => content,
        };
        let anew = self.runs_anew(id);
        let kept = self
            .keep_earlier((layer, anew), &identity, below, wanted)
            .await?;

        let parent = parent.settled.clone().await?;
        let settled = Settled {
            stack: parent.stack.iter().copied().chain([kept]).collect(),
            contents: parent.contents.iter().copied().chain([content]).collect(),
        };
        let keys = &self.keys[id.index()];
        let result = DefinitionResult {
            stack: settled.stack.to_vec(),
            word: word.clone(),
        };
        home.put_definition_result(&keys.definition, &result)?;
        if let (Some(instruction), NodeKind::Step { op, .. }) =
            (keys.instruction, &self.graph.node(id).kind)
        {
            let source_contents = match source_contents {
                Some(contents) => contents,
                None => self.source_contents(id, op, &sources).await?,
            };
            let key = content_key(&instruction, &parent.contents, &source_contents);
            let result = ContentResult {
                layer: kept,
                word: word.clone(),
            };
            home.put_content_result(&instruction, &key, &result)?;
            self.publish(id, key, (&settled.stack, word), lease);
        }
        Ok(settled)
    }

    /// The layer that stands for some content: one that had it before, so that images keep their
    /// layers. But not if its files are lost, and not if the user wants all made anew: then that
    /// is how a damaged store is healed.
    async fn keep_earlier(
        &self,
        (layer, anew): (LayerId, bool),
        content: &ContentDigest,
        below: Vec<LayerId>,
        wanted: PackRequest,
    ) -> Result<LayerId, Failure> {
        let home = &self.surroundings.home;
        if !anew {
            let earlier = home.note_content(content, &layer)?;
            if earlier == layer || self.is_good(earlier, below, wanted).await? {
                return Ok(earlier);
            }
        }
        home.replace_content(content, &layer)?;
        Ok(layer)
    }

    /// Whether an earlier layer can be worked with, and has what is wanted of it. What can be had
    /// from elsewhere is not fetched for the answer.
    async fn is_good(
        &self,
        layer: LayerId,
        below: Vec<LayerId>,
        wanted: PackRequest,
    ) -> Result<bool, Failure> {
        if self.losses.hit(&[layer]) {
            return Ok(false);
        }
        let record = self.surroundings.home.layer(&layer)?;
        if self.options.audience == Audience::FarmAfterLoss && !self.is_for_audience(&[layer])? {
            return Ok(false);
        }
        let is_elsewhere = |record: &LayerRecord| record.origin.is_elsewhere();
        let shared = self.surroundings.shared.as_ref();
        if record.as_ref().is_some_and(is_elsewhere)
            && shared.is_some_and(|shared| shared.demands_proof())
        {
            // Only others say what it contains.
            return Ok(false);
        }
        let known = record.is_some_and(|record| {
            record.origin.is_elsewhere()
                && record.content.is_some()
                && self.missing(&record, &wanted) == PackRequest::default()
        });
        Ok(known || self.pack(layer, below, wanted).await.is_ok())
    }
}
