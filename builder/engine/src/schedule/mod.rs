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
//! With a farm of workers nothing runs here: see `farm`.
//!
//! When a step fails, steps that are already running end in peace and their results are kept;
//! steps that have not started are called off.

mod failure;
mod farm;
mod fate;
mod fresh;
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
mod watch;

use std::collections::HashSet;
use std::sync::Arc;

use ashlar_model::digest::LayerId;
use ashlar_model::executor::{PackRequest, StepExecutor};
use ashlar_model::layer::LayerRecord;
use ashlar_model::mount::{CacheMount, MountSpec};
use ashlar_store::home::Home;

pub use failure::{Failure, FarmFailure, FarmFault, StepFailure};
pub use farm::Farm;
pub use fate::Fate;
pub use fresh::{Audience, Fresh};

use crate::event::EventSink;
use crate::graph::{Graph, NodeId, NodeKind, PlannedOp};
use crate::key::KeyedGraph;
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
    /// Workers that run the steps in place of this machine. What is [shared](Self::shared) must be
    /// what they share.
    pub farm: Option<Farm>,
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
#[derive(Debug, Clone, Default)]
pub struct ScheduleOptions {
    /// How many steps may run at once.
    pub jobs: usize,
    /// Which steps are not looked up; their results are stored all the same.
    pub fresh: Fresh,
    /// What the output needs of each layer of the wanted filesystem.
    pub wanted: PackRequest,
    /// Whether the wanted blobs must be here in the end: an output writes them somewhere. Without,
    /// what is known of them does.
    pub blobs_here: bool,
    /// Who must be able to use what is made.
    pub audience: Audience,
    /// The steps that this is about, on a worker: what they stand on is likely to be found.
    pub own: Option<Arc<HashSet<NodeId>>>,
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
    plan: KeyedGraph,
    target: NodeId,
    options: ScheduleOptions,
    surroundings: Surroundings,
) -> Made {
    let lasting = Lasting::new(&plan.graph, &surroundings);
    let fates = Arc::clone(&lasting.fates);
    let layers = rounds(plan, target, options, (surroundings, lasting)).await;
    Made {
        layers,
        fates: fates.take(),
    }
}

async fn rounds(
    plan: KeyedGraph,
    target: NodeId,
    options: ScheduleOptions,
    (surroundings, lasting): (Surroundings, Lasting),
) -> Result<Vec<LayerRecord>, Failure> {
    let mut farm = surroundings.farm.clone();
    if farm.is_none() {
        forget_caches(&plan.graph, &options.fresh, &surroundings).await?;
    }
    let mut is_first = true;
    loop {
        let around = (surroundings.clone(), lasting.clone());
        let runner = Runner::new(plan.clone(), target, options.clone(), around);
        let guard = runner.abort_guard();
        let made = match &farm {
            Some(farm) => runner.round_on_farm(target, farm, !is_first).await,
            None => round(&runner, target).await,
        };
        let Err(failure) = &made else {
            return made;
        };
        let lost = match runner.lost() {
            Some(lost) => forget_lost(&runner, lost).await?,
            None => false,
        };
        let again = match failure {
            Failure::Farm(why) => {
                let is_tried_again = why.fault == FarmFault::Vanished
                    && options.fresh == Fresh::None
                    && lasting.losses.note_vanished();
                let goes_on_here =
                    !is_tried_again && farm.take_if(|farm| farm.falls_back(why)).is_some();
                if goes_on_here {
                    let warning = format!("{why}: the build goes on here");
                    lasting.report.warning(&warning);
                    forget_caches(&plan.graph, &options.fresh, &surroundings).await?;
                }
                is_tried_again || goes_on_here
            }
            failure => lost && failure.lost_layers().is_some(),
        };
        if !again {
            runner.report_end();
            return made;
        }
        is_first = false;
        drop(guard);
    }
}

/// Forgets what a round has lost: whatever the build comes to, no result may lead there again.
/// Whether another round can make it again.
async fn forget_lost(runner: &Arc<Runner>, lost: HashSet<LayerId>) -> Result<bool, Failure> {
    let lost = runner.all_lost(lost).await?;
    let lost_of_steps = runner.losses.of_steps(&lost);
    for layer in &lost_of_steps {
        runner.surroundings.home.forget_layer(layer)?;
    }
    if let Some(shared) = &runner.surroundings.shared {
        shared.distrust(&lost_of_steps);
    }
    let can_be_made = runner.losses.note_round(&lost);
    Ok(can_be_made && runner.options.fresh != Fresh::All)
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

/// Empties the cache mounts of steps that use nothing old, as BuildKit does: once, so that the steps
/// share what they make.
async fn forget_caches(
    graph: &Graph,
    fresh: &Fresh,
    surroundings: &Surroundings,
) -> Result<(), Failure> {
    let caches: Vec<CacheMount> = graph
        .nodes()
        .filter(|(id, _)| fresh.runs(*id))
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
            node: None,
            name: "emptying cache mounts".into(),
            range: None,
            error,
            last_output: Vec::new(),
        }))
    })
}

#[cfg(test)]
mod tests;
