//! What holds for every text.

use proptest::prelude::*;

use crate::dockerfile::instruction::KEYWORDS;
use crate::dockerfile::{InstructionKind, parse};
use crate::plan::PlanError;
use crate::plan::testing::plan_with;

/// An instruction that may or may not make sense.
fn instruction() -> impl Strategy<Value = String> {
    let sensible = prop::sample::select(vec![
        "ARG A=1",
        "ARG B=${A}x",
        "ENV A=$B C=\"$A\"",
        "ENV P ${A:-b}",
        "WORKDIR $A/x",
        "USER $A",
        "EXPOSE $A 1-3/udp",
        "VOLUME /$B",
        "LABEL l=$A",
        "COPY --from=s0 $A /x",
        "COPY a$A /b/",
        "COPY --from=0 a b",
        "RUN x $A",
        "RUN <<E\n$A\nE",
        "CMD [\"$A\"]",
        "ONBUILD RUN $A",
        "ONBUILD COPY --from=s1 a b",
        "FROM s0 AS s1",
        "FROM $A",
        "FROM scratch",
        "SHELL [\"/s\"]",
        "ADD --chown=$A <<E /x\n$A\nE",
        "HEALTHCHECK --interval=1s CMD x",
        "STOPSIGNAL 9",
    ]);
    let any = (
        prop::sample::select(KEYWORDS.to_vec()),
        "[a-bs0-9$\\{\\}:+?#%/\"'\\\\ =.,\\[\\]<\n-]{0,14}",
    );
    prop_oneof![
        3 => sensible.prop_map(str::to_owned),
        1 => any.prop_map(|(keyword, arguments)| format!("{keyword} {arguments}")),
    ]
}

fn dockerfile() -> impl Strategy<Value = String> {
    let instructions = prop::collection::vec(instruction(), 0..12);
    instructions.prop_map(|lines| format!("ARG A=a\nFROM img AS s0\n{}\n", lines.join("\n")))
}

fn assert_placed(text: &str, error: &PlanError) -> Result<(), TestCaseError> {
    let Some(place) = &error.place else {
        return Err(TestCaseError::fail(format!(
            "{error} has no place in:\n{text}"
        )));
    };
    prop_assert!(
        !place.snippet().is_empty(),
        "{error}: {:?} in:\n{text}",
        place.range
    );
    Ok(())
}

proptest! {
    #[test]
    fn a_plan_or_an_error_with_its_place_and_never_a_panic(text in dockerfile()) {
        if parse("Dockerfile", text.as_bytes()).is_ok()
            && let Err(error) = plan_with(&text, |_| {})
        {
            assert_placed(&text, &error)?;
        }
    }

    #[test]
    fn the_same_text_gives_the_same_plan(text in dockerfile()) {
        if parse("Dockerfile", text.as_bytes()).is_ok()
            && let (Ok(one), Ok(two)) = (plan_with(&text, |_| {}), plan_with(&text, |_| {}))
        {
            prop_assert_eq!(one.plan.config.to_vec(), two.plan.config.to_vec());
            prop_assert_eq!(one.names, two.names);
        }
    }

    #[test]
    fn entries_with_a_layer_are_as_many_as_steps_and_layers(text in dockerfile()) {
        if parse("Dockerfile", text.as_bytes()).is_ok()
            && let Ok(planned) = plan_with(&text, |_| {})
        {
            let history = &planned.plan.config.history;
            let layers = history.iter().filter(|entry| !entry.empty_layer).count();
            let graph = &planned.plan.graph;
            let lineage = graph.lineage(planned.plan.target);
            let steps = lineage.filter(|node| graph.node(*node).is_step()).count();
            prop_assert_eq!(layers, steps);
        }
    }

    #[test]
    fn every_instruction_knows_its_text(text in dockerfile()) {
        if let Ok(dockerfile) = parse("Dockerfile", text.as_bytes()) {
            for instruction in dockerfile.stages.iter().flat_map(|stage| &stage.instructions) {
                prop_assert!(text.contains(&instruction.original));
                prop_assert!(instruction.original.starts_with(&instruction.keyword));
                if let InstructionKind::Env(env) = &instruction.kind {
                    prop_assert!(!env.pairs.is_empty());
                }
            }
        }
    }
}
