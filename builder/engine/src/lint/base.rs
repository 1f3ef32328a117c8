//! FROM: the arguments in it and the platform it asks for.

use std::collections::BTreeSet;

use ashlar_model::platform::Platform;
use ashlar_model::reference::Reference;

use super::rule::Rule;
use super::{LintScope, Linter};
use crate::dockerfile::expand::{Expanded, Expander};
use crate::dockerfile::suggest::suggest_variable;
use crate::dockerfile::{Dockerfile, Stage};
use crate::plan::arguments::Globals;

/// What a platform is by itself.
const TARGET_PLATFORM: &str = "TARGETPLATFORM";

impl Linter {
    /// Base images should have names even if no build argument is given: `defaults` are the
    /// arguments of such a build.
    pub(crate) fn check_defaults(&self, dockerfile: &Dockerfile, defaults: &Globals) {
        let expander = Expander::new(dockerfile.directives.escape);
        for stage in &dockerfile.stages {
            let image = &stage.from.kind.image;
            let Ok(name) = expander.process_word(image, defaults.values()) else {
                // Planning says why, and at which stage.
                return;
            };
            if !may_be_base(&name.text) {
                let detail = format!(
                    "Default value for ARG {image} results in empty or invalid base image name"
                );
                self.report(Rule::InvalidDefaultArgInFrom, stage.from.range, detail);
            }
        }
    }

    /// The arguments and platforms of all FROMs.
    pub(crate) fn check_bases(&self, dockerfile: &Dockerfile, globals: &Globals) {
        let expander = Expander::new(dockerfile.directives.escape);
        let declared: BTreeSet<&str> = dockerfile
            .global_args
            .iter()
            .flat_map(|arg| arg.kind.names())
            .chain(globals.values().keys().map(String::as_str))
            .collect();
        for stage in &dockerfile.stages {
            let scope = self.scope(&stage.from);
            let from = &stage.from.kind;
            if let Ok(name) = expander.process_word(&from.image, globals.values()) {
                scope.declared_arguments(&name, &declared);
            }
            if let Some(written) = &from.platform
                && let Ok(platform) = expander.process_word(written, globals.values())
            {
                scope.declared_arguments(&platform, &declared);
                scope.redundant_platform(written, &platform, globals);
                scope.constant_platform(stage, &platform);
            }
        }
    }
}

impl LintScope<'_> {
    fn declared_arguments(&self, word: &Expanded, declared: &BTreeSet<&str>) {
        let undeclared = word.undefined.iter().map(String::as_str);
        for name in undeclared.filter(|name| !declared.contains(name)) {
            let mut detail = format!("FROM argument '{name}' is not declared");
            if let Some(near) = suggest_variable(name, declared.iter().copied()) {
                detail.push_str(&format!(" (did you mean {near}?)"));
            }
            self.report(Rule::UndefinedArgInFrom, detail);
        }
    }

    fn redundant_platform(&self, written: &str, platform: &Expanded, globals: &Globals) {
        let only = platform.undefined.is_empty()
            && platform.defined.len() == 1
            && platform.defined.contains(TARGET_PLATFORM);
        if only && globals.get(TARGET_PLATFORM) == Some(&platform.text) {
            let detail = format!(
                "Setting platform to predefined {written} in FROM is redundant as this is the \
                 default behavior"
            );
            self.report(Rule::RedundantTargetPlatform, detail);
        }
    }

    /// A platform without a variable is meant where the stage's name tells of it.
    fn constant_platform(&self, stage: &Stage, platform: &Expanded) {
        if !(platform.defined.is_empty() && platform.undefined.is_empty()) {
            return;
        }
        let Ok(parsed) = platform.text.parse::<Platform>() else {
            return;
        };
        let name = stage.name().unwrap_or_default();
        if !name.contains(&parsed.os) && !name.contains(&parsed.arch) {
            let detail = format!(
                "FROM --platform flag should not use constant value {:?}",
                platform.text
            );
            self.report(Rule::FromPlatformFlagConstDisallowed, detail);
        }
    }

    /// An image that was found, for a platform that may be another than was asked for.
    pub(crate) fn image_platform(&self, image: &str, wanted: &Platform, found: &Platform) {
        // The variant does not matter here: images often leave it out.
        if (&wanted.os, &wanted.arch) != (&found.os, &found.arch) {
            let detail = format!(
                "Base image {image} was pulled with platform \"{found}\", expected \"{wanted}\" for \
                 current build"
            );
            // By the file's settings alone, as BuildKit has it.
            self.linter
                .report(Rule::InvalidBaseImagePlatform, self.range, detail);
        }
    }
}

/// Whether FROM could find something by this name.
fn may_be_base(name: &str) -> bool {
    let is_own_scheme = ["oci-layout://", "docker-image://"]
        .iter()
        .any(|scheme| name.starts_with(scheme));
    is_own_scheme || name.parse::<Reference>().is_ok()
}
