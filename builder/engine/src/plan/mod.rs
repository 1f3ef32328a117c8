//! From a Dockerfile to a graph of steps: what is reachable, expanded, and named.
//!
//! 1. [`arguments`]: global ARGs and the arguments that are there by themselves; [`epoch`]: the
//!    time that the build is to have; [`builder_arguments`]: those that speak to the builder.
//! 2. [`stages`]: which stages the target needs.
//! 3. [`source`]: images and contexts are asked for, all that is needed at once.
//! 4. [`lower`]: each stage in file order: layered instructions become steps, the others change
//!    the configuration and the environment of what follows.
//! 5. [`selection`]: the context files that the steps name are selected and hashed.
//!
//! A [`check`] is a plan of all stages that ends before the last of these, an [`outline`](outline())
//! one of the target's. On the way the [linter](crate::lint) is told what only planning knows.

pub mod arguments;
mod builder_arguments;
mod environment;
mod epoch;
mod error;
mod history;
mod lower;
mod options;
pub mod outline;
mod premises;
mod selection;
pub mod source;
mod stages;

use std::sync::Arc;

use ashlar_model::config::ImageConfig;
use ashlar_model::platform::Platform;

pub use error::{Place, PlanError};
pub use history::complete_history;
pub use options::{Allowed, NamedContext, PlanOptions};
pub use outline::Outline;
use premises::{Premises, Reach};
pub use source::{BaseImage, ContextSource, ImageSource, RemoteSources, SourceError};

use crate::dockerfile::Dockerfile;
use crate::event::{BuildEvent, EventSink};
use crate::graph::{Graph, NodeId};

/// A Dockerfile as steps.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The steps, unreachable ones left out.
    pub graph: Graph,
    /// The filesystem of the image.
    pub target: NodeId,
    /// The image's configuration. Layers and times are for later to fill in
    /// ([`complete_history`]).
    pub config: ImageConfig,
    /// What the image runs on.
    pub platform: Platform,
    /// `SOURCE_DATE_EPOCH`, in seconds since 1970: the time of what the build makes.
    pub epoch: Option<i64>,
    /// How many entries of the history are those of the base image: the first ones.
    pub inherited_history: usize,
    /// How many vertices were announced.
    pub vertices: u32,
}

/// Opens a directory as a context.
pub type OpenDirectory =
    dyn Fn(&std::path::Path) -> Result<Arc<dyn ContextSource>, SourceError> + Send + Sync;

/// Where a plan gets what is not in the Dockerfile.
#[derive(Clone)]
pub struct PlanSources {
    /// Images.
    pub images: Arc<dyn ImageSource>,
    /// Files from elsewhere.
    pub remotes: Arc<dyn RemoteSources>,
    /// The build context; `None` if there is only a Dockerfile.
    pub context: Option<Arc<dyn ContextSource>>,
    /// Opens directories that `--build-context` names.
    pub named: Arc<OpenDirectory>,
    /// Who watches.
    pub events: Arc<dyn EventSink>,
    /// How many vertices were announced before the plan's: those that fetched its input.
    pub vertices: u32,
}

impl std::fmt::Debug for PlanSources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlanSources").finish_non_exhaustive()
    }
}

/// Plans a build.
pub async fn plan(
    dockerfile: &Dockerfile,
    options: &PlanOptions,
    sources: &PlanSources,
) -> Result<Plan, PlanError> {
    let premises = Premises::new(dockerfile, options, sources, Reach::Target).await?;
    let lowering = lower::lower(dockerfile, sources, &premises).await?;
    premises.verdict()?;
    let mut plan = lowering.into_plan().await?;
    plan.vertices = plan.graph.number_steps(plan.vertices);
    // Bases are done already: what there was to do for them was announced on the way.
    let steps = plan.graph.nodes().filter(|(_, node)| node.is_step());
    for (_, node) in steps {
        sources.events.emit(BuildEvent::Announced {
            vertex: node.vertex,
            name: Arc::clone(&node.name),
        });
    }
    Ok(plan)
}

/// Sources for a plan that reads no files, so that it does not need any.
fn without_files(sources: &PlanSources) -> PlanSources {
    let mut sources = sources.clone();
    sources
        .context
        .get_or_insert_with(|| Arc::new(source::NoFiles));
    sources
}

/// Looks for what would fail and for what the linter knows, in all stages unless a target is named.
/// Asks for images as a build does, since stages inherit variables and triggers from them; reads
/// no file of a context, and no step is planned to its end.
pub async fn check(
    dockerfile: &Dockerfile,
    options: &PlanOptions,
    sources: &PlanSources,
) -> Result<(), PlanError> {
    let sources = &without_files(sources);
    let premises = Premises::new(dockerfile, options, sources, Reach::AllStages).await?;
    lower::lower(dockerfile, sources, &premises).await?;
    premises.verdict()
}

/// What the target can be given. Asks for images as a build does, and reads no file.
pub async fn outline(
    dockerfile: &Dockerfile,
    options: &PlanOptions,
    sources: &PlanSources,
) -> Result<Outline, PlanError> {
    let sources = &without_files(sources);
    let premises = Premises::new(dockerfile, options, sources, Reach::Target).await?;
    let lowering = lower::lower(dockerfile, sources, &premises).await?;
    premises.verdict()?;
    Ok(lowering.outline())
}

/// What the linter knows of the beginning of a text that is no Dockerfile.
pub fn check_beginning(
    dockerfile: &Dockerfile,
    options: &PlanOptions,
    events: &Arc<dyn EventSink>,
) -> Result<(), PlanError> {
    premises::linter(dockerfile, options, events)?.check_instructions(dockerfile);
    Ok(())
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
