//! Runs the nodes that are demanded, each once.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ashlar_model::digest::{ContentDigest, DefinitionKey, LayerId};
use ashlar_model::executor::{PackRequest, StepError, StepRequest};
use ashlar_model::layer::LayerRecord;
use ashlar_model::mount::MountSpec;
use ashlar_model::step::{CopySource, CopySpec, StepOp};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, join_all};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::task::AbortHandle;
use tracing::{Instrument as _, Span};

use super::failure::{Failure, StepFailure};
use super::fate::{Fate, Fates};
use super::lookup::ContentLookup;
use super::losses::{Losses, RoundLosses};
use super::remote::{Fetched, Remotes};
use super::report::Reporter;
use super::settle::Inputs;
use super::sharing::{Survey, Turn};
use super::{ScheduleOptions, Surroundings};
use crate::graph::{Graph, NodeId, NodeKind, PlannedOp, PlannedSource};
use crate::key::{KeyScope, KeyedGraph, NodeKeys};
use crate::task::spawn;

/// A filesystem that can be mounted.
#[derive(Clone)]
pub(super) struct Ready {
    /// Its layers, bottom first.
    pub(super) stack: Arc<[LayerId]>,
    /// The same filesystem once its layers have been read.
    pub(super) settled: SettledFuture,
    /// Whether it stands on nobody's bare word.
    pub(super) proven: bool,
}

/// A filesystem whose layers have been read and whose result is stored.
#[derive(Clone)]
pub(super) struct Settled {
    /// Its layers, bottom first. Where a layer's content was known before, the earlier layer.
    pub(super) stack: Arc<[LayerId]>,
    /// The content of each.
    pub(super) contents: Arc<[ContentDigest]>,
}

pub(super) type SettledFuture = Shared<BoxFuture<'static, Result<Settled, Failure>>>;
type ReadyFuture = Shared<BoxFuture<'static, Result<Ready, Failure>>>;

/// What the rounds of a build have in common.
#[derive(Clone)]
pub(super) struct Lasting {
    pub(super) report: Arc<Reporter>,
    /// What was fetched from elsewhere.
    pub(super) remotes: Arc<Remotes>,
    pub(super) losses: Arc<Losses>,
    pub(super) fates: Arc<Fates>,
}

impl Lasting {
    pub(super) fn new(graph: &Graph, surroundings: &Surroundings) -> Self {
        Self {
            report: Arc::new(Reporter::new(graph, Arc::clone(&surroundings.events))),
            remotes: Arc::new(Remotes::new(graph.remotes().len())),
            losses: Arc::new(Losses::new(graph)),
            fates: Arc::new(Fates::new(graph)),
        }
    }
}

/// One round of a schedule: the only one, unless layers turn out to be lost.
pub(super) struct Runner {
    pub(super) graph: Arc<Graph>,
    pub(super) keys: Arc<[NodeKeys]>,
    pub(super) scope: Arc<KeyScope>,
    pub(super) options: ScheduleOptions,
    /// The build's.
    pub(super) span: Span,
    pub(super) surroundings: Surroundings,
    pub(super) report: Arc<Reporter>,
    /// Nodes whose layer becomes part of the output.
    lineage: Vec<bool>,
    /// Nodes whose filesystem a step of this build may mount.
    mounted: Vec<bool>,
    /// Of nodes that are made in the same way, the first stands for all.
    first_of: HashMap<DefinitionKey, NodeId>,
    pub(super) jobs: Semaphore,
    pub(super) remotes: Arc<Remotes>,
    pub(super) survey: Survey,
    /// What earlier rounds have lost.
    pub(super) losses: Arc<Losses>,
    /// What this one has lost.
    round: RoundLosses,
    /// Who noticed it, and when.
    losers: Mutex<Vec<(NodeId, Duration, Failure)>>,
    /// What came of each step's lookup.
    pub(super) fates: Arc<Fates>,
    /// Layers that may be read at once: each takes memory for compression.
    packs: Semaphore,
    /// Whether something has failed: nothing new is started.
    pub(super) stop: watch::Sender<bool>,
    /// The failure that the build reports.
    first_failure: Mutex<Option<Failure>>,
    demanded: Mutex<HashMap<NodeId, ReadyFuture>>,
    /// The steps that a farm was to make.
    pub(super) on_farm: Mutex<Vec<NodeId>>,
    settling: Mutex<Vec<SettledFuture>>,
    /// The tasks; `None` once they were called off.
    aborts: Mutex<Option<Vec<AbortHandle>>>,
}

/// Calls every task off when it is dropped.
pub(super) struct AbortGuard(Arc<Runner>);

impl Drop for AbortGuard {
    fn drop(&mut self) {
        for handle in locked(&self.0.aborts).take().into_iter().flatten() {
            handle.abort();
        }
        // The futures hold the runner: break the circle.
        locked(&self.0.demanded).clear();
        locked(&self.0.settling).clear();
    }
}

/// The lock's content; a panic elsewhere does not make it unusable, for each change is one call.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Runner {
    pub(super) fn new(
        plan: KeyedGraph,
        target: NodeId,
        options: ScheduleOptions,
        (surroundings, lasting): (Surroundings, Lasting),
    ) -> Arc<Self> {
        let KeyedGraph { graph, keys, scope } = plan;
        let mut lineage = vec![false; graph.len()];
        for id in graph.lineage(target) {
            lineage[id.index()] = true;
        }
        let mut mounted = mounted_nodes(&graph);
        let mut first_of = HashMap::new();
        for (id, _) in graph.nodes() {
            first_of.entry(keys[id.index()].definition).or_insert(id);
        }
        // What is made once must be good for all who share it.
        for (id, _) in graph.nodes() {
            let first = first_of[&keys[id.index()].definition];
            lineage[first.index()] |= lineage[id.index()];
            mounted[first.index()] |= mounted[id.index()];
        }
        let jobs = options.jobs.max(1);
        let Lasting {
            report,
            remotes,
            losses,
            fates,
        } = lasting;
        Arc::new(Self {
            graph,
            keys,
            scope,
            options,
            span: Span::current(),
            surroundings,
            report,
            lineage,
            mounted,
            first_of,
            remotes,
            survey: Survey::default(),
            losses,
            round: RoundLosses::default(),
            losers: Mutex::default(),
            fates,
            jobs: Semaphore::new(jobs),
            packs: Semaphore::new(jobs),
            stop: watch::Sender::new(false),
            first_failure: Mutex::default(),
            demanded: Mutex::default(),
            on_farm: Mutex::default(),
            settling: Mutex::default(),
            aborts: Mutex::new(Some(Vec::new())),
        })
    }

    pub(super) fn abort_guard(self: &Arc<Self>) -> AbortGuard {
        AbortGuard(Arc::clone(self))
    }

    /// The filesystem of a node; starts making it if nobody has.
    pub(super) fn demand(self: &Arc<Self>, id: NodeId) -> ReadyFuture {
        let first = self.first_of[&self.keys[id.index()].definition];
        if first != id {
            let runner = Arc::clone(self);
            return async move {
                let made = runner.demand(first).await;
                match &made {
                    Ok(_) => runner.report.cached(id),
                    Err(_) => runner.report_cancelled(id),
                }
                made
            }
            .boxed()
            .shared();
        }
        locked(&self.demanded)
            .entry(id)
            .or_insert_with(|| {
                let runner = Arc::clone(self);
                let task = spawn(async move { runner.make(id).await });
                self.note_abort(task.abort_handle());
                async move { task.await.unwrap_or_else(|error| Err(ended_early(&error))) }
                    .boxed()
                    .shared()
            })
            .clone()
    }

    /// Remembers how to call a task off. One that starts while all are called off is so at once.
    pub(super) fn note_abort(&self, handle: AbortHandle) {
        match locked(&self.aborts).as_mut() {
            Some(handles) => handles.push(handle),
            None => handle.abort(),
        }
    }

    /// Waits until all that was started has ended and settled.
    pub(super) async fn finish_all(&self) {
        let demanded: Vec<_> = locked(&self.demanded).values().cloned().collect();
        let demanded = join_all(demanded).await;
        let settling = std::mem::take(&mut *locked(&self.settling));
        let settled = join_all(settling).await;
        // Most are noted by now, but a task that died has told nobody.
        let failures = demanded.into_iter().filter_map(Result::err);
        for failure in failures.chain(settled.into_iter().filter_map(Result::err)) {
            self.note_failure(&failure);
        }
    }

    /// The records of a filesystem's layers, with all that the output wants of them.
    pub(super) async fn complete(&self, stack: &[LayerId]) -> Result<Vec<LayerRecord>, Failure> {
        let complete = stack.iter().enumerate().map(|(depth, id)| async move {
            let record = self.record(id)?;
            let missing = self.missing(&record, &self.options.wanted);
            if !record.origin.is_of_step() || missing == PackRequest::default() {
                return Ok(record);
            }
            let below = stack[..depth].to_vec();
            let packed = self.pack(*id, below, missing).await;
            packed.map_err(|error| {
                Failure::Step(Arc::new(StepFailure {
                    node: None,
                    name: "preparing layers for the output".into(),
                    range: None,
                    error,
                    last_output: Vec::new(),
                }))
            })
        });
        let complete = join_all(complete).await;
        // All that is lost is lost in one round.
        for failure in complete.iter().filter_map(|one| one.as_ref().err()) {
            self.note_failure(failure);
        }
        complete.into_iter().collect()
    }

    /// What the output wants of a layer and is not known yet, or not here though it must be. What
    /// another machine knows of its layer does as well: nothing is fetched to find it out again.
    pub(super) fn missing(&self, record: &LayerRecord, wanted: &PackRequest) -> PackRequest {
        let mut missing = record.missing(wanted);
        if self.options.blobs_here {
            let blobs = self.surroundings.home.blobs();
            let is_away = |form| {
                let blob = record.blob(form);
                blob.is_some_and(|blob| !blobs.has(&blob.descriptor))
            };
            let away = wanted.blobs.iter().copied().filter(|form| is_away(*form));
            missing.blobs.extend(away);
        }
        missing
    }

    /// What is known of a layer.
    pub(super) fn record(&self, id: &LayerId) -> Result<LayerRecord, Failure> {
        let record = self.surroundings.home.layer(id)?;
        record.ok_or_else(|| Failure::lost(*id))
    }

    /// What is known of some layers.
    pub(super) fn records(&self, ids: &[LayerId]) -> Result<Vec<LayerRecord>, Failure> {
        ids.iter().map(|id| self.record(id)).collect()
    }

    /// Reads a layer, when it is its turn.
    pub(super) async fn pack(
        &self,
        layer: LayerId,
        below: Vec<LayerId>,
        wanted: PackRequest,
    ) -> Result<LayerRecord, StepError> {
        // The semaphore is never closed.
        let turn = self.packs.acquire().await;
        let _turn = turn.map_err(|_| StepError::Cancelled)?;
        self.surroundings.executor.pack(layer, below, wanted).await
    }

    async fn make(self: &Arc<Self>, id: NodeId) -> Result<Ready, Failure> {
        let span = self.step_span(id);
        let made = self.find_or_run(id).instrument(span.clone()).await;
        self.end_span(id, &span, &made);
        match &made {
            Ok(_) => {}
            Err(Failure::Cancelled) => self.report_cancelled(id),
            Err(failure) => {
                self.note_failure(failure);
                self.report_failed(id, Duration::ZERO, failure);
            }
        }
        made
    }

    async fn find_or_run(self: &Arc<Self>, id: NodeId) -> Result<Ready, Failure> {
        let node = self.graph.node(id);
        let (parent, op) = match &node.kind {
            NodeKind::Base(base) => {
                return Ok(self.ready_from_store(base.layers.as_slice().into(), true));
            }
            NodeKind::Stack { below, above } => return self.stack(*below, *above).await,
            NodeKind::Step { parent, op } => (*parent, op),
        };
        let keys = self.keys[id.index()];
        if let Some((ready, word)) = self.look_up_definition(id)? {
            self.report_cached_lineage(id);
            self.offer(id, &ready.stack, word)?;
            return Ok(ready);
        }
        self.fates.note(id, Fate::Missed);
        let inputs = join_all(
            std::iter::once(parent)
                .chain(node.source_nodes())
                .map(|input| self.demand(input)),
        );
        let inputs = inputs.await.into_iter().collect::<Result<Vec<_>, _>>();
        let Ok(mut inputs) = inputs else {
            // The input has told why.
            return Err(Failure::Cancelled);
        };
        let parent = inputs.remove(0);
        let sources = inputs;

        let source_contents = match self.look_up_content(id, op, &parent, &sources).await? {
            ContentLookup::Hit(ready) => {
                self.fates.note(id, Fate::FoundByContent);
                self.report.cached(id);
                return Ok(ready);
            }
            ContentLookup::Miss { source_contents } => source_contents,
        };

        let lock = self.lock_definition(id, &keys.definition).await?;
        if let Some((ready, _)) = self.look_up_definition(id)? {
            self.report.cached(id);
            return Ok(ready);
        }
        let (permit, lease) = match self.turn(id).await? {
            Turn::Run { permit, lease } => (permit, lease),
            Turn::Made => {
                if let Some((ready, _)) = self.look_up_definition(id)? {
                    self.report.cached(id);
                    return Ok(ready);
                }
                (self.place().await?, None)
            }
        };
        let layer = self.run(id, op, (&parent, &sources), permit).await?;
        self.losses.note_made(layer);
        self.fates.note(id, Fate::Ran);
        let stack: Arc<[LayerId]> = parent.stack.iter().copied().chain([layer]).collect();
        let proven = parent.proven && sources.iter().all(|source| source.proven);
        let settled = self.start_settling(
            id,
            layer,
            Inputs {
                parent,
                sources,
                source_contents,
            },
            (lock, lease),
        );
        locked(&self.settling).push(settled.clone());
        Ok(Ready {
            stack,
            settled,
            proven,
        })
    }

    /// The layers of one filesystem on those of another. Both are made side by side.
    async fn stack(self: &Arc<Self>, below: NodeId, above: NodeId) -> Result<Ready, Failure> {
        let (below, above) = futures::join!(self.demand(below), self.demand(above));
        let (below, above) = (below?, above?);
        let stack = below.stack.iter().chain(above.stack.iter()).copied();
        let stack = stack.collect();
        let proven = below.proven && above.proven;
        let settled = async move {
            let (below, above) = (below.settled.await?, above.settled.await?);
            let stack = below.stack.iter().chain(above.stack.iter()).copied();
            let contents = below.contents.iter().chain(above.contents.iter()).copied();
            Ok(Settled {
                stack: stack.collect(),
                contents: contents.collect(),
            })
        };
        let settled = settled.boxed().shared();
        Ok(Ready {
            stack,
            settled,
            proven,
        })
    }

    async fn run(
        self: &Arc<Self>,
        id: NodeId,
        op: &PlannedOp,
        (parent, sources): (&Ready, &[Ready]),
        _permit: SemaphorePermit<'_>,
    ) -> Result<LayerId, Failure> {
        self.report.started(id);
        let output = self.report.output(id);
        let started = Instant::now();
        let fetched = match self.fetch_sources(op, &output).await {
            Ok(fetched) => fetched,
            Err(error) => {
                let failure = self.step_failure(id, error, output.last_lines());
                self.report_failed(id, started.elapsed(), &failure);
                return Err(failure);
            }
        };
        let request = StepRequest {
            op: step_op(op, sources, fetched),
            parent: parent.stack.to_vec(),
            will_be_mounted: self.mounted[id.index()],
            wanted: self.wanted_of(id),
        };
        let outcome = self
            .surroundings
            .executor
            .execute(request, output.clone())
            .instrument(tracing::info_span!("execute"))
            .await;
        let elapsed = started.elapsed();
        match outcome {
            Ok(outcome) => {
                self.report.finished(id, elapsed);
                Ok(outcome.layer)
            }
            Err(error) => {
                let failure = self.step_failure(id, error, output.last_lines());
                self.report_failed(id, elapsed, &failure);
                Err(failure)
            }
        }
    }

    /// What the output wants of a node's own layer.
    pub(super) fn wanted_of(&self, id: NodeId) -> PackRequest {
        if self.lineage[id.index()] {
            self.options.wanted.clone()
        } else {
            PackRequest::default()
        }
    }

    pub(super) fn step_failure(&self, id: NodeId, error: StepError, last: Vec<String>) -> Failure {
        let node = self.graph.node(id);
        Failure::Step(Arc::new(StepFailure {
            node: Some(id),
            name: Arc::clone(&node.name),
            range: node.range,
            error,
            last_output: last,
        }))
    }

    /// Lets nothing new start, and remembers the failure if it is the first of those that say most.
    pub(super) fn note_failure(&self, failure: &Failure) {
        if matches!(failure, Failure::Cancelled) {
            return;
        }
        self.round.note(failure);
        let mut first = locked(&self.first_failure);
        if first
            .as_ref()
            .is_none_or(|first| first.weight() < failure.weight())
        {
            *first = Some(failure.clone());
        }
        drop(first);
        self.stop.send_replace(true);
    }

    /// What this round has lost.
    pub(super) fn lost(&self) -> Option<HashSet<LayerId>> {
        self.round.layers()
    }

    /// Says that a step was called off, unless there may be another round, which makes it.
    fn report_cancelled(&self, id: NodeId) {
        if !self.round.any() {
            self.report.cancelled(id);
        }
    }

    /// Says that a step failed, unless there may be another round, which makes it.
    pub(super) fn report_failed(&self, id: NodeId, elapsed: Duration, failure: &Failure) {
        if failure.lost_layers().is_some() {
            locked(&self.losers).push((id, elapsed, failure.clone()));
            return;
        }
        match failure {
            Failure::Step(step) => self.report.failed(id, elapsed, &step.error),
            failure => self.report.failed(id, elapsed, failure),
        }
    }

    /// Says that there is no other round: what found layers lost has failed, and what was demanded
    /// and has not ended is called off.
    pub(super) fn report_end(&self) {
        for (id, elapsed, failure) in locked(&self.losers).drain(..) {
            self.report.failed(id, elapsed, &failure);
        }
        for id in locked(&self.demanded).keys() {
            self.report.cancelled(*id);
        }
        for id in locked(&self.on_farm).iter() {
            self.report.cancelled(*id);
        }
    }

    /// Waits until something has failed.
    pub(super) async fn stopped(&self) {
        // The sender is ours, so there is no error.
        drop(self.stop.subscribe().wait_for(|stop| *stop).await);
    }

    /// The first failure, if anything failed: what was called off after it is no news.
    pub(super) fn first_failure(&self) -> Option<Failure> {
        locked(&self.first_failure).clone()
    }

    /// Reports a node and all that it was made from as cached, but for what was demanded for
    /// itself and will tell.
    fn report_cached_lineage(&self, id: NodeId) {
        // Held to the end: what is demanded from now on speaks after us.
        let demanded = locked(&self.demanded);
        let mut cached = vec![false; self.graph.len()];
        let mut pending = vec![id];
        while let Some(next) = pending.pop() {
            if !std::mem::replace(&mut cached[next.index()], true) {
                let inputs = self.graph.node(next).inputs();
                pending.extend(inputs.iter().filter(|one| !demanded.contains_key(one)));
            }
        }
        for (id, _) in self.graph.nodes().filter(|(id, _)| cached[id.index()]) {
            self.report.cached(id);
        }
    }
}

/// The op with its sources' filesystems, and what was fetched, filled in.
fn step_op(op: &PlannedOp, sources: &[Ready], fetched: Vec<Fetched>) -> StepOp {
    match op {
        PlannedOp::Run(run) => {
            let mut spec = run.spec.clone();
            let shown = spec.mounts.iter_mut().filter_map(MountSpec::source_mut);
            for (source, ready) in shown.zip(sources) {
                source.layers = ready.stack.to_vec();
            }
            StepOp::Run(spec)
        }
        PlannedOp::MakeDirectory(directory) => StepOp::MakeDirectory(directory.clone()),
        PlannedOp::Copy(copy) => {
            let mut stacks = sources.iter().map(|ready| ready.stack.to_vec());
            let mut fetched = fetched.into_iter();
            let sources = copy
                .sources
                .iter()
                .map(|source| match source {
                    PlannedSource::Directory { root, selection } => CopySource::Directory {
                        root: root.clone(),
                        selection: Arc::clone(selection),
                    },
                    PlannedSource::Node { query, .. } => CopySource::Layers {
                        layers: stacks.next().unwrap_or_default(),
                        query: query.clone(),
                    },
                    PlannedSource::Remote { unpack, .. } => {
                        let Fetched { root, selection } = fetched.next().unwrap_or_default();
                        CopySource::Fetched {
                            root,
                            selection,
                            unpack: *unpack,
                        }
                    }
                    PlannedSource::Inline { name, data } => CopySource::Inline {
                        name: name.clone(),
                        data: data.clone(),
                    },
                })
                .collect();
            StepOp::Copy(CopySpec {
                sources,
                destination: copy.destination.clone(),
                owner: copy.owner.clone(),
                mode: copy.mode.clone(),
                unpack: copy.unpack,
                created: None,
            })
        }
    }
}

/// Nodes whose filesystem some RUN of the graph stands on or mounts, or some COPY reads.
fn mounted_nodes(graph: &Graph) -> Vec<bool> {
    let mut mounted = vec![false; graph.len()];
    for (id, node) in graph.nodes().rev() {
        let is_mounted = mounted[id.index()];
        match &node.kind {
            NodeKind::Base(_) => {}
            NodeKind::Step { parent, op } => {
                let runs = matches!(op, PlannedOp::Run(_));
                mounted[parent.index()] |= runs || is_mounted;
            }
            NodeKind::Stack { below, above } => {
                mounted[below.index()] |= is_mounted;
                mounted[above.index()] |= is_mounted;
            }
        }
        for source in node.source_nodes() {
            mounted[source.index()] = true;
        }
    }
    mounted
}

pub(super) fn ended_early(error: &tokio::task::JoinError) -> Failure {
    if error.is_cancelled() {
        Failure::Cancelled
    } else {
        Failure::Internal(error.to_string().into())
    }
}

/// The content of each layer. Every layer that a result names has been read.
pub(super) fn contents_of(records: &[LayerRecord]) -> Result<Vec<ContentDigest>, Failure> {
    records
        .iter()
        .map(|record| {
            record.content.ok_or_else(|| {
                Failure::Internal(format!("layer {} has no content digest", record.id).into())
            })
        })
        .collect()
}
