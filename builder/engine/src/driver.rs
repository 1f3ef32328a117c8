//! A whole build: plan, keys, schedule, and the image's configuration.
//!
//! It knows neither where steps run nor where the image goes, so it serves a command line and a
//! worker alike.

use ashlar_model::config::{DateTime, ImageConfig};
use ashlar_model::digest::DefinitionKey;
use ashlar_model::layer::LayerRecord;
use ashlar_model::platform::Platform;

use crate::dockerfile::Dockerfile;
use crate::explain::BuildRecord;
use crate::graph::NodeId;
use crate::key::{KeyScope, KeyedGraph};
use crate::plan::{PlanError, PlanOptions, PlanSources, complete_history, plan};
use crate::schedule::{self, Failure, Fresh, ScheduleOptions, Surroundings};

/// What to build.
#[derive(Debug)]
pub struct BuildRequest<'a> {
    /// The Dockerfile.
    pub dockerfile: &'a Dockerfile,
    /// What it is built with.
    pub plan: &'a PlanOptions,
    /// How it is run. The diff IDs of the image's layers are always made: the configuration has
    /// them.
    pub schedule: ScheduleOptions,
    /// How steps are isolated, as far as it matters to results.
    pub isolation: String,
}

/// A build that was planned: what to make, and what is known of the image before its layers are.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The steps and their keys.
    pub plan: KeyedGraph,
    /// The filesystem of the image.
    pub target: NodeId,
    /// The configuration, but for layers and times.
    pub config: ImageConfig,
    /// How many entries of its history are those of the base image: the first ones.
    pub inherited_history: usize,
    /// What the image runs on.
    pub platform: Platform,
    /// `SOURCE_DATE_EPOCH`, in seconds since 1970.
    pub epoch: Option<i64>,
    /// How many vertices the plan announced.
    pub vertices: u32,
}

/// An image, ready to be named, stored or sent.
#[derive(Debug, Clone)]
pub struct Built {
    /// Its configuration, complete.
    pub config: ImageConfig,
    /// Its layers, bottom first.
    pub layers: Vec<LayerRecord>,
    /// What it runs on.
    pub platform: Platform,
    /// `SOURCE_DATE_EPOCH`, in seconds since 1970.
    pub epoch: Option<i64>,
    /// How many entries of the history are those of the base image: the first ones.
    pub inherited_history: usize,
    /// How many vertices the build announced: those of outputs come after them.
    pub vertices: u32,
    /// What it was made of; `None` for an image that was no build's.
    pub prepared: Option<Prepared>,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile cannot be planned.
    #[error(transparent)]
    Plan(#[from] Box<PlanError>),
    /// A step failed, or what is around steps.
    #[error(transparent)]
    Run(#[from] Failure),
}

/// Builds an image.
///
/// Dropping the future calls the build off.
pub async fn build(
    request: BuildRequest<'_>,
    sources: &PlanSources,
    surroundings: Surroundings,
) -> Result<Built, BuildError> {
    let (dockerfile, options) = (request.dockerfile, request.plan);
    let prepared = prepare(dockerfile, options, request.isolation, sources).await?;
    Ok(make(prepared, request.schedule, surroundings).await?)
}

/// Plans a build and computes its keys. Nothing is run.
pub async fn prepare(
    dockerfile: &Dockerfile,
    options: &PlanOptions,
    isolation: String,
    sources: &PlanSources,
) -> Result<Prepared, Box<PlanError>> {
    let plan = plan(dockerfile, options, sources).await.map_err(Box::new)?;
    let scope = KeyScope {
        isolation,
        platform: options.build_platform.clone(),
    };
    Ok(Prepared {
        plan: KeyedGraph::new(plan.graph, scope),
        target: plan.target,
        config: plan.config,
        inherited_history: plan.inherited_history,
        platform: plan.platform,
        epoch: plan.epoch,
        vertices: plan.vertices,
    })
}

/// Makes the layers of a build that was planned, and completes its configuration.
///
/// Dropping the future calls the build off.
pub async fn make(
    prepared: Prepared,
    mut options: ScheduleOptions,
    surroundings: Surroundings,
) -> Result<Built, Failure> {
    options.wanted.diff_id = true;
    let keyed = prepared.plan.clone();
    let (home, no_cache) = (surroundings.home.clone(), options.fresh != Fresh::None);
    let shared = surroundings.shared.clone();
    let made = schedule::make(keyed.clone(), prepared.target, options, surroundings).await;
    if let Some(fates) = made.fates {
        let writing = tokio::task::spawn_blocking(move || {
            let KeyedGraph { graph, keys, scope } = keyed;
            let record = BuildRecord::new(&graph, &keys, &scope, &fates, no_cache);
            let refusal = |key: &DefinitionKey| shared.as_ref()?.refusal(key);
            record.with_refusals(&keys, refusal).store(&home)
        });
        // Nothing is lost but an explanation.
        drop(writing.await);
    }
    Ok(assemble(prepared, made.layers?))
}

/// Completes the configuration.
fn assemble(prepared: Prepared, layers: Vec<LayerRecord>) -> Built {
    let mut config = prepared.config.clone();
    config.rootfs.diff_ids = layers.iter().filter_map(|layer| layer.diff_id).collect();
    let times: Vec<Option<DateTime>> = layers
        .iter()
        .map(|layer| layer.created.map(DateTime::from))
        .collect();
    let epoch = prepared.epoch.map(|seconds| DateTime::new(seconds, 0));
    let own_history = config
        .history
        .len()
        .saturating_sub(prepared.inherited_history);
    complete_history(&mut config, &times, epoch);
    let inherited_history = config.history.len().saturating_sub(own_history);
    Built {
        config,
        layers,
        platform: prepared.platform.clone(),
        epoch: prepared.epoch,
        inherited_history,
        vertices: prepared.vertices,
        prepared: Some(prepared),
    }
}
