//! FROM, names, targets, platforms, ONBUILD and named contexts.

use super::{parsed, refused};
use crate::graph::{NodeKind, PlannedSource};
use crate::plan::testing::{Planned, plan_with, planned};
use crate::plan::{NamedContext, PlanError};

fn refusal(text: &str) -> PlanError {
    plan_with(text, |_| {})
        .map(|planned| planned.names)
        .unwrap_err()
}

fn with_context(text: &str, name: &str) -> Planned {
    let planned = plan_with(text, |options| {
        let other = NamedContext::Image("other".parse().unwrap());
        options.contexts.insert(name.into(), other);
    });
    planned.unwrap()
}

#[test]
fn a_stage_name_is_lower_case_letters_digits_and_some_signs() {
    let dockerfile = parsed("FROM a AS My-Stage_1.x\n");
    assert_eq!(dockerfile.stages[0].name(), Some("my-stage_1.x"));
    assert!(refused("FROM a AS 1x\n").starts_with(
        "invalid name for build stage: \"1x\", name can't start with a number or contain symbols"
    ));
}

#[test]
fn of_stages_with_one_name_the_last_counts() {
    let planned = planned("FROM a AS x\nFROM b AS x\nFROM x\n");
    assert_eq!(planned.images, ["b:latest"]);
    // For COPY the last of the file, though it comes too late.
    let error = refusal(
        "FROM a AS x\nFROM a\nCOPY --from=x /a /b\nFROM a AS x\nFROM x\nCOPY --from=1 a b\n",
    );
    assert!(
        error
            .to_string()
            .starts_with("cannot copy from stage \"x\""),
        "{error}"
    );
}

#[test]
fn from_takes_an_earlier_stage_then_a_named_context_then_scratch_then_an_image() {
    assert_eq!(planned("FROM a AS b\nFROM b\n").images, ["a:latest"]);
    assert_eq!(with_context("FROM c\n", "c").images, ["other:latest"]);
    assert_eq!(planned("FROM scratch\n").images.len(), 0);
    assert_eq!(
        planned("FROM b\nFROM a AS b\nFROM b\n").images,
        ["a:latest"]
    );
    let first = plan_with("FROM b\nFROM a AS b\n", |options| {
        options.target = Some("0".into());
    });
    assert_eq!(first.unwrap().images, ["b:latest"], "only earlier stages");
}

#[test]
fn from_takes_names_of_stages_as_they_are() {
    let error = refusal("FROM a AS Build\nFROM Build\n");
    assert!(
        error
            .to_string()
            .starts_with("failed to parse stage name \"Build\": invalid reference"),
        "{error}"
    );
    assert_eq!(
        error.hint.as_deref(),
        Some("names of stages are in lower case, and FROM takes them as they are: write build")
    );
    planned("FROM a AS Build\nFROM build\nCOPY --from=BUILD /x /y\n");
}

#[test]
fn a_context_named_as_a_stage_replaces_all_of_it() {
    let text = "FROM a AS x\nRUN never\nONBUILD RUN never\nFROM x\nRUN y\n";
    let planned = with_context(text, "x");
    assert_eq!(planned.images, ["other:latest"]);
    assert_eq!(planned.ops().len(), 1);
    let target = plan_with("FROM a AS x\nENV never=1\n", |options| {
        let other = NamedContext::Image("onbuild".parse().unwrap());
        options.contexts.insert("x".into(), other);
    });
    let config = target.unwrap().plan.config.config;
    assert!(config.on_build.is_empty(), "triggers are not passed on");
}

#[test]
fn contexts_are_never_called_scratch_or_context() {
    let planned = with_context("FROM scratch\nCOPY --from=scratch /a /b\n", "scratch");
    assert_eq!(planned.images.len(), 0);
    assert_eq!(
        with_context("FROM context\n", "context").images,
        ["context:latest"]
    );
}

#[test]
fn a_context_may_be_the_empty_image() {
    let planned = plan_with("FROM a\nCOPY --from=b /x /y\n", |options| {
        for name in ["a", "b"] {
            let scratch = NamedContext::Image("scratch".parse().unwrap());
            options.contexts.insert(name.into(), scratch);
        }
    });
    let planned = planned.unwrap();
    assert_eq!(planned.images.len(), 0);
    assert_eq!(planned.plan.config.config.working_dir, "/");
}

#[test]
fn a_context_may_be_for_one_platform() {
    let images = |platform: &str, from: &str| {
        let planned = plan_with(from, |options| {
            options.platform = platform.parse().unwrap();
            options.implicit_platform = false;
            let image = |name: &str| NamedContext::Image(name.parse().unwrap());
            options
                .contexts
                .insert("a::linux/arm64".into(), image("for-arm"));
            options.contexts.insert("a".into(), image("for-all"));
        });
        planned.unwrap().images
    };
    assert_eq!(images("linux/arm64", "FROM a\n"), ["for-arm:latest"]);
    assert_eq!(images("linux/amd64", "FROM a\n"), ["for-all:latest"]);
    assert_eq!(
        images("linux/amd64", "FROM --platform=linux/arm64 a\n"),
        ["for-arm:latest"]
    );
}

#[test]
fn a_blank_base_and_an_empty_platform_are_refused() {
    assert_eq!(
        refusal("FROM $NONE\n").to_string(),
        "base name ($NONE) should not be blank"
    );
    assert_eq!(
        refusal("FROM --platform=$NONE a\n").to_string(),
        "empty platform value from expression $NONE"
    );
    assert!(
        refusal("FROM --platform=a/b/c/d a\n")
            .to_string()
            .starts_with("failed to parse platform")
    );
    planned("FROM --platform= a\n");
}

#[test]
fn stages_that_nobody_needs_must_make_sense_still() {
    for (text, message) in [
        (
            "FROM $NONE AS unused\nFROM scratch\n",
            "should not be blank",
        ),
        (
            "FROM UPPER AS unused\nFROM scratch\n",
            "failed to parse stage name",
        ),
        (
            "FROM a AS unused\nCOPY --from=9 a b\nFROM scratch\n",
            "invalid stage index 9",
        ),
        (
            "FROM a AS unused\nCOPY --from=unused a b\nFROM scratch\n",
            "circular dependency detected on stage: unused",
        ),
    ] {
        let error = refusal(text);
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.place.is_some());
    }
}

#[test]
fn the_target_is_a_stage_by_name_or_the_last() {
    let target = |text: &str, name: &str| {
        let planned = plan_with(text, |options| options.target = Some(name.into()));
        planned.map(|planned| planned.images)
    };
    assert_eq!(target("FROM a AS x\nFROM b\n", "X").unwrap(), ["a:latest"]);
    assert_eq!(target("FROM a AS x\nFROM b\n", "").unwrap(), ["b:latest"]);
    let error = target("FROM a AS build\n", "bulid").unwrap_err();
    assert_eq!(
        error.to_string(),
        "target stage \"bulid\" could not be found"
    );
    assert_eq!(error.hint.as_deref(), Some("did you mean build?"));
}

#[test]
fn copy_from_takes_a_name_or_a_number_of_an_earlier_stage() {
    let planned = planned("FROM a AS x\nFROM scratch\nCOPY --from=0 /a /b\nCOPY --from=X /a /b\n");
    let node = |number: usize| match planned.copy(number).sources[0] {
        PlannedSource::Node { node, .. } => node,
        ref other => panic!("{other:?}"),
    };
    assert_eq!(node(0), node(1));
    assert_eq!(
        refusal("FROM a AS x\nCOPY --from=y /a /b\nFROM a AS y\nFROM x\n").to_string(),
        "cannot copy from stage \"y\", it needs to be defined before current stage \"x\""
    );
    assert_eq!(
        refusal("FROM a\nCOPY --from=0 /a /b\n").to_string(),
        "circular dependency detected on stage: stage-0"
    );
}

#[test]
fn scratch_has_a_path_a_directory_and_the_platform_of_the_target() {
    let planned = plan_with("FROM --platform=linux/s390x scratch\n", |options| {
        options.platform = "linux/arm/v6".parse().unwrap();
        options.implicit_platform = false;
    });
    let config = planned.unwrap().plan.config;
    assert_eq!(config.config.working_dir, "/");
    assert_eq!(
        config.config.env,
        ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    );
    assert_eq!(
        (config.os.as_str(), config.architecture.as_str()),
        ("linux", "arm")
    );
    assert_eq!(
        (config.variant.as_str(), config.rootfs.kind.as_str()),
        ("v6", "layers")
    );
}

#[test]
fn an_image_gets_a_path_only_if_it_has_none() {
    let path = |image: &str| planned(&format!("FROM {image}\n")).plan.config.config.env;
    assert_eq!(path("a"), ["BASE=1", "PATH=/base"]);
    assert_eq!(path("bare").len(), 1);
}

#[test]
fn an_image_without_layers_is_as_good_as_scratch() {
    let planned = planned("FROM empty\nRUN x\n");
    let bases = planned
        .plan
        .graph
        .nodes()
        .filter_map(|(_, node)| match &node.kind {
            NodeKind::Base(base) => Some(base.key),
            _ => None,
        });
    assert_eq!(bases.collect::<Vec<_>>(), [crate::key::scratch_key()]);
    assert!(
        planned.env(0).contains(&"BASE=1".to_owned()),
        "but for its configuration"
    );
}

#[test]
fn a_stage_inherits_files_configuration_environment_arguments_and_platform() {
    let planned = planned(
        "FROM --platform=linux/s390x a AS x\nARG P=1\nENV E=2\nUSER u\nWORKDIR /q\nLABEL l=1\n\
         SHELL [\"/s\"]\nFROM x\nRUN y\n",
    );
    let run = planned.run(0);
    assert_eq!(planned.env(0), ["BASE=1", "PATH=/base", "P=1", "E=2"]);
    assert_eq!((run.user.as_str(), run.cwd.as_str()), ("u", "/q"));
    assert_eq!(run.args, ["/s", "y"]);
    assert_eq!(
        planned.history().last(),
        Some(&"RUN |1 P=1 /s y # buildkit")
    );
    assert_eq!(planned.plan.platform.to_string(), "linux/s390x");
    assert_eq!(planned.plan.config.config.labels["l"], "1");
}

#[test]
fn a_base_for_another_platform_is_adopted_if_nobody_asked_for_one() {
    let plan = |implicit: bool, emulated: bool| {
        let planned = plan_with("FROM arm\n", |options| {
            options.implicit_platform = implicit;
            if emulated {
                options.emulated = vec!["linux/arm64".parse().unwrap()];
            }
        });
        planned.map(|planned| planned.plan.platform.to_string())
    };
    assert_eq!(plan(true, true).unwrap(), "linux/arm64");
    assert_eq!(
        plan(true, false).unwrap(),
        "linux/arm64",
        "what it is made for is said still"
    );
    assert_eq!(
        plan(false, true).unwrap(),
        "linux/amd64",
        "what was asked for counts"
    );
}

#[test]
fn the_image_is_for_the_platform_that_was_asked_for() {
    let planned = plan_with("FROM --platform=$BUILDPLATFORM a\n", |options| {
        options.platform = "linux/arm/v7".parse().unwrap();
        options.implicit_platform = false;
    });
    let planned = planned.unwrap();
    assert_eq!(planned.platforms, ["linux/arm64"]);
    assert_eq!(planned.plan.platform.to_string(), "linux/arm/v7");
    assert_eq!(planned.plan.config.architecture, "arm");
}

#[test]
fn labels_of_the_command_line_are_merged_last_without_history() {
    let planned = plan_with("FROM scratch\nLABEL a=1 b=1\n", |options| {
        options.labels = vec![("a".into(), "2".into())];
    });
    let planned = planned.unwrap();
    assert_eq!(planned.plan.config.config.labels["a"], "2");
    assert_eq!(planned.history(), ["LABEL a=1 b=1"]);
}

#[test]
fn onbuild_of_images_and_of_stages_runs_right_after_from_and_is_gone_then() {
    let image = planned("FROM onbuild\nRUN own\n");
    assert_eq!(image.run(0).args[2], "triggered");
    assert!(image.plan.config.config.on_build.is_empty());
    let stage = planned("FROM a AS x\nONBUILD RUN t\nRUN x\nFROM x AS y\nRUN own\nFROM y\n");
    let runs: Vec<_> = (0..3)
        .map(|number| stage.run(number).args[2].clone())
        .collect();
    assert_eq!(
        runs,
        ["x", "t", "own"],
        "once, and not for those who build on y"
    );
    assert_eq!(stage.plan.config.config.on_build.len(), 0);
}

#[test]
fn onbuild_may_need_stages_that_nothing_else_does() {
    let planned = planned(
        "FROM a AS tools\nRUN t\nFROM scratch AS on\nONBUILD COPY --from=tools /t /t\nFROM on\n",
    );
    assert_eq!(planned.ops().len(), 2);
    let label = "[stage-2 1/1] ONBUILD COPY --from=tools /t /t";
    assert!(
        planned.names.iter().any(|name| name == label),
        "{:?}",
        planned.names
    );
}

#[test]
fn onbuild_refuses_itself_from_and_maintainer() {
    assert_eq!(
        refused("FROM a\nONBUILD ONBUILD RUN x"),
        "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"
    );
    for keyword in ["FROM", "MAINTAINER"] {
        assert_eq!(
            refused(&format!("FROM a\nonbuild {keyword} x")),
            format!("{keyword} isn't allowed as an ONBUILD trigger")
        );
    }
    assert_eq!(
        refused("FROM a\nONBUILD"),
        "ONBUILD requires at least one argument"
    );
}
