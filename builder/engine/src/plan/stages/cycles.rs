//! Stages that copy from themselves, be it by way of others.

use super::names::{display_name, sources_of};
use crate::dockerfile::instruction::mount::source_name;
use crate::dockerfile::{Dockerfile, Instruction, InstructionKind};
use crate::plan::error::PlanError;

/// A stage that another one takes files from, and the instruction that does.
type Dependency<'a> = (usize, &'a Instruction);

/// Refuses cycles, and numbers that are no stage's, in all stages: also in those that the target
/// does not need. Source: BuildKit, `validateCircularDependency`.
pub(super) fn refuse_cycles(dockerfile: &Dockerfile) -> Result<(), PlanError> {
    let dependencies = dockerfile
        .stages
        .iter()
        .map(|stage| dependencies(dockerfile, &stage.instructions))
        .collect::<Result<Vec<_>, _>>()?;
    let mut known = vec![State::New; dependencies.len()];
    for start in 0..dependencies.len() {
        if let Some(instruction) = cycle_from(start, &dependencies, &mut known) {
            let name = display_name(dockerfile, start);
            let message = format!("circular dependency detected on stage: {name}");
            let from = match &instruction.kind {
                InstructionKind::Copy(copy) => copy.from.as_deref(),
                InstructionKind::Run(run) => {
                    let mut mounts = run.mounts.iter();
                    let named = mounts.find(|mount| source_name(mount).is_some());
                    named.map(String::as_str)
                }
                _ => None,
            };
            return Err(PlanError::new(message)
                .about(from.unwrap_or_default())
                .within(&dockerfile.source, instruction));
        }
    }
    Ok(())
}

fn dependencies<'a>(
    dockerfile: &Dockerfile,
    instructions: &'a [Instruction],
) -> Result<Vec<Dependency<'a>>, PlanError> {
    let mut found = Vec::new();
    for instruction in instructions {
        let sources = sources_of(dockerfile, &instruction.kind)
            .map_err(|error| error.within(&dockerfile.source, instruction))?;
        found.extend(sources.into_iter().map(|source| (source, instruction)));
    }
    Ok(found)
}

/// How far a stage has been looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    /// On the way from the stage that was started at.
    Open,
    Done,
}

/// The first instruction on a way from `start` that leads back to the way itself. There may be
/// very many stages: no recursion.
fn cycle_from<'a>(
    start: usize,
    dependencies: &[Vec<Dependency<'a>>],
    known: &mut [State],
) -> Option<&'a Instruction> {
    let mut way: Vec<(usize, usize)> = vec![(start, 0)];
    if known[start] != State::New {
        return None;
    }
    known[start] = State::Open;
    while let Some((stage, next)) = way.last_mut() {
        let Some((source, _)) = dependencies[*stage].get(*next) else {
            known[*stage] = State::Done;
            way.pop();
            continue;
        };
        *next += 1;
        match known[*source] {
            State::Open => {
                let (first, taken) = way.first()?;
                return Some(dependencies[*first].get(taken - 1)?.1);
            }
            State::New => {
                known[*source] = State::Open;
                way.push((*source, 0));
            }
            State::Done => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse;

    fn refused(text: &str) -> Option<(String, u32)> {
        let dockerfile = parse("Dockerfile", text.as_bytes()).unwrap();
        let error = refuse_cycles(&dockerfile).err()?;
        let line = error.place.as_ref().unwrap().range.start.line;
        Some((error.to_string(), line))
    }

    #[test]
    fn a_way_back_is_refused_at_its_first_instruction() {
        let message = |name| format!("circular dependency detected on stage: {name}");
        for (text, expected) in [
            ("FROM a AS x\nCOPY --from=x a b", Some((message("x"), 2))),
            (
                "FROM a\nRUN x\nCOPY --from=0 a b",
                Some((message("stage-0"), 3)),
            ),
            (
                "FROM a AS x\nCOPY --from=y a b\nFROM a AS y\nCOPY --from=x a b",
                Some((message("x"), 2)),
            ),
            (
                "FROM a AS x\nCOPY --from=y a b\nFROM a AS y\nCOPY --from=z a b\n\
                 FROM a AS z\nCOPY --from=y a b",
                Some((message("x"), 2)),
            ),
            // The name is that of the last one, which is the stage itself.
            (
                "FROM a AS x\nRUN --mount=from=y,target=/m y\nFROM a AS y\nCOPY --from=x a b",
                Some((message("x"), 2)),
            ),
            (
                "FROM a AS x\nFROM x AS x\nCOPY --from=x a b",
                Some((message("x"), 3)),
            ),
            (
                "FROM a AS x\nFROM a\nCOPY --from=x a b\nCOPY --from=0 a b",
                None,
            ),
        ] {
            assert_eq!(refused(text), expected, "{text}");
        }
    }

    #[test]
    fn numbers_must_be_those_of_stages() {
        for number in ["2", "-1", "99999999999"] {
            let text = format!("FROM a\nFROM b\nCOPY --from={number} a b");
            let expected = (format!("invalid stage index {number}"), 3);
            assert_eq!(refused(&text), Some(expected));
        }
    }

    #[test]
    fn long_chains_do_not_exhaust_the_stack() {
        let mut text = String::from("FROM a\n");
        for stage in 0..20_000 {
            text += &format!("FROM a\nCOPY --from={stage} a b\n");
        }
        assert_eq!(refused(&text), None);
    }
}
