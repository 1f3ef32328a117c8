//! ONBUILD: instructions that a base has for those who build on it.
//!
//! Those of an image are known only when its configuration is, and they may copy from stages that
//! nothing else needs. So a stage is lowered only when all that it names is.

use super::Lowering;
use crate::dockerfile::source::SourceRange;
use crate::dockerfile::{Instruction, parse_onbuild};
use crate::plan::error::PlanError;
use crate::plan::options::NamedContext;
use crate::plan::stages::{StageBase, StageOrigin, copied_stages, replaced};

/// Whether a stage can be lowered.
pub(super) enum Readiness {
    /// It can; these are its base's triggers.
    Ready(Vec<Instruction>),
    /// It cannot before these stages are.
    Needs(Vec<usize>),
}

impl Lowering<'_> {
    /// Finds out whether all that a stage stands on and copies from is lowered.
    pub(super) async fn readiness(&mut self, index: usize) -> Result<Readiness, PlanError> {
        let dockerfile = self.dockerfile;
        let origin = &self.stages.origins[index];
        if replaced(dockerfile, self.options, index, &origin.platform).is_some() {
            return Ok(Readiness::Ready(Vec::new()));
        }
        let stage = &dockerfile.stages[index];
        let base = match origin.base {
            StageBase::Stage(earlier) => Some(earlier),
            StageBase::Scratch | StageBase::External(_) => None,
        };
        let own = copied_stages(dockerfile, index, &stage.instructions);
        let missing = self.missing(base.into_iter().chain(own));
        if !missing.is_empty() {
            return Ok(Readiness::Needs(missing));
        }
        let range = stage.from.range;
        let triggers = self.triggers(index).await;
        let triggers = triggers.map_err(|error| error.at(&dockerfile.source, range))?;
        let missing = self.missing(copied_stages(dockerfile, index, &triggers));
        if !missing.is_empty() {
            return Ok(Readiness::Needs(missing));
        }
        Ok(Readiness::Ready(triggers))
    }

    fn missing(&self, stages: impl Iterator<Item = usize>) -> Vec<usize> {
        stages.filter(|stage| self.done[*stage].is_none()).collect()
    }

    /// The triggers of a stage's base.
    async fn triggers(&mut self, index: usize) -> Result<Vec<Instruction>, PlanError> {
        let range = self.dockerfile.stages[index].from.range;
        let StageOrigin { base, platform, .. } = self.stages.origins[index].clone();
        match base {
            StageBase::Scratch => Ok(Vec::new()),
            StageBase::Stage(earlier) => {
                let state = self.done[earlier].as_ref();
                parse(
                    state.map_or(&[], |state| &state.config.config.on_build),
                    range,
                )
            }
            StageBase::External(name) => match self.external(&name, &platform)? {
                NamedContext::Directory(_) | NamedContext::Remote(_) => Ok(Vec::new()),
                context if context.is_scratch() => Ok(Vec::new()),
                context => {
                    let image = self.image(&name, &context, &platform).await?;
                    parse(&image.config.config.on_build, range)
                }
            },
        }
    }
}

/// Reads triggers. They stand in no file: `range` is what they are shown as, the FROM that pulls
/// them.
fn parse(triggers: &[String], range: SourceRange) -> Result<Vec<Instruction>, PlanError> {
    let parsed = triggers.iter().map(|trigger| {
        let instruction = parse_onbuild(trigger).map_err(|error| {
            let kind = error.kind();
            PlanError::new(format!("the base's trigger `ONBUILD {trigger}`: {kind}"))
        })?;
        Ok(Instruction {
            range,
            ..instruction
        })
    });
    parsed.collect()
}
