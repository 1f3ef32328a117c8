//! A whole build: plan, keys, schedule, and the image's configuration.
//!
//! It knows neither where steps run nor where the image goes, so it serves a command line and a
//! worker alike.

use std::sync::Arc;

use ashlar_model::config::{DateTime, ImageConfig};
use ashlar_model::digest::DefinitionKey;
use ashlar_model::layer::LayerRecord;
use ashlar_model::platform::Platform;

use crate::dockerfile::Dockerfile;
use crate::explain::BuildRecord;
use crate::key::{KeyScope, NodeKeys, graph_keys};
use crate::plan::{PlanError, PlanOptions, PlanSources, complete_history, plan};
use crate::schedule::{self, Failure, ScheduleOptions, Surroundings};

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
    let plan = plan(request.dockerfile, request.plan, sources)
        .await
        .map_err(Box::new)?;
    let scope = KeyScope {
        isolation: request.isolation,
        platform: request.plan.build_platform.clone(),
    };
    let keys = graph_keys(&plan.graph, &scope);
    let mut options = request.schedule;
    options.wanted.diff_id = true;
    let graph = Arc::new(plan.graph);
    let keys: Arc<[NodeKeys]> = keys.into();
    let (home, no_cache) = (surroundings.home.clone(), options.no_cache);
    let shared = surroundings.shared.clone();
    let made = schedule::make(
        Arc::clone(&graph),
        Arc::clone(&keys),
        plan.target,
        options,
        surroundings,
    )
    .await;
    if let Some(fates) = made.fates {
        let writing = tokio::task::spawn_blocking(move || {
            let record = BuildRecord::new(&graph, &keys, &scope, &fates, no_cache);
            let refusal = |key: &DefinitionKey| shared.as_ref()?.refusal(key);
            record.with_refusals(&keys, refusal).store(&home)
        });
        // Nothing is lost but an explanation.
        drop(writing.await);
    }
    let layers = made.layers?;

    let mut config = plan.config;
    config.rootfs.diff_ids = layers.iter().filter_map(|layer| layer.diff_id).collect();
    let times: Vec<Option<DateTime>> = layers
        .iter()
        .map(|layer| layer.created.map(DateTime::from))
        .collect();
    let epoch = plan.epoch.map(|seconds| DateTime::new(seconds, 0));
    let own_history = config.history.len() - plan.inherited_history;
    complete_history(&mut config, &times, epoch);
    let inherited_history = config.history.len().saturating_sub(own_history);
    Ok(Built {
        config,
        layers,
        platform: plan.platform,
        epoch: plan.epoch,
        inherited_history,
        vertices: plan.vertices,
    })
}
