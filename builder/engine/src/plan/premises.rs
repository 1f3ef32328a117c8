//! What a plan, a check and an outline begin with.

use std::sync::Arc;

use super::arguments::Globals;
use super::error::PlanError;
use super::options::PlanOptions;
use super::stages::Stages;
use super::{PlanSources, builder_arguments, epoch};
use crate::dockerfile::Dockerfile;
use crate::event::EventSink;
use crate::lint::{LintConfig, Linter, Rule};

/// The build argument that takes the place of `# check=`.
const CHECK_ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// What is known before any stage is looked into.
#[derive(Debug)]
pub(super) struct Premises {
    /// As they were given, but for `SOURCE_DATE_EPOCH`, which is a number now.
    pub(super) options: PlanOptions,
    pub(super) epoch: Option<i64>,
    pub(super) linter: Linter,
    pub(super) globals: Globals,
    pub(super) stages: Stages,
}

/// Which stages are looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Those that the target needs.
    Target,
    /// All, unless a target is named.
    AllStages,
}

impl Premises {
    pub(super) async fn new(
        dockerfile: &Dockerfile,
        options: &PlanOptions,
        sources: &PlanSources,
        reach: Reach,
    ) -> Result<Self, PlanError> {
        builder_arguments::check(options, sources.events.as_ref())?;
        let linter = linter(dockerfile, options, &sources.events)?;
        linter.check_instructions(dockerfile);
        linter.check_file(dockerfile);
        if let Ok(defaults) = Globals::of_defaults(dockerfile, options) {
            linter.check_defaults(dockerfile, &defaults);
        }
        let mut options = options.clone();
        let mut globals = Globals::new(dockerfile, &options)?;
        let epoch = epoch::resolve(dockerfile, &mut options, &mut globals, sources).await?;
        linter.check_bases(dockerfile, &globals);
        let mut stages = Stages::new(dockerfile, &options, &globals)?;
        let names_target = options
            .target
            .as_deref()
            .is_some_and(|name| !name.is_empty());
        if reach == Reach::AllStages && !names_target {
            stages.needed.fill(true);
        }
        Ok(Self {
            options,
            epoch,
            linter,
            globals,
            stages,
        })
    }

    /// An error if rules were broken that are not to be.
    pub(super) fn verdict(&self) -> Result<(), PlanError> {
        let Some(rules) = self.linter.violated() else {
            return Ok(());
        };
        let names: Vec<&str> = rules.into_iter().map(Rule::name).collect();
        let message = format!("lint violation found for rules: {}", names.join(", "));
        Err(PlanError::new(message).hinted(
            "`error=true` makes broken rules fail the build: mend what the warnings show, or add \
             the rule to `skip=`",
        ))
    }
}

/// A linter with the settings of a Dockerfile and a build.
pub(super) fn linter(
    dockerfile: &Dockerfile,
    options: &PlanOptions,
    events: &Arc<dyn EventSink>,
) -> Result<Linter, PlanError> {
    let config = if let Some(text) = options.build_args.get(CHECK_ARGUMENT) {
        LintConfig::parse(text).map_err(|error| {
            PlanError::new(format!(
                "failed to parse build-arg:{CHECK_ARGUMENT}: {error}"
            ))
        })
    } else if let Some(directive) = &dockerfile.directives.check {
        LintConfig::parse(&directive.value).map_err(|error| {
            PlanError::new(format!("failed to parse check options: {error}"))
                .at(&dockerfile.source, directive.range)
        })
    } else {
        Ok(LintConfig::default())
    };
    let config = config.map_err(|error| {
        error.hinted("write `skip=Rule,...;error=true;experimental=Rule,...`, or `all` for rules")
    })?;
    Ok(Linter::new(&dockerfile.source, config, Arc::clone(events)))
}
