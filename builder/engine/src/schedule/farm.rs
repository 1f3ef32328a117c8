//! Lets a farm of workers make what is missing.
//!
//! Nothing runs here. What is wanted is looked up in the farm's cache, in one go: the local store
//! does not count, for no worker can see it. What is missing is cut into [segments](crate::segment),
//! and each is given to the farm as soon as what it stands on is made. In the end the cache is asked
//! once more, for the filesystem that was wanted.
//!
//! A worker says that it made something; whether it did, the cache tells. A result that is not there
//! in the end was lost on the way: that is another round, as for [layers that are lost](super::losses).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use ashlar_model::digest::{DefinitionKey, DiffId, LayerId};
use ashlar_model::executor::StepError;
use ashlar_model::layer::LayerRecord;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, join_all};
use tracing::Instrument as _;
use tracing::field::Empty;

use super::failure::{Failure, FarmFailure, FarmFault};
use super::fate::Fate;
use super::fresh::Fresh;
use super::runner::{Runner, locked};
use super::watch::FarmWatch;
use crate::graph::{NodeId, NodeKind};
use crate::segment::{
    Piece, Segment, SegmentError, SegmentMade, SegmentRunner, SegmentWatch, View, cut, moved,
};

/// A farm of workers, and what to do without it.
#[derive(Debug, Clone)]
pub struct Farm {
    /// Where segments run.
    pub runner: Arc<dyn SegmentRunner>,
    /// Whether the build goes on here if the farm does not do its part.
    pub fall_back: bool,
}

impl Farm {
    /// Whether a build that it failed goes on here.
    pub(super) fn falls_back(&self, why: &FarmFailure) -> bool {
        self.fall_back && why.fault != FarmFault::CalledOff
    }
}

/// Layers and the bytes that each takes to move.
type Layers = Arc<[(DiffId, u64)]>;

/// The end of a piece: the layers that it gave, if it ended well.
type PieceEnd<'a> = Shared<BoxFuture<'a, Option<Layers>>>;

/// One round's work for a farm.
struct Work<'a> {
    farm: &'a Farm,
    view: View<'a>,
    pieces: Vec<Piece>,
    /// Nodes that are made in the same way as another one, by that one.
    twins: HashMap<NodeId, Vec<NodeId>>,
    after_loss: bool,
}

impl Runner {
    /// One attempt on a farm. `after_loss`: it is not the first.
    pub(super) async fn round_on_farm(
        self: &Arc<Self>,
        target: NodeId,
        farm: &Farm,
        after_loss: bool,
    ) -> Result<Vec<LayerRecord>, Failure> {
        let view = View::new(&self.graph, &self.keys);
        let found = self.found_by_farm(target).await?;
        let is_missing = |id: NodeId| !found.contains(&self.keys[id.index()].definition);
        let pieces = cut(&self.graph, &self.keys, target, &is_missing);
        let mut work = Work {
            farm,
            view,
            pieces,
            twins: HashMap::new(),
            after_loss,
        };
        self.tell_found(target, &mut work);
        let found = if work.pieces.is_empty() {
            found
        } else {
            self.run_pieces(&work).await;
            if let Some(failure) = self.first_failure() {
                return Err(failure);
            }
            self.ask_for(&work.view.parts(target)).await?
        };
        let made = match self.stack_of(&work.view.parts(target), &found) {
            Ok(stack) => self.complete(&stack).await,
            Err(failure) => Err(failure),
        };
        made.inspect_err(|failure| self.note_failure(failure))
    }

    /// Looks all that is wanted up in the farm's cache, the most wanted first. What is found is in
    /// the local store then.
    async fn found_by_farm(&self, target: NodeId) -> Result<HashSet<DefinitionKey>, Failure> {
        if self.options.fresh != Fresh::None {
            self.fates.begin();
            return Ok(HashSet::new());
        }
        let mut steps = Vec::new();
        let mut seen = HashSet::new();
        let mut pending = VecDeque::from([target]);
        let mut is_known_here = true;
        while let Some(id) = pending.pop_front() {
            if !seen.insert(self.keys[id.index()].definition) {
                continue;
            }
            let node = self.graph.node(id);
            if node.is_step() {
                if steps.is_empty() {
                    is_known_here = self.local_result(id)?.is_some();
                }
                steps.push(id);
            }
            pending.extend(node.inputs());
        }
        if !is_known_here {
            self.fates.begin();
        }
        self.ask_for(&steps).await
    }

    /// Asks the farm's cache for some of the nodes.
    async fn ask_for(&self, nodes: &[NodeId]) -> Result<HashSet<DefinitionKey>, Failure> {
        let mut found = HashSet::new();
        let Some(shared) = &self.surroundings.shared else {
            return Ok(found);
        };
        let mut seen = HashSet::new();
        let steps = nodes.iter().filter(|id| self.graph.node(**id).is_step());
        let definitions: Vec<DefinitionKey> = steps
            .map(|id| self.keys[id.index()].definition)
            .filter(|key| seen.insert(*key))
            .collect();
        if definitions.is_empty() {
            return Ok(found);
        }
        let span = tracing::info_span!("lookup", keys = definitions.len(), found = Empty);
        let probe = shared.probe(&definitions, &[]);
        let probed = probe.instrument(span.clone()).await;
        span.record("found", probed.definitions.len());
        let given: HashSet<DefinitionKey> = probed.definitions.into_iter().collect();
        locked(&self.survey.adopted).extend(&given);
        for id in nodes {
            let key = self.keys[id.index()].definition;
            if given.contains(&key) && self.local_result(*id)?.is_some() {
                found.insert(key);
            }
        }
        Ok(found)
    }

    /// Tells which steps are done and notes which are not. A result stands for all below it.
    fn tell_found(&self, target: NodeId, work: &mut Work<'_>) {
        let missing: HashSet<NodeId> = steps_of(&work.pieces).collect();
        for id in &missing {
            self.fates.note(*id, Fate::Missed);
        }
        *locked(&self.on_farm) = missing.iter().copied().collect();
        let mut wanted = vec![false; self.graph.len()];
        let mut pending = vec![target];
        while let Some(id) = pending.pop() {
            if !std::mem::replace(&mut wanted[id.index()], true) {
                pending.extend(self.graph.node(id).inputs());
            }
        }
        for (id, _) in self.graph.nodes().filter(|(id, _)| wanted[id.index()]) {
            let first = work.view.first(id);
            if !missing.contains(&first) {
                self.report.cached(id);
            } else if first != id {
                work.twins.entry(first).or_default().push(id);
                locked(&self.on_farm).push(id);
            }
        }
    }

    async fn run_pieces(&self, work: &Work<'_>) {
        let mut ends: Vec<PieceEnd<'_>> = Vec::with_capacity(work.pieces.len());
        for piece in &work.pieces {
            let before = piece.after.iter().filter_map(|place| ends.get(*place));
            let before = before.cloned().collect();
            let end = self.run_piece(work, piece, before);
            ends.push(end.boxed().shared());
        }
        join_all(ends).await;
    }

    /// Runs a piece when those before it have ended.
    async fn run_piece(
        &self,
        work: &Work<'_>,
        piece: &Piece,
        before: Vec<PieceEnd<'_>>,
    ) -> Option<Layers> {
        let before: Option<Vec<Layers>> = join_all(before).await.into_iter().collect();
        // Whoever failed has told.
        let before = before.filter(|_| !*self.stop.borrow())?;
        let inputs = self.inputs_of(work, piece, &before);
        let inputs = inputs
            .inspect_err(|failure| self.note_failure(failure))
            .ok()?;
        let segment = Segment {
            graph: Arc::clone(&self.graph),
            keys: Arc::clone(&self.keys),
            scope: Arc::clone(&self.scope),
            steps: piece.steps.clone(),
            tip: piece.tip,
            inputs,
            no_cache: self.options.fresh != Fresh::None,
            after_loss: work.after_loss,
        };
        let watch = Arc::new(FarmWatch::new(self, &piece.steps));
        let span = tracing::info_span!(
            parent: &self.span,
            "segment",
            key = %self.keys[piece.tip.index()].definition,
            steps = piece.steps.len(),
        );
        let run = work
            .farm
            .runner
            .run(&segment, Arc::clone(&watch) as Arc<dyn SegmentWatch>);
        let ended = tokio::select! {
            biased;
            ended = run.instrument(span) => Some(ended),
            () = watch.called_off() => None,
        };
        watch.end();
        match ended {
            Some(Ok(made)) => Some(self.take_made(work, piece, made, &watch)),
            Some(Err(error)) => {
                self.take_error(&segment, error, &watch);
                None
            }
            None => None,
        }
    }

    /// Takes what came of a piece that ended well.
    fn take_made(
        &self,
        work: &Work<'_>,
        piece: &Piece,
        made: SegmentMade,
        watch: &FarmWatch,
    ) -> Layers {
        let fates: HashMap<NodeId, Fate> = made.fates.into_iter().collect();
        for step in &piece.steps {
            match fates.get(step) {
                Some(Fate::Ran) => {
                    self.fates.note(*step, Fate::Ran);
                    self.report.finished(*step, watch.elapsed(*step));
                }
                Some(Fate::FoundByContent) => {
                    self.fates.note(*step, Fate::FoundByContent);
                    self.report.cached(*step);
                }
                // Somebody else ran it meanwhile.
                Some(Fate::Found | Fate::Missed) => {
                    self.fates.note(*step, Fate::Missed);
                    self.report.cached(*step);
                }
                None => self.report.cached(*step),
            }
            for twin in work.twins.get(step).into_iter().flatten() {
                self.report.cached(*twin);
            }
        }
        made.layers.into()
    }

    fn take_error(&self, segment: &Segment, error: SegmentError, watch: &FarmWatch) {
        let failure = match error {
            SegmentError::Step {
                node,
                error,
                last_output,
            } if !matches!(error, StepError::Cancelled) => {
                let last_output = match last_output.is_empty() {
                    true => watch.last_lines(node),
                    false => last_output,
                };
                let failure = self.step_failure(node, error, last_output);
                self.note_failure(&failure);
                self.report_failed(node, watch.elapsed(node), &failure);
                for (node, elapsed, error) in watch.also_failed(node) {
                    self.report.failed_because(node, elapsed, &error);
                }
                return;
            }
            SegmentError::Farm {
                message,
                hint,
                source,
            } => FarmFailure {
                message,
                hint,
                fault: FarmFault::NotDone,
                source,
            },
            SegmentError::Step { .. } | SegmentError::Cancelled => FarmFailure {
                message: format!("the farm was told to stop {}", segment.name()),
                hint: None,
                fault: FarmFault::CalledOff,
                source: None,
            },
        };
        self.note_failure(&Failure::Farm(Arc::new(failure)));
    }

    /// The layers that a piece stands on, as far as they are known: each once.
    fn inputs_of(
        &self,
        work: &Work<'_>,
        piece: &Piece,
        before: &[Layers],
    ) -> Result<Vec<(DiffId, u64)>, Failure> {
        let mut inputs = Vec::new();
        let mut seen = HashSet::new();
        let earlier = piece
            .after
            .iter()
            .filter_map(|place| work.pieces.get(*place));
        let made: HashSet<NodeId> = steps_of(earlier).collect();
        for need in piece.needs.iter().filter(|need| !made.contains(need)) {
            let stack = match &self.graph.node(*need).kind {
                NodeKind::Base(base) => base.layers.clone(),
                NodeKind::Step { .. } | NodeKind::Stack { .. } => {
                    let found = self.local_result(*need)?;
                    found.map(|found| found.stack).unwrap_or_default()
                }
            };
            for layer in stack {
                if let Some(record) = self.surroundings.home.layer(&layer)? {
                    inputs.extend(moved(&record));
                }
            }
        }
        inputs.extend(before.iter().flat_map(|layers| layers.iter().copied()));
        inputs.retain(|(diff_id, _)| seen.insert(*diff_id));
        Ok(inputs)
    }

    /// The layers of a filesystem of these parts, all of which were found.
    fn stack_of(
        &self,
        parts: &[NodeId],
        found: &HashSet<DefinitionKey>,
    ) -> Result<Vec<LayerId>, Failure> {
        let mut stack = Vec::new();
        for part in parts {
            match &self.graph.node(*part).kind {
                NodeKind::Base(base) => stack.extend(&base.layers),
                NodeKind::Step { .. } | NodeKind::Stack { .. } => {
                    let is_found = found.contains(&self.keys[part.index()].definition);
                    let result = match is_found {
                        true => self.local_result(*part)?,
                        false => None,
                    };
                    let result = result.ok_or_else(|| self.vanished(*part))?;
                    stack.extend(result.stack);
                }
            }
        }
        Ok(stack)
    }

    /// Why a result is not there that was made.
    fn vanished(&self, id: NodeId) -> Failure {
        let key = &self.keys[id.index()].definition;
        let shared = self.surroundings.shared.as_ref();
        let refusal = shared.and_then(|shared| shared.refusal(key));
        let name = &self.graph.node(id).name;
        let (message, hint, fault) = match refusal {
            // It would be refused again.
            Some(refusal) => (
                format!("the farm has made {name}, but its result is not taken: {refusal}"),
                "start the workers with --cache-sign, and trust their key here",
                FarmFault::NotDone,
            ),
            None => (
                format!("the farm has made {name}, but its cache does not have the result"),
                "can the cache be reached from here, and does it keep results for as long as a build takes?",
                FarmFault::Vanished,
            ),
        };
        Failure::Farm(Arc::new(FarmFailure {
            message,
            hint: Some(hint.to_owned()),
            fault,
            source: None,
        }))
    }
}

fn steps_of<'a>(pieces: impl IntoIterator<Item = &'a Piece>) -> impl Iterator<Item = NodeId> {
    pieces
        .into_iter()
        .flat_map(|piece| piece.steps.iter().copied())
}
