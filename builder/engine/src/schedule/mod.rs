//! Makes a filesystem: looks its steps up, tip first, and runs what is missing.
//!
//! Demand goes from the wanted node down: a node whose definition key hits is done, and nothing
//! below it is looked at. A node that misses demands its inputs, all at once; when they are there
//! it asks for its content key, then runs. So independent branches run side by side, bounded by
//! `jobs`, and a chain runs in order, with no queue and no global lock.
//!
//! A step that has run is *ready* at once: its layer can be mounted. It is *settled* when its
//! layer has been read (index, content digest, and what the output needs) and its result is
//! stored under both keys. Settling goes on in the background while later steps run; the build
//! ends when all that ran has settled, even if another step failed: work done is work kept.
//!
//! Results may be shared with other machines ([`crate::share`]): then all that the local store lacks
//! is asked for in one go before anything is demanded, and what runs here is sent behind the build.
//! Layers whose files turn out to be nowhere are made again in another round (`losses`).
//!
//! When a step fails, steps that are already running end in peace and their results are kept;
//! steps that have not started are called off.

mod failure;
mod fate;
mod lookup;
mod losses;
mod output;
mod remote;
mod report;
mod runner;
mod settle;
mod sharing;
mod single_flight;
mod trace;

use std::sync::Arc;

use ashlar_model::executor::{PackRequest, StepExecutor};
use ashlar_model::layer::LayerRecord;
use ashlar_model::mount::{CacheMount, MountSpec};
use ashlar_store::home::Home;

pub use failure::{Failure, StepFailure};
pub use fate::Fate;

use crate::event::EventSink;
use crate::graph::{Graph, NodeId, NodeKind, PlannedOp};
use crate::key::NodeKeys;
use crate::plan::RemoteSources;
use crate::share::SharedResults;
use runner::{Lasting, Runner};

/// What a schedule needs of its surroundings.
#[derive(Clone)]
pub struct Surroundings {
    /// The local store.
    pub home: Home,
    /// Where files from elsewhere are had.
    pub remotes: Arc<dyn RemoteSources>,
    /// Where steps run.
    pub executor: Arc<dyn StepExecutor>,
    /// Results of other machines, if any are shared.
    pub shared: Option<Arc<dyn SharedResults>>,
    /// Who watches.
    pub events: Arc<dyn EventSink>,
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings")
            .field("home", &self.home)
            .finish_non_exhaustive()
    }
}

/// How to run a schedule.
#[derive(Debug, Clone)]
pub struct ScheduleOptions {
    /// How many steps may run at once.
    pub jobs: usize,
    /// Look no step up; results are stored all the same.
    pub no_cache: bool,
    /// What the output needs of each layer of the wanted filesystem.
    pub wanted: PackRequest,
    /// Whether the wanted blobs must be here in the end: an output writes them somewhere. Without,
    /// what is known of them does.
    pub blobs_here: bool,
}

/// What came of a schedule.
#[derive(Debug)]
pub struct Made {
    /// The layers of the filesystem that was wanted, bottom first, or why there are none.
    pub layers: Result<Vec<LayerRecord>, Failure>,
    /// What came of looking each step up, by node index; `None` if every step that was asked for
    /// was found at once in the local store.
    pub fates: Option<Vec<Fate>>,
}

/// Makes the filesystem `target`.
///
/// Dropping the future calls everything off.
pub async fn make(
    graph: Arc<Graph>,
    keys: Arc<[NodeKeys]>,
    target: NodeId,
    options: ScheduleOptions,
    surroundings: Surroundings,
) -> Made {
    let lasting = Lasting::new(&graph, &surroundings);
    let fates = Arc::clone(&lasting.fates);
    let layers = rounds(graph, keys, target, options, (surroundings, lasting)).await;
    Made {
        layers,
        fates: fates.take(),
    }
}

async fn rounds(
    graph: Arc<Graph>,
    keys: Arc<[NodeKeys]>,
    target: NodeId,
    options: ScheduleOptions,
    (surroundings, lasting): (Surroundings, Lasting),
) -> Result<Vec<LayerRecord>, Failure> {
    if options.no_cache {
        forget_caches(&graph, &surroundings).await?;
    }
    loop {
        let around = (surroundings.clone(), lasting.clone());
        let runner = Runner::new(
            Arc::clone(&graph),
            Arc::clone(&keys),
            target,
            options.clone(),
            around,
        );
        let guard = runner.abort_guard();
        let made = round(&runner, target).await;
        let lost = runner.lost();
        let (Err(failure), Some(lost)) = (&made, lost) else {
            return made;
        };
        // Whatever the build comes to, no result may lead here again.
        let lost_of_steps = lasting.losses.of_steps(&lost);
        for layer in &lost_of_steps {
            surroundings.home.forget_layer(layer)?;
        }
        if let Some(shared) = &surroundings.shared {
            shared.distrust(&lost_of_steps);
        }
        let again = lasting.losses.note_round(&lost) && !options.no_cache;
        if !again || failure.lost_layers().is_none() {
            runner.report_end();
            return made;
        }
        drop(guard);
    }
}

/// One attempt, from what is in the store.
async fn round(runner: &Arc<Runner>, target: NodeId) -> Result<Vec<LayerRecord>, Failure> {
    runner.survey(target).await?;
    let outcome = runner.demand(target).await;
    let settled = match outcome {
        Ok(ready) => ready.settled.await,
        Err(failure) => Err(failure),
    };
    // Whether it went well or not: let what runs come to its end, and keep it.
    runner.finish_all().await;
    if let Some(failure) = runner.first_failure() {
        return Err(failure);
    }
    let stack = settled
        .inspect_err(|failure| runner.note_failure(failure))?
        .stack;
    runner.complete(&stack).await
}

/// Empties the cache mounts of a build that uses nothing old, as BuildKit does: once, so that its
/// steps share what they make.
async fn forget_caches(graph: &Graph, surroundings: &Surroundings) -> Result<(), Failure> {
    let caches: Vec<CacheMount> = graph
        .nodes()
        .filter_map(|(_, node)| match &node.kind {
            NodeKind::Step {
                op: PlannedOp::Run(run),
                ..
            } => Some(&run.spec.mounts),
            _ => None,
        })
        .flatten()
        .filter_map(|mount| match mount {
            MountSpec::Cache(cache) => Some(cache.clone()),
            _ => None,
        })
        .collect();
    if caches.is_empty() {
        return Ok(());
    }
    let forgotten = surroundings.executor.forget_caches(caches).await;
    forgotten.map_err(|error| {
        Failure::Step(Arc::new(StepFailure {
            name: "emptying cache mounts".into(),
            range: None,
            error,
            last_output: Vec::new(),
        }))
    })
}

#[cfg(test)]
mod tests;
