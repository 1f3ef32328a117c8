//! One stage: what it stands on, and its instructions in order.

use ashlar_model::config::{DateTime, ImageConfig};
use ashlar_model::platform::Platform;
use ashlar_model::select::SourceQuery;

use super::Lowering;
use crate::dockerfile::Instruction;
use crate::dockerfile::instruction::InstructionKind;
use crate::dockerfile::source::SourceRange;
use crate::event::VertexId;
use crate::graph::{Base, Node, NodeId, NodeKind, PlannedCopy, PlannedOp, PlannedSource};
use crate::key::scratch_key;
use crate::lint::Given;
use crate::plan::environment::{BuildEnvironment, default_path};
use crate::plan::error::{Place, PlanError};
use crate::plan::options::NamedContext;
use crate::plan::outline::StageArguments;
use crate::plan::selection::Pending;
use crate::plan::stages::{StageBase, StageOrigin, replaced};

/// What a stage is after some of its instructions.
#[derive(Debug, Clone)]
pub(super) struct StageState {
    /// Its filesystem.
    pub(super) node: NodeId,
    pub(super) config: ImageConfig,
    pub(super) environment: BuildEnvironment,
    /// What ARG has declared, in order, repeats included.
    pub(super) arguments: Vec<(String, Option<String>)>,
    pub(super) platform: Platform,
    /// What its own ARGs say, for an outline.
    pub(super) own_arguments: StageArguments,
    /// Where it has had CMD and the like; its base's do not count.
    pub(super) given: Given,
    /// Whether WORKDIR has stood in it or in a stage below it.
    pub(super) has_workdir: bool,
    /// How many entries of the history came with the image below.
    pub(super) inherited_history: usize,
    /// `build 3/` of the next step's name, and how many there are.
    pub(super) names: StepNames,
}

/// Numbers the steps of a stage as progress displays show them.
#[derive(Debug, Clone, Default)]
pub(super) struct StepNames {
    prefix: String,
    next: usize,
    count: usize,
    /// The next step comes from a trigger of the base.
    triggered: bool,
}

impl StepNames {
    pub(super) fn next(&mut self, text: &str) -> String {
        self.next += 1;
        let onbuild = if self.triggered { "ONBUILD " } else { "" };
        let count = self.count.max(self.next);
        let width = count.to_string().len();
        format!(
            "[{}{:width$}/{count}] {onbuild}{text}",
            self.prefix, self.next
        )
    }
}

fn makes_layer(kind: &InstructionKind) -> bool {
    matches!(
        kind,
        InstructionKind::Run(_)
            | InstructionKind::Copy(_)
            | InstructionKind::Add(_)
            | InstructionKind::Workdir(_)
    )
}

impl Lowering<'_> {
    /// Lowers a stage whose base and sources are lowered, its base's triggers first.
    pub(super) async fn lower_stage(
        &mut self,
        index: usize,
        triggers: &[Instruction],
    ) -> Result<StageState, PlanError> {
        let dockerfile = self.dockerfile;
        let stage = &dockerfile.stages[index];
        self.lint = self.linter.scope(&stage.from);
        let mut state = self.base_state(index).await.map_err(|error| {
            let error = error.about(&stage.from.kind.image);
            error.within(&dockerfile.source, &stage.from)
        })?;
        state.config.config.on_build.clear();
        let platform = &self.stages.origins[index].platform;
        if replaced(dockerfile, self.options, index, platform).is_some() {
            return Ok(state);
        }
        state.own_arguments = StageArguments::default();
        state.given = Given::default();
        state.names = self.step_names(index, triggers);
        for (number, instruction) in triggers.iter().chain(&stage.instructions).enumerate() {
            state.names.triggered = number < triggers.len();
            let known = state.config.history.len();
            self.lower_instruction(index, &mut state, instruction)
                .await
                .map_err(|error| error.within(&dockerfile.source, instruction))?;
            for entry in state.config.history.iter_mut().skip(known) {
                entry.created = self.epoch.map(DateTime::from);
            }
        }
        Ok(state)
    }

    /// What a stage stands on.
    async fn base_state(&mut self, index: usize) -> Result<StageState, PlanError> {
        let stage = &self.dockerfile.stages[index];
        let range = stage.from.range;
        let origin = self.stages.origins[index].clone();
        let platform = &origin.platform;
        if let Some(context) = replaced(self.dockerfile, self.options, index, platform).cloned() {
            let name = stage.name().unwrap_or_default();
            let mut state = self.external_state(name, &context, &origin, range).await?;
            if !state.config.os.is_empty() && !state.config.architecture.is_empty() {
                state.platform = state.config.platform();
            }
            return Ok(state);
        }
        match &origin.base {
            StageBase::Scratch => Ok(self.scratch_state(platform, range)),
            StageBase::Stage(earlier) => self.done[*earlier]
                .clone()
                .ok_or_else(|| PlanError::new("the base stage was not planned")),
            StageBase::External(name) => {
                let context = self.external(name, platform)?;
                self.external_state(name, &context, &origin, range).await
            }
        }
    }

    fn step_names(&self, index: usize, triggered: &[Instruction]) -> StepNames {
        let stage = &self.dockerfile.stages[index];
        let layers = stage.instructions.iter().chain(triggered);
        let prefix = match stage.name() {
            Some(name) => format!("{name} "),
            None if self.dockerfile.stages.len() > 1 => format!("stage-{index} "),
            None => String::new(),
        };
        // FROM is the first, if there is anything to be fetched for it.
        let from = usize::from(matches!(
            self.stages.origins[index].base,
            StageBase::External(_)
        ));
        let count = from
            + layers
                .filter(|instruction| makes_layer(&instruction.kind))
                .count();
        StepNames {
            prefix,
            next: from,
            count,
            triggered: false,
        }
    }

    /// The empty filesystem.
    pub(super) fn scratch_node(&mut self, range: SourceRange) -> NodeId {
        self.graph.add(Node {
            vertex: VertexId(0),
            name: "FROM scratch".into(),
            range: Some(range),
            kind: NodeKind::Base(Base {
                key: scratch_key(),
                layers: Vec::new(),
                image: None,
            }),
        })
    }

    /// The layers of `above` on those of `below`.
    pub(super) fn stack_node(
        &mut self,
        below: NodeId,
        above: NodeId,
        range: SourceRange,
    ) -> NodeId {
        self.graph.add(Node {
            vertex: VertexId(0),
            name: "linked".into(),
            range: Some(range),
            kind: NodeKind::Stack { below, above },
        })
    }

    fn scratch_state(&mut self, platform: &Platform, range: SourceRange) -> StageState {
        let node = self.scratch_node(range);
        let mut config = ImageConfig::new(platform);
        config.config.working_dir = "/".to_owned();
        self.state_of(node, config, platform)
    }

    fn state_of(&self, node: NodeId, mut config: ImageConfig, platform: &Platform) -> StageState {
        config.created = None;
        let inherited_history = config.history.len();
        let directory = &mut config.config.working_dir;
        if !directory.is_empty() && !directory.starts_with('/') {
            directory.insert(0, '/');
        }
        default_path(&mut config.config);
        StageState {
            node,
            environment: BuildEnvironment::of_image(&config.config),
            config,
            arguments: Vec::new(),
            platform: platform.clone(),
            own_arguments: StageArguments::default(),
            given: Given::default(),
            has_workdir: false,
            inherited_history,
            names: StepNames::default(),
        }
    }

    async fn external_state(
        &mut self,
        name: &str,
        context: &NamedContext,
        origin: &StageOrigin,
        range: SourceRange,
    ) -> Result<StageState, PlanError> {
        let platform = &origin.platform;
        if let NamedContext::Directory(path) = context {
            return self.directory_state(name, path, platform, range);
        }
        if let NamedContext::Remote(source) = context {
            let mut state = self.scratch_state(platform, range);
            state.node = self.remote_node(name, source, range);
            return Ok(state);
        }
        if context.is_scratch() {
            return Ok(self.scratch_state(platform, range));
        }
        let image = self.image(name, context, platform).await?;
        let made_for = image.config.platform();
        let platform = match origin.explicit {
            true => platform,
            false => self.adopted(&made_for).unwrap_or(platform),
        };
        let platform = &platform.clone();
        if image.layers.is_empty() && image.config.history.iter().all(|entry| entry.empty_layer) {
            // An image without layers is as good as scratch, but for its configuration.
            let node = self.scratch_node(range);
            return Ok(self.state_of(node, image.config, platform));
        }
        self.note_image(name, &image.config, platform);
        let node = self.image_node(&image, platform, range);
        Ok(self.state_of(node, image.config, platform))
    }

    /// The platform of an image that was made for another one than the build is for: it is taken
    /// as it is if nobody asked for any and programs of its platform run here. Source: BuildKit,
    /// `autoDetectPlatform`.
    fn adopted(&self, made_for: &Platform) -> Option<&Platform> {
        let same = |known: &&Platform| known.os == made_for.os && known.arch == made_for.arch;
        if !self.options.implicit_platform || same(&&self.options.platform) {
            return None;
        }
        self.options.emulated.iter().find(same)
    }

    /// A directory as the filesystem of a stage: all its files, copied onto nothing.
    fn directory_state(
        &mut self,
        name: &str,
        path: &std::path::Path,
        platform: &Platform,
        range: SourceRange,
    ) -> Result<StageState, PlanError> {
        let context = self.named_directory(name, path)?;
        let mut state = self.scratch_state(platform, range);
        let place = self.place(range);
        let text = format!("[context {name}] load all files");
        state.node = self.context_node(context, text, SourceQuery::from("/"), "/", place);
        Ok(state)
    }

    /// A filesystem that holds what is selected of a context, and nothing else.
    pub(super) fn context_node(
        &mut self,
        context: usize,
        name: String,
        query: SourceQuery,
        destination: &str,
        place: Place,
    ) -> NodeId {
        let parent = self.scratch_node(place.range);
        let node = self.graph.add(Node {
            vertex: VertexId(0),
            name: name.into(),
            range: Some(place.range),
            kind: NodeKind::Step {
                parent,
                op: PlannedOp::Copy(PlannedCopy {
                    sources: vec![PlannedSource::Directory {
                        root: std::path::PathBuf::new(),
                        selection: std::sync::Arc::default(),
                    }],
                    destination: destination.to_owned(),
                    owner: None,
                    mode: None,
                    unpack: false,
                }),
            },
        });
        self.pending.push(Pending {
            node,
            source: 0,
            context,
            query,
            place,
        });
        node
    }

    /// Adds a step to a stage.
    pub(super) fn add_step(
        &mut self,
        state: &mut StageState,
        text: &str,
        range: SourceRange,
        op: PlannedOp,
    ) -> NodeId {
        let name = state.names.next(text).into();
        let parent = state.node;
        state.node = self.graph.add(Node {
            vertex: VertexId(0),
            name,
            range: Some(range),
            kind: NodeKind::Step { parent, op },
        });
        state.node
    }
}
