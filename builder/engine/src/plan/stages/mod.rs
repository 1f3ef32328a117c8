//! Which stages a target needs, and what they stand on.

mod cycles;
mod names;

use ashlar_model::platform::Platform;
use ashlar_model::reference::Reference;

pub(super) use names::{
    check_order, copied_stages, foreign_names, named_context, replaced, source_stage, stage_by_name,
};

use super::arguments::Globals;
use super::error::PlanError;
use super::options::PlanOptions;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::suggest::suggest;
use crate::dockerfile::{Dockerfile, Stage};

/// What a FROM stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StageBase {
    /// Nothing.
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// A named context or an image.
    External(String),
}

/// What a stage stands on, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StageOrigin {
    pub(super) base: StageBase,
    /// That of `--platform`, else of the build; of the base for a stage on a stage.
    pub(super) platform: Platform,
    /// FROM names the platform itself.
    pub(super) explicit: bool,
}

/// The stages of a Dockerfile with their bases, and which of them are needed.
#[derive(Debug)]
pub(super) struct Stages {
    /// By stage index.
    pub(super) origins: Vec<StageOrigin>,
    /// By stage index.
    pub(super) needed: Vec<bool>,
    /// The stage that becomes the image.
    pub(super) target: usize,
}

impl Stages {
    pub(super) fn new(
        dockerfile: &Dockerfile,
        options: &PlanOptions,
        globals: &Globals,
    ) -> Result<Self, PlanError> {
        let mut origins: Vec<StageOrigin> = Vec::with_capacity(dockerfile.stages.len());
        for (index, stage) in dockerfile.stages.iter().enumerate() {
            let mut origin = origin_of(dockerfile, index, stage, options, globals)
                .map_err(|error| error.within(&dockerfile.source, &stage.from))?;
            match origin.base {
                // A stage is for the platform of the stage that it stands on.
                StageBase::Stage(earlier) => origin.platform.clone_from(&origins[earlier].platform),
                StageBase::Scratch => origin.platform.clone_from(&options.platform),
                StageBase::External(_) => {}
            }
            origins.push(origin);
        }
        let target = target_of(dockerfile, options)?;
        cycles::refuse_cycles(dockerfile)?;
        let mut stages = Self {
            needed: vec![false; origins.len()],
            origins,
            target,
        };
        stages.mark(dockerfile, options, target);
        Ok(stages)
    }

    /// Marks a stage and all that it needs, as far as the text says.
    fn mark(&mut self, dockerfile: &Dockerfile, options: &PlanOptions, index: usize) {
        let mut pending = vec![index];
        while let Some(index) = pending.pop() {
            let known = std::mem::replace(&mut self.needed[index], true);
            let origin = &self.origins[index];
            if known || replaced(dockerfile, options, index, &origin.platform).is_some() {
                continue;
            }
            if let StageBase::Stage(base) = origin.base {
                pending.push(base);
            }
            let instructions = &dockerfile.stages[index].instructions;
            pending.extend(copied_stages(dockerfile, index, instructions));
        }
    }
}

fn origin_of(
    dockerfile: &Dockerfile,
    index: usize,
    stage: &Stage,
    options: &PlanOptions,
    globals: &Globals,
) -> Result<StageOrigin, PlanError> {
    let expander = Expander::new(dockerfile.directives.escape);
    let from = &stage.from.kind;
    let name = expander.process_word(&from.image, globals.values())?.text;
    if name.is_empty() {
        return Err(
            PlanError::new(format!("base name ({}) should not be blank", from.image))
                .about(&from.image)
                .hinted("does a global ARG before the first FROM set the variable?"),
        );
    }
    let explicit = match &from.platform {
        Some(written) => Some(platform_of(written, &expander, globals)?),
        None => None,
    };
    let platform = explicit.as_ref().unwrap_or(&options.platform);
    let base = match names::base_stage(dockerfile, &name, index) {
        Some(earlier) => StageBase::Stage(earlier),
        None if name == "scratch" => StageBase::Scratch,
        None => {
            if named_context(options, &name, platform).is_none() {
                check_image(dockerfile, &name, index).map_err(|error| error.about(&from.image))?;
            }
            StageBase::External(name)
        }
    };
    Ok(StageOrigin {
        base,
        platform: platform.clone(),
        explicit: explicit.is_some(),
    })
}

/// The platform that `--platform` of a FROM names.
fn platform_of(
    written: &str,
    expander: &Expander,
    globals: &Globals,
) -> Result<Platform, PlanError> {
    let text = expander
        .process_word(written, globals.values())
        .map_err(|error| {
            let error = PlanError::from(error);
            error.prefixed(&format!(
                "failed to process arguments for platform {written}"
            ))
        })?
        .text;
    if text.is_empty() {
        return Err(
            PlanError::new(format!("empty platform value from expression {written}"))
                .about(written)
                .hinted("does a global ARG before the first FROM set the variable?"),
        );
    }
    text.parse()
        .map_err(|error: ashlar_model::platform::PlatformParseError| {
            PlanError::new(format!("failed to parse platform {written}: {error}")).about(written)
        })
}

/// Refuses what cannot be an image's name, also in stages that nobody needs.
fn check_image(dockerfile: &Dockerfile, name: &str, index: usize) -> Result<(), PlanError> {
    if name.starts_with("oci-layout://") {
        return Ok(());
    }
    let reference = name.strip_prefix("docker-image://").unwrap_or(name);
    let Err(error) = reference.parse::<Reference>() else {
        return Ok(());
    };
    let error = PlanError::new(format!("failed to parse stage name {name:?}: {error}"));
    let lower = name.to_ascii_lowercase();
    Err(match names::base_stage(dockerfile, &lower, index) {
        Some(_) => error.hinted(format!(
            "names of stages are in lower case, and FROM takes them as they are: write {lower}"
        )),
        None => error,
    })
}

fn target_of(dockerfile: &Dockerfile, options: &PlanOptions) -> Result<usize, PlanError> {
    let stages = &dockerfile.stages;
    let Some(wanted) = options.target.as_deref().filter(|name| !name.is_empty()) else {
        return stages
            .len()
            .checked_sub(1)
            .ok_or_else(|| PlanError::new("dockerfile contains no stages to build"));
    };
    if let Some(index) = stage_by_name(dockerfile, wanted) {
        return Ok(index);
    }
    // Ours: BuildKit knows targets by name only, but others take numbers, and no name is one.
    let number = wanted.parse::<usize>().ok();
    if let Some(index) = number.filter(|index| *index < stages.len()) {
        return Ok(index);
    }
    let names: Vec<&str> = stages.iter().filter_map(Stage::name).collect();
    let error = PlanError::new(format!("target stage {wanted:?} could not be found"));
    let lower = wanted.to_ascii_lowercase();
    Err(match suggest(&lower, names.iter().copied()) {
        Some(name) => error.hinted(format!("did you mean {name}?")),
        None if names.is_empty() => error.hinted("no stage of this Dockerfile has a name"),
        None => error.hinted(format!("the stages are: {}", names.join(", "))),
    })
}
