//! Turns stages into steps.

mod copy;
mod elsewhere;
mod images;
mod instruction;
mod lint;
mod metadata;
mod mount;
mod origin;
mod outline;
mod ports;
mod remote;
mod run;
mod signals;
mod stage;
mod text;
mod triggers;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use ashlar_model::config::ImageConfig;
use ashlar_model::layer::Timestamp;
use ashlar_model::platform::Platform;

use super::arguments::Globals;
use super::error::PlanError;
use super::options::PlanOptions;
use super::premises::Premises;
use super::selection::{self, Pending};
use super::source::{BaseImage, ContextSource};
use super::stages::Stages;
use super::{Plan, PlanSources};
use crate::dockerfile::Dockerfile;
use crate::dockerfile::expand::Expander;
use crate::event::{BuildEvent, VertexId};
use crate::graph::Graph;
use crate::lint::{LintScope, Linter};
use remote::WantedRemote;
use stage::StageState;
use triggers::Readiness;
/// The state of the lowering: what is there already, what stages have become.
pub(super) struct Lowering<'a> {
    dockerfile: &'a Dockerfile,
    options: &'a PlanOptions,
    sources: &'a PlanSources,
    globals: &'a Globals,
    stages: &'a Stages,
    epoch: Option<Timestamp>,
    linter: &'a Linter,
    /// For the instruction that is being lowered.
    lint: LintScope<'a>,
    expander: Expander,
    graph: Graph,
    /// By stage index, once lowered.
    done: Vec<Option<StageState>>,
    images: HashMap<(NamedContextKey, Platform), BaseImage>,
    contexts: Vec<Arc<dyn ContextSource>>,
    /// Named directories among `contexts`, by name.
    opened: HashMap<String, usize>,
    pending: Vec<Pending>,
    remotes: Vec<WantedRemote>,
    next_vertex: u32,
}

/// How an image is told from others: what it was asked for by.
type NamedContextKey = String;

/// Lowers all stages that are needed.
pub(super) async fn lower<'a>(
    dockerfile: &'a Dockerfile,
    sources: &'a PlanSources,
    premises: &'a Premises,
) -> Result<Lowering<'a>, PlanError> {
    let Premises {
        options,
        epoch,
        linter,
        globals,
        stages,
    } = premises;
    let mut lowering = Lowering {
        dockerfile,
        options,
        sources,
        globals,
        stages,
        epoch: epoch.map(|seconds| Timestamp {
            seconds,
            nanoseconds: 0,
        }),
        linter,
        lint: linter.scope(&dockerfile.stages[stages.target].from),
        expander: Expander::new(dockerfile.directives.escape),
        graph: Graph::default(),
        done: vec![None; dockerfile.stages.len()],
        images: HashMap::new(),
        contexts: Vec::new(),
        opened: HashMap::new(),
        pending: Vec::new(),
        remotes: Vec::new(),
        next_vertex: sources.vertices + 1,
    };
    lowering.resolve_known_images().await?;
    lowering.lower_stages().await?;
    Ok(lowering)
}

impl Lowering<'_> {
    /// The plan of the target, once the files that its steps copy are selected.
    pub(super) async fn into_plan(mut self) -> Result<Plan, PlanError> {
        self.resolve_remotes().await?;
        self.select_files().await?;
        let Some(target) = self.done[self.stages.target].take() else {
            return Err(PlanError::new("the target stage was not planned"));
        };
        let mut config = target.config;
        for (name, value) in &self.options.labels {
            config.config.labels.insert(name.clone(), value.clone());
        }
        set_platform(&mut config, self.options, &target.platform);
        Ok(Plan {
            graph: self.graph,
            target: target.node,
            platform: config.platform(),
            config,
            epoch: self.epoch.map(|epoch| epoch.seconds),
            inherited_history: target.inherited_history,
            vertices: self.next_vertex - 1,
        })
    }
}

/// Says what the image is for: the platform that was asked for, whatever the base was made for;
/// else what the base says. Source: BuildKit, `finalizeResultImage`.
fn set_platform(config: &mut ImageConfig, options: &PlanOptions, stage: &Platform) {
    let wanted = if options.implicit_platform {
        if !config.os.is_empty() && !config.architecture.is_empty() {
            let Platform { os, arch, variant } = config.platform();
            config.os = os;
            config.architecture = arch;
            config.variant = variant.unwrap_or_default();
            return;
        }
        stage
    } else {
        &options.platform
    };
    let Platform { os, arch, variant } = wanted.clone();
    let same = config.os == os && config.architecture == arch;
    config.os = os;
    config.architecture = arch;
    if variant.is_some() || !same {
        config.variant = variant.unwrap_or_default();
    }
    if !same {
        config.os_version.clear();
    }
}

impl Lowering<'_> {
    /// Lowers the stages that the target needs, in file order, and before each what turns out to
    /// be missing for it. Stages need earlier ones only, so this ends.
    async fn lower_stages(&mut self) -> Result<(), PlanError> {
        let needed = (0..self.done.len()).filter(|index| self.stages.needed[*index]);
        let mut pending: Vec<usize> = needed.rev().collect();
        while let Some(index) = pending.pop() {
            if self.done[index].is_some() {
                continue;
            }
            match self.readiness(index).await? {
                Readiness::Ready(triggers) => {
                    self.done[index] = Some(self.lower_stage(index, &triggers).await?);
                }
                Readiness::Needs(missing) => {
                    pending.push(index);
                    pending.extend(missing);
                }
            }
        }
        Ok(())
    }

    fn new_vertex(&mut self) -> VertexId {
        let vertex = VertexId(self.next_vertex);
        self.next_vertex += 1;
        vertex
    }

    /// Announces work that is no step, such as reading an image's metadata.
    fn start_internal(&mut self, name: &str) -> (VertexId, Instant) {
        let vertex = self.new_vertex();
        self.sources.events.emit(BuildEvent::Announced {
            vertex,
            name: name.into(),
        });
        self.sources.events.emit(BuildEvent::Started { vertex });
        (vertex, Instant::now())
    }

    fn end_internal(&self, (vertex, started): (VertexId, Instant), result: Result<(), &PlanError>) {
        let elapsed = started.elapsed();
        self.sources.events.emit(match result {
            Ok(()) => BuildEvent::Finished { vertex, elapsed },
            Err(error) => BuildEvent::Failed {
                vertex,
                elapsed,
                error: error.to_string().into(),
            },
        });
    }

    async fn select_files(&mut self) -> Result<(), PlanError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let work = self.start_internal("[internal] load build context");
        let result = selection::select(&mut self.graph, &self.contexts, &self.pending).await;
        self.end_internal(work, result.as_ref().map(|_| ()));
        result
    }

    /// The number of a named directory among the contexts, opening it if nobody has.
    fn named_directory(&mut self, name: &str, path: &std::path::Path) -> Result<usize, PlanError> {
        if let Some(number) = self.opened.get(name) {
            return Ok(*number);
        }
        self.contexts.push((self.sources.named)(path)?);
        self.opened.insert(name.to_owned(), self.contexts.len() - 1);
        Ok(self.contexts.len() - 1)
    }

    /// The number of the build context.
    fn main_context(&mut self) -> Result<usize, PlanError> {
        // No context name is empty.
        if let Some(number) = self.opened.get("") {
            return Ok(*number);
        }
        let context = self.sources.context.clone().ok_or_else(|| {
            PlanError::new("there is no build context to copy files from").hinted(
                "only a Dockerfile came on standard input; give a directory as the build context",
            )
        })?;
        self.contexts.push(context);
        self.opened.insert(String::new(), self.contexts.len() - 1);
        Ok(self.contexts.len() - 1)
    }
}
