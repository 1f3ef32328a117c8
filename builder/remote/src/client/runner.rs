//! Segments of a build, given to a farm.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ashlar_engine::driver::{Built, Prepared};
use ashlar_engine::graph::{Graph, NodeId};
use ashlar_engine::key::KeyScope;
use ashlar_engine::segment::{
    Segment, SegmentError, SegmentEvent, SegmentMade, SegmentRunner, SegmentWatch, moved,
};
use ashlar_model::cas::CasDigest;
use ashlar_model::digest::{BlobDigest, DiffId};
use ashlar_model::executor::{BoxFuture, StepError, StepExecutor};
use ashlar_model::reference::Reference;
use ashlar_model::step::Selection;
use ashlar_proto::wire::farm::{Event, event};
use ashlar_store::home::Home;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::{OnceCell, Semaphore};

use super::bases::Bases;
use super::contexts::{Contexts, Files, HintPath, files_of};
use super::farm::requirements;
use super::image::ImageOutcome;
use super::offer::Offer;
use super::operation::EventSink;
use super::translate::segment_event;
use super::{FarmClient, FarmError, Outcome, Placement, Session, Work, WorkKind};
use crate::context::{ContextError, ContextRef, Sent};
use crate::order::{self, BuildOrder, ContextNames, DeliveryOrder, Push, SegmentOutcome};

/// Segments that are given to a farm at once: each has two streams of the connections' few hundred.
const AT_ONCE: usize = 200;

/// Contexts that are sent at once. Each has several messages on their way.
const CONTEXTS: usize = 2;

/// The difference between two reports of how much was sent.
const REPORTED: u64 = 1 << 20;

/// What holds for all work of a build.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// Its name: random, 1 to 64 visible characters of ASCII.
    pub build: String,
    /// Larger numbers are less urgent.
    pub priority: i32,
    /// What workers must have beyond platform and isolation.
    pub labels: BTreeMap<String, String>,
}

/// Runs the segments of one build on a farm.
#[derive(Debug)]
pub struct FarmRunner {
    client: FarmClient,
    options: BuildOptions,
    contexts: Contexts,
    bases: Bases,
    home: Home,
    offer: Offer,
    session: OnceCell<Session>,
    turns: Semaphore,
}

impl FarmRunner {
    /// Gives segments to a farm. The store has the layers of bases, and the executor compresses those
    /// that no registry has.
    pub fn new(
        client: FarmClient,
        options: BuildOptions,
        offer: Offer,
        (home, executor): (Home, Arc<dyn StepExecutor>),
        hint_path: HintPath,
    ) -> Self {
        Self {
            contexts: Contexts::new(client.clone(), hint_path),
            bases: Bases::new(client.clone(), home.clone(), executor),
            home,
            client,
            options,
            offer,
            session: OnceCell::new(),
            turns: Semaphore::new(AT_ONCE),
        }
    }

    /// The same, where some contexts have been sent by somebody else: where the build's graph has
    /// their files, which, and what names them.
    #[must_use]
    pub fn knowing(
        self,
        contexts: impl IntoIterator<Item = (PathBuf, Arc<Selection>, ContextRef)>,
    ) -> Self {
        for (root, selection, reference) in contexts {
            self.contexts.know(root, selection, reference);
        }
        self
    }

    /// The same for blobs of base images that no registry is known to have.
    #[must_use]
    pub fn knowing_blobs(self, blobs: impl IntoIterator<Item = (BlobDigest, CasDigest)>) -> Self {
        for (digest, named) in blobs {
            self.bases.know(digest, named);
        }
        self
    }

    /// The farm.
    pub const fn client(&self) -> &FarmClient {
        &self.client
    }

    /// What holds for all work of the build.
    pub const fn options(&self) -> &BuildOptions {
        &self.options
    }

    /// What sending the build's contexts has cost.
    pub fn sent(&self) -> Sent {
        self.contexts.total()
    }

    /// Remembers what was learnt of the contexts for the next build.
    pub fn save_hints(&self, home: &Home) {
        self.contexts.save_hints(&home.meter());
    }

    async fn run_segment(
        &self,
        segment: &Segment,
        watch: Arc<dyn SegmentWatch>,
    ) -> Result<SegmentMade, SegmentError> {
        let warn = {
            let watch = Arc::clone(&watch);
            move |message: String| watch.event(SegmentEvent::Warning(message))
        };
        self.open_session(&segment.graph, &warn)
            .await
            .map_err(of_farm_error)?;
        self.send_inputs(segment, &watch).await?;
        let order = order::encode(segment, &self.home, self)
            .map_err(|error| of_farm_error(error.into()))?;
        let work = Work {
            kind: WorkKind::Segment,
            order: order.bytes.into(),
            placement: self.placement(segment),
            fresh: segment.no_cache,
            priority: self.options.priority,
        };
        let _turn = self.turns.acquire().await;
        let nodes: Arc<[NodeId]> = order.nodes.into();
        let events: EventSink = {
            let (watch, nodes) = (Arc::clone(&watch), Arc::clone(&nodes));
            Arc::new(move |event| {
                if let Some(event) = segment_event(event, &nodes) {
                    watch.event(event);
                }
            })
        };
        let running = self.client.run_in(self.session.get(), &work, events);
        let outcome = running.await.map_err(of_farm_error)?;
        read_outcome(&outcome, &nodes)
    }

    /// Has a worker send an image to registries that this build has made. `events` hears how far it
    /// is.
    pub async fn deliver(
        &self,
        built: &Built,
        pushes: &[Push],
        events: EventSink,
    ) -> Result<ImageOutcome, FarmError> {
        let prepared = built.prepared.as_ref();
        let prepared = prepared.ok_or(FarmError::Malformed("an image that no build has made"))?;
        let warn = warning_sink(&events);
        self.send_all(prepared, &warn).await?;
        let order = DeliveryOrder::encode(built, pushes, &self.home, self);
        let order = order.ok_or(FarmError::Malformed("an image that no build has made"))??;
        let inputs: Vec<(DiffId, u64)> = built.layers.iter().filter_map(moved).collect();
        let name = format!("pushing {}", names_of(pushes));
        let work = self.image_work(WorkKind::Delivery, order.bytes, prepared, (name, inputs));
        let running = self.client.run_in(self.session.get(), &work, events);
        let outcome = running.await?;
        ImageOutcome::decode(&outcome.bytes)
    }

    /// Gives a whole build to the farm, and leaves it there: gives the operation's name.
    pub async fn submit(
        &self,
        prepared: &Prepared,
        no_cache: bool,
        pushes: &[Push],
        warn: &(dyn Fn(String) + Send + Sync),
    ) -> Result<String, FarmError> {
        self.send_all(prepared, warn).await?;
        let order = BuildOrder::encode(prepared, no_cache, pushes, (&self.home, self))?;
        let name = match pushes {
            // Its results are wanted in the cache.
            [] => prepared.plan.graph.node(prepared.target).name.to_string(),
            pushes => names_of(pushes),
        };
        let mut work = self.image_work(WorkKind::Build, order.bytes, prepared, (name, Vec::new()));
        work.placement.light = true;
        work.fresh = no_cache;
        self.client.submit(&work).await
    }

    /// Sends all that workers may need for a build.
    async fn send_all(
        &self,
        prepared: &Prepared,
        warn: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), FarmError> {
        let graph = &prepared.plan.graph;
        self.open_session(graph, warn).await?;
        self.bases.send_all(graph, prepared.target).await?;
        stream::iter(files_of(graph, prepared.target))
            .map(|files| async move { self.contexts.send(&files, &|_| {}).await })
            .buffer_unordered(CONTEXTS)
            .try_collect::<Vec<ContextRef>>()
            .await?;
        Ok(())
    }

    fn image_work(
        &self,
        kind: WorkKind,
        order: Vec<u8>,
        prepared: &Prepared,
        (name, inputs): (String, Vec<(DiffId, u64)>),
    ) -> Work {
        Work {
            kind,
            order: order.into(),
            placement: Placement {
                inputs,
                requirements: self.requirements(&prepared.plan.scope),
                name,
                steps: u32::try_from(prepared.plan.graph.len()).unwrap_or(u32::MAX),
                build: self.options.build.clone(),
                light: false,
            },
            fresh: false,
            priority: self.options.priority,
        }
    }

    /// Opens the build's session, before the first work is given.
    async fn open_session(
        &self,
        graph: &Arc<Graph>,
        warn: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), FarmError> {
        let build = &self.options.build;
        let open = || async {
            let sealed = self.offer.seal(build, graph, &self.home).await?;
            self.offer.open(&self.client, build, sealed, warn).await
        };
        self.session.get_or_try_init(open).await?;
        Ok(())
    }

    /// Sends what the segment's worker may need and only this machine has.
    async fn send_inputs(
        &self,
        segment: &Segment,
        watch: &Arc<dyn SegmentWatch>,
    ) -> Result<(), SegmentError> {
        let bases = self.bases.send_all(&segment.graph, segment.tip);
        bases.await.map_err(of_farm_error)?;
        stream::iter(files_of(&segment.graph, segment.tip))
            .map(|files| self.send_context(files, watch))
            .buffer_unordered(CONTEXTS)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(())
    }

    async fn send_context(
        &self,
        files: Files,
        watch: &Arc<dyn SegmentWatch>,
    ) -> Result<(), SegmentError> {
        let reported = AtomicU64::new(0);
        let node = files.node;
        let progress = |sent: u64| {
            let before = reported.load(Ordering::Relaxed);
            if sent >= before + REPORTED {
                reported.store(sent, Ordering::Relaxed);
                watch.event(SegmentEvent::Progress {
                    node,
                    label: "sending files of the context".to_owned(),
                    done: sent,
                    total: None,
                });
            }
        };
        match self.contexts.send(&files, &progress).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_input() => Err(SegmentError::Step {
                node,
                error: StepError::Input {
                    hint: error.hint().map(str::to_owned),
                    message: error.to_string(),
                },
                last_output: Vec::new(),
            }),
            Err(error @ ContextError::Read { .. }) => Err(SegmentError::Step {
                node,
                error: StepError::Environment {
                    message: error.to_string(),
                    hint: None,
                    source: Some(Box::new(error)),
                },
                last_output: Vec::new(),
            }),
            Err(error) => Err(of_farm_error(error.into())),
        }
    }

    fn requirements(&self, scope: &KeyScope) -> BTreeMap<String, String> {
        let mut required = requirements(&scope.platform);
        required.insert("isolation".to_owned(), scope.isolation.clone());
        required.extend(self.options.labels.clone());
        required
    }

    fn placement(&self, segment: &Segment) -> Placement {
        Placement {
            inputs: segment.inputs.clone(),
            requirements: self.requirements(&segment.scope),
            name: segment.name().to_string(),
            steps: u32::try_from(segment.steps.len()).unwrap_or(u32::MAX),
            build: self.options.build.clone(),
            light: false,
        }
    }
}

impl SegmentRunner for FarmRunner {
    fn run<'a>(
        &'a self,
        segment: &'a Segment,
        watch: Arc<dyn SegmentWatch>,
    ) -> BoxFuture<'a, Result<SegmentMade, SegmentError>> {
        Box::pin(self.run_segment(segment, watch))
    }
}

impl ContextNames for FarmRunner {
    fn reference(&self, root: &Path, selection: &Arc<Selection>) -> Option<ContextRef> {
        self.contexts.reference(root, selection)
    }

    fn blob(&self, digest: &BlobDigest) -> Option<CasDigest> {
        self.bases.blob(digest)
    }
}

/// The names that an image gets in registries.
fn names_of(pushes: &[Push]) -> String {
    let names = pushes.iter().flat_map(|push| &push.options.names);
    let names: Vec<String> = names.map(Reference::familiar).collect();
    names.join(", ")
}

/// Warnings of this side, among those of the work.
fn warning_sink(events: &EventSink) -> impl Fn(String) + Send + Sync + use<> {
    let events = Arc::clone(events);
    move |message| {
        events(Event {
            node: None,
            kind: Some(event::Kind::Warning(message)),
        });
    }
}

/// What came of a segment, as the engine takes it.
fn read_outcome(outcome: &Outcome, nodes: &[NodeId]) -> Result<SegmentMade, SegmentError> {
    let read = SegmentOutcome::decode(&outcome.bytes);
    let read = read.map_err(|_| of_farm_error(FarmError::Malformed("an outcome of a segment")))?;
    read.into_result(nodes)
}

/// A farm's failure, as the engine takes it.
pub fn of_farm_error(error: FarmError) -> SegmentError {
    use std::error::Error as _;
    if let FarmError::Ended {
        code: tonic::Code::Cancelled,
        ..
    } = error
    {
        return SegmentError::Cancelled;
    }
    SegmentError::Farm {
        message: error.to_string(),
        hint: error.hint(),
        source: error.source().is_some().then(|| Box::new(error) as _),
    }
}
