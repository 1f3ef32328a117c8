//! Rules that need no more than the parsed text.

use std::collections::BTreeSet;

use super::rule::Rule;
use super::{LintScope, Linter};
use crate::dockerfile::instruction::{FromInstruction, InstructionKind};
use crate::dockerfile::source::SourceRange;
use crate::dockerfile::warning::WarningKind;
use crate::dockerfile::{Dockerfile, Stage};

/// Names that mean something else: the build context, and the empty image.
const RESERVED_NAMES: [&str; 2] = ["context", "scratch"];

impl Linter {
    /// What shows while a text is read, so also in one that cannot be read to its end.
    pub fn check_instructions(&self, dockerfile: &Dockerfile) {
        for warning in &dockerfile.warnings {
            match warning.kind {
                WarningKind::EmptyContinuation => self.report(
                    Rule::NoEmptyContinuation,
                    warning.range,
                    "Empty continuation line".to_owned(),
                ),
            }
        }
        for arg in &dockerfile.global_args {
            let scope = self.scope(arg);
            scope.description("ARG", &arg.kind.names(), &arg.comments);
        }
        for stage in &dockerfile.stages {
            let scope = self.scope(&stage.from);
            scope.stage_name_casing(&stage.from.kind);
            scope.as_casing(&stage.from.kind);
            if let Some(name) = stage.name() {
                scope.description("FROM", &[name], &stage.from.comments);
            }
            for instruction in &stage.instructions {
                match &instruction.kind {
                    InstructionKind::Maintainer(_) => self.scope(instruction).report(
                        Rule::MaintainerDeprecated,
                        "Maintainer instruction is deprecated in favor of using label".to_owned(),
                    ),
                    InstructionKind::Arg(arg) => {
                        let scope = self.scope(instruction);
                        scope.description("ARG", &arg.names(), &instruction.comments);
                    }
                    _ => {}
                }
            }
        }
    }

    /// What only the whole text shows.
    pub(crate) fn check_file(&self, dockerfile: &Dockerfile) {
        self.stage_names(&dockerfile.stages);
        self.instruction_casing(&dockerfile.stages);
    }

    fn stage_names(&self, stages: &[Stage]) {
        let mut known = BTreeSet::new();
        for stage in stages {
            let Some(name) = stage.name() else { continue };
            if RESERVED_NAMES.contains(&name) {
                let detail =
                    format!("Stage name should not use the same name as reserved stage {name:?}");
                self.report(Rule::ReservedStageName, stage.from.range, detail);
            }
            if !known.insert(name) {
                let detail = format!("Duplicate stage name {name:?}, stage names should be unique");
                self.report(Rule::DuplicateStageName, stage.from.range, detail);
            }
        }
    }

    /// Keywords should all be in the case that most of them are in; upper case if there is no
    /// majority.
    fn instruction_casing(&self, stages: &[Stage]) {
        let keywords: Vec<(&str, SourceRange)> = stages
            .iter()
            .flat_map(|stage| {
                let place = (stage.from.keyword.as_str(), stage.from.range);
                let inside = stage.instructions.iter();
                std::iter::once(place).chain(inside.map(|one| (one.keyword.as_str(), one.range)))
            })
            .collect();
        let lower = keywords.iter().filter(|(word, _)| is_lower(word)).count();
        let upper = keywords.iter().filter(|(word, _)| is_upper(word)).count();
        let (is_right, case): (fn(&str) -> bool, _) = if lower > upper {
            (is_lower, "lowercase")
        } else {
            (is_upper, "uppercase")
        };
        for (word, range) in keywords {
            if !is_right(word) {
                let detail = format!(
                    "Command '{word}' should match the case of the command majority ({case})"
                );
                self.report(Rule::ConsistentInstructionCasing, range, detail);
            }
        }
    }
}

impl LintScope<'_> {
    fn stage_name_casing(&self, from: &FromInstruction) {
        if let Some((_, name)) = &from.name_as_written
            && *name != name.to_lowercase()
        {
            let detail = format!("Stage name '{name}' should be lowercase");
            self.report(Rule::StageNameCasing, detail);
        }
    }

    fn as_casing(&self, from: &FromInstruction) {
        let Some((keyword, _)) = &from.name_as_written else {
            return;
        };
        // One FROM that is neither is another rule's affair.
        let matches = if is_lower(&self.keyword) {
            is_lower(keyword)
        } else {
            !is_upper(&self.keyword) || is_upper(keyword)
        };
        if !matches {
            let detail = format!(
                "'{keyword}' and '{}' keywords' casing do not match",
                self.keyword
            );
            self.report(Rule::FromAsCasing, detail);
        }
    }

    /// The comment above a definition should begin with a name that it defines.
    fn description(&self, instruction: &str, names: &[&str], comments: &[String]) {
        let (Some(comment), Some(first)) = (comments.last(), names.first()) else {
            return;
        };
        let described = comment.split(' ').next().unwrap_or_default();
        if names.contains(&described) {
            return;
        }
        let example = if names.len() > 1 { "<arg_key>" } else { first };
        let detail = format!(
            "Comment for {instruction} should follow the format: `# {example} <description>`"
        );
        self.report(Rule::InvalidDefinitionDescription, detail);
    }
}

fn is_lower(word: &str) -> bool {
    word == word.to_lowercase()
}

fn is_upper(word: &str) -> bool {
    word == word.to_uppercase()
}
