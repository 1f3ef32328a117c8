//! What names mean: those of stages, and those of named contexts.

use ashlar_model::platform::Platform;
use ashlar_model::reference::Reference;

use crate::dockerfile::instruction::mount::source_name;
use crate::dockerfile::instruction::{InstructionKind, RunInstruction};
use crate::dockerfile::{Dockerfile, Instruction};
use crate::plan::error::PlanError;
use crate::plan::options::{NamedContext, PlanOptions};

/// Names that are never those of contexts, however they are given (BuildKit: `namedContextFunc`).
const RESERVED: [&str; 2] = ["context", "scratch"];

/// The named context that a name stands for on a platform. Where it is an image's name, however
/// it is written: `alpine`, `alpine:latest` and `docker.io/library/alpine` are one. A context
/// given as `name::os/architecture` goes before one for all platforms.
pub(in crate::plan) fn named_context<'a>(
    options: &'a PlanOptions,
    name: &str,
    platform: &Platform,
) -> Option<&'a NamedContext> {
    let name = familiar(name);
    if RESERVED.contains(&name.as_str()) {
        return None;
    }
    // Most builds have none, and few have more than a handful.
    let with = |wanted: Option<&Platform>| {
        let mut contexts = options.contexts.iter();
        contexts.find(|(known, _)| {
            let (known, of) = split_platform(known);
            of.as_ref() == wanted && familiar(known) == name
        })
    };
    let found = with(Some(platform)).or_else(|| with(None));
    found.map(|(_, context)| context)
}

/// The name of a context apart from the platform that it is for.
fn split_platform(name: &str) -> (&str, Option<Platform>) {
    match name.rsplit_once("::") {
        Some((plain, platform)) => match platform.parse() {
            Ok(platform) => (plain, Some(platform)),
            Err(_) => (name, None),
        },
        None => (name, None),
    }
}

/// The short form of an image's name, without `:latest`; other names as they are.
fn familiar(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    match lower.parse::<Reference>() {
        Ok(reference) => {
            let short = reference.familiar();
            short.strip_suffix(":latest").unwrap_or(&short).to_owned()
        }
        Err(_) => lower,
    }
}

/// The named context that takes a stage's place, if there is one.
pub(in crate::plan) fn replaced<'a>(
    dockerfile: &Dockerfile,
    options: &'a PlanOptions,
    index: usize,
    platform: &Platform,
) -> Option<&'a NamedContext> {
    named_context(options, dockerfile.stages[index].name()?, platform)
}

/// The stage that a FROM before `index` stands on: names count as they are written, and of
/// several with one name the last before it.
pub(super) fn base_stage(dockerfile: &Dockerfile, name: &str, index: usize) -> Option<usize> {
    dockerfile.stages[..index]
        .iter()
        .rposition(|stage| stage.name() == Some(name))
}

/// The stage that a source of stage `index` names, whatever the case of its letters. Of several
/// with one name, the last of the file; it may stand too late, which is for
/// [`check_order`] to find.
pub(in crate::plan) fn stage_by_name(dockerfile: &Dockerfile, name: &str) -> Option<usize> {
    let wanted = name.to_ascii_lowercase();
    dockerfile
        .stages
        .iter()
        .rposition(|stage| stage.name() == Some(&wanted))
}

/// The stage that `COPY --from` names: by number, or by name. `None` is no stage at all.
pub(in crate::plan) fn source_stage(
    dockerfile: &Dockerfile,
    from: &str,
) -> Result<Option<usize>, PlanError> {
    let Ok(number) = from.parse::<i64>() else {
        return Ok(stage_by_name(dockerfile, from));
    };
    let count = dockerfile.stages.len();
    match usize::try_from(number) {
        Ok(number) if number < count => Ok(Some(number)),
        _ => Err(PlanError::new(format!("invalid stage index {number}"))
            .about(from)
            .hinted(format!("stages have the numbers 0 to {}", count - 1))),
    }
}

/// Whether stage `index` comes after the stage that it copies from.
pub(in crate::plan) fn check_order(
    dockerfile: &Dockerfile,
    source: usize,
    from: &str,
    index: usize,
) -> Result<(), PlanError> {
    if source < index {
        return Ok(());
    }
    let current = display_name(dockerfile, index);
    Err(PlanError::new(format!(
        "cannot copy from stage {from:?}, it needs to be defined before current stage {current:?}"
    ))
    .about(from))
}

/// How messages call a stage.
pub(super) fn display_name(dockerfile: &Dockerfile, index: usize) -> String {
    match dockerfile.stages[index].name() {
        Some(name) => name.to_owned(),
        None => format!("stage-{index}"),
    }
}

/// The stages that an instruction takes files from. Those that stand too late are among them.
pub(super) fn sources_of(
    dockerfile: &Dockerfile,
    instruction: &InstructionKind,
) -> Result<Vec<usize>, PlanError> {
    match instruction {
        InstructionKind::Copy(copy) => match &copy.from {
            Some(from) => Ok(source_stage(dockerfile, from)?.into_iter().collect()),
            None => Ok(Vec::new()),
        },
        // Unlike COPY's, the `from` of a mount is never a number.
        InstructionKind::Run(run) => Ok(mounted_names(run)
            .filter_map(|from| stage_by_name(dockerfile, &from))
            .collect()),
        _ => Ok(Vec::new()),
    }
}

/// The names of contexts and images that an instruction takes files from: all that it names and
/// that is no stage.
pub(in crate::plan) fn foreign_names(
    dockerfile: &Dockerfile,
    instruction: &InstructionKind,
) -> Vec<String> {
    match instruction {
        InstructionKind::Copy(copy) => {
            let from = copy.from.iter();
            let foreign = |from: &&String| matches!(source_stage(dockerfile, from), Ok(None));
            from.filter(foreign).cloned().collect()
        }
        InstructionKind::Run(run) => mounted_names(run)
            .filter(|from| stage_by_name(dockerfile, from).is_none())
            .collect(),
        _ => Vec::new(),
    }
}

fn mounted_names(run: &RunInstruction) -> impl Iterator<Item = String> {
    run.mounts.iter().filter_map(|mount| source_name(mount))
}

/// The stages before `index` that instructions copy from.
pub(in crate::plan) fn copied_stages<'a>(
    dockerfile: &'a Dockerfile,
    index: usize,
    instructions: &'a [Instruction],
) -> impl Iterator<Item = usize> + 'a {
    instructions
        .iter()
        .flat_map(move |instruction| sources_of(dockerfile, &instruction.kind).unwrap_or_default())
        .filter(move |source| *source < index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_may_be_for_one_platform() {
        let arm: Platform = "linux/arm64".parse().unwrap();
        assert_eq!(split_platform("a::linux/arm64"), ("a", Some(arm)));
        assert_eq!(split_platform("a"), ("a", None));
        assert_eq!(split_platform("a::b c"), ("a::b c", None));
    }

    #[test]
    fn images_are_known_however_they_are_written() {
        for name in ["x", "x:latest", "docker.io/library/x", "Docker.io/x:latest"] {
            assert_eq!(familiar(name), "x");
        }
        assert_eq!(familiar("x:1"), "x:1");
        assert_eq!(familiar("quay.io/a/b"), "quay.io/a/b");
        assert_eq!(familiar("No Image"), "no image");
    }
}
