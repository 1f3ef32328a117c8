//! What a build can be given: `--call outline`. Source: BuildKit, `dockerfile2llb/outline.go`.

use std::collections::{BTreeMap, BTreeSet};

use super::arguments::Globals;
use super::options::PlanOptions;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::instruction::{ArgDeclaration, ArgInstruction};
use crate::dockerfile::source::SourceRange;
use crate::dockerfile::{Dockerfile, Instruction, Stage};

/// What the target of a build takes from outside.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outline {
    /// The target's name.
    pub name: Option<String>,
    /// What the comment above the target says of it.
    pub description: Option<String>,
    /// The build arguments that the target and what it needs look at, in the order of lines.
    pub arguments: Vec<OutlineArgument>,
    /// Secrets of `RUN --mount=type=secret`, in the order of lines.
    pub secrets: Vec<OutlineAccess>,
    /// Agents of `RUN --mount=type=ssh`, in the order of lines.
    pub ssh: Vec<OutlineAccess>,
}

/// A build argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineArgument {
    /// Its name.
    pub name: String,
    /// The value that it has now; empty if it has none.
    pub value: String,
    /// What the comment above its ARG says of it.
    pub description: Option<String>,
    /// Its ARG.
    pub range: SourceRange,
}

/// Something that a build may be let use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineAccess {
    /// Its name.
    pub id: String,
    /// Whether the build fails without it.
    pub required: bool,
    /// The RUN that uses it.
    pub range: SourceRange,
}

/// What one stage says of build arguments.
#[derive(Debug, Clone, Default)]
pub(super) struct StageArguments {
    /// Those that it gives a default, or takes from the command line.
    defined: Vec<OutlineArgument>,
    /// Those that it declares.
    declared: BTreeSet<String>,
}

impl StageArguments {
    /// Notes an ARG, whose values are known now.
    pub(super) fn note<K>(
        &mut self,
        instruction: &Instruction<K>,
        arg: &ArgInstruction,
        values: &[(String, Option<String>)],
        options: &PlanOptions,
        globals: &Globals,
    ) {
        for (declaration, (_, value)) in arg.declarations.iter().zip(values) {
            let name = &declaration.name;
            self.declared.insert(name.clone());
            let is_global = declaration.default.is_none()
                && !options.build_args.contains_key(name)
                && globals.get(name).is_some();
            if !is_global {
                self.defined.retain(|known| known.name != *name);
                self.defined
                    .push(argument(instruction, declaration, value.as_ref()));
            }
        }
    }
}

fn argument<K>(
    instruction: &Instruction<K>,
    declaration: &ArgDeclaration,
    value: Option<&String>,
) -> OutlineArgument {
    OutlineArgument {
        name: declaration.name.clone(),
        value: value.cloned().unwrap_or_default(),
        description: instruction
            .description_of(&declaration.name)
            .map(str::to_owned),
        range: instruction.range,
    }
}

/// Global arguments, and which of them the value of each is made of.
struct GlobalArguments<'a> {
    by_name: BTreeMap<&'a str, (OutlineArgument, BTreeSet<String>)>,
}

impl<'a> GlobalArguments<'a> {
    fn new(dockerfile: &'a Dockerfile, options: &PlanOptions, globals: &Globals) -> Self {
        let expander = Expander::new(dockerfile.directives.escape);
        let mut by_name = BTreeMap::new();
        for instruction in &dockerfile.global_args {
            for declaration in &instruction.kind.declarations {
                let name = declaration.name.as_str();
                let known = argument(instruction, declaration, globals.get(name));
                let given = options.build_args.contains_key(name);
                let default = declaration.default.as_deref().filter(|_| !given);
                let parts = default
                    .and_then(|default| expander.process_word(default, globals.values()).ok())
                    .map(|expanded| expanded.defined)
                    .unwrap_or_default();
                by_name.insert(name, (known, parts));
            }
        }
        Self { by_name }
    }

    /// Adds to some names those that their values are made of.
    fn complete(&self, used: &mut BTreeSet<String>) {
        let mut pending: Vec<String> = used.iter().cloned().collect();
        while let Some(name) = pending.pop() {
            let Some((_, parts)) = self.by_name.get(name.as_str()) else {
                continue;
            };
            for part in parts {
                if used.insert(part.clone()) {
                    pending.push(part.clone());
                }
            }
        }
    }
}

/// The arguments that stages look at, the target's first: of several that define one name, the
/// first counts.
pub(super) fn arguments<'a>(
    dockerfile: &Dockerfile,
    options: &PlanOptions,
    globals: &Globals,
    stages: impl Iterator<Item = (&'a Stage, &'a StageArguments)>,
) -> Vec<OutlineArgument> {
    let expander = Expander::new(dockerfile.directives.escape);
    let global = GlobalArguments::new(dockerfile, options, globals);
    let mut found: BTreeMap<String, OutlineArgument> = BTreeMap::new();
    for (stage, own) in stages {
        let mut used = own.declared.clone();
        let from = &stage.from.kind;
        for word in [Some(&from.image), from.platform.as_ref()]
            .into_iter()
            .flatten()
        {
            if let Ok(expanded) = expander.process_word(word, globals.values()) {
                used.extend(expanded.defined);
            }
        }
        global.complete(&mut used);
        for name in used {
            let defined = own.defined.iter().find(|known| known.name == name);
            let known = defined.or_else(|| Some(&global.by_name.get(name.as_str())?.0));
            if let Some(known) = known {
                found.entry(name).or_insert_with(|| known.clone());
            }
        }
    }
    let mut arguments: Vec<OutlineArgument> = found.into_values().collect();
    arguments.sort_by_key(|argument| argument.range);
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::outline_with;

    /// `name=value description` of each argument.
    fn arguments(outline: &Outline) -> Vec<String> {
        let show = |argument: &OutlineArgument| {
            let description = argument.description.as_deref().unwrap_or("-");
            format!("{}={} {description}", argument.name, argument.value)
        };
        outline.arguments.iter().map(show).collect()
    }

    const TEXT: &str = "\
# inherited is in the value of another
ARG inherited=abc
# BASE is the image
ARG BASE=busybox:$inherited
ARG unused=1
FROM $BASE AS base
ARG of_base=b
# second is needed
FROM base AS second
# first is nothing
# fourth is more
ARG first=1 fourth
ARG inherited
FROM scratch AS elsewhere
ARG not_seen=1
# final is what comes out
FROM scratch AS final
ARG TARGETARCH own=${TARGETARCH}
COPY --from=second /a /
";

    #[test]
    fn the_arguments_of_the_target_and_its_sources_are_listed() {
        let outline = outline_with(TEXT, |_| {}).unwrap();
        assert_eq!(outline.name.as_deref(), Some("final"));
        assert_eq!(outline.description.as_deref(), Some("is what comes out"));
        assert_eq!(
            arguments(&outline),
            [
                "inherited=abc is in the value of another",
                "BASE=busybox:abc is the image",
                "of_base=b -",
                "first=1 is nothing",
                "fourth= is more",
                "own=amd64 -",
            ]
        );
        let lines: Vec<u32> = outline
            .arguments
            .iter()
            .map(|a| a.range.start.line)
            .collect();
        assert_eq!(lines, [2, 4, 7, 12, 12, 18]);
    }

    #[test]
    fn another_target_has_other_arguments_and_the_values_given() {
        let outline = outline_with(TEXT, |options| {
            options.target = Some("elsewhere".to_owned());
            options
                .build_args
                .insert("not_seen".to_owned(), "2".to_owned());
        })
        .unwrap();
        assert_eq!(arguments(&outline), ["not_seen=2 -"]);
        // What is given for a global argument is not made of others.
        let outline = outline_with(TEXT, |options| {
            options.target = Some("base".to_owned());
            options.build_args.insert("BASE".to_owned(), "x".to_owned());
        })
        .unwrap();
        assert_eq!(arguments(&outline), ["BASE=x is the image", "of_base=b -"]);
    }

    #[test]
    fn secrets_and_agents_are_listed_once() {
        let text = "FROM scratch AS base\nRUN --mount=type=secret,id=token,required=true x\n\
                    RUN --mount=type=ssh y\nFROM scratch\nRUN --mount=type=secret,id=unused z\n\
                    FROM base\nRUN --mount=type=secret,id=token --mount=type=ssh,id=git,required \\\n \
                    --mount=type=secret,target=/other x\n";
        let outline = outline_with(text, |_| {}).unwrap();
        let show = |list: &[OutlineAccess]| {
            let one = |a: &OutlineAccess| (a.id.clone(), a.required, a.range.start.line);
            list.iter().map(one).collect::<Vec<_>>()
        };
        assert_eq!(
            show(&outline.secrets),
            [
                ("token".to_owned(), true, 2),
                ("other".to_owned(), false, 7)
            ]
        );
        assert_eq!(
            show(&outline.ssh),
            [
                ("default".to_owned(), false, 3),
                ("git".to_owned(), true, 7)
            ]
        );
    }

    #[test]
    fn a_target_without_a_name_has_an_outline_too() {
        let outline = outline_with("FROM scratch\nARG a\nARG a=2\n", |_| {}).unwrap();
        assert_eq!(outline.name, None);
        assert_eq!(arguments(&outline), ["a=2 -"]);
        outline_with("# check=error=true\nFROM scratch as a\n", |_| {}).unwrap_err();
    }
}
