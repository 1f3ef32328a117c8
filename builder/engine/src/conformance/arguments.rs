//! ARG, ENV, and the arguments that are there by themselves.

use crate::plan::testing::{Planned, plan_with, planned};

fn with(text: &str, arguments: &[(&str, &str)]) -> Planned {
    let planned = plan_with(text, |options| {
        for (name, value) in arguments {
            options.build_args.insert((*name).into(), (*value).into());
        }
    });
    planned.unwrap()
}

fn refusal(text: &str, arguments: &[(&str, &str)]) -> String {
    let planned = plan_with(text, |options| {
        for (name, value) in arguments {
            options.build_args.insert((*name).into(), (*value).into());
        }
    });
    planned
        .map(|planned| planned.names)
        .unwrap_err()
        .to_string()
}

#[test]
fn a_global_argument_is_visible_to_from_and_inherited_by_declaring_it() {
    let planned =
        planned("ARG A=1 B=${A}2\nFROM img:$B AS x\nRUN x\nARG B\nRUN y\nARG A=own\nRUN z\n");
    assert_eq!(planned.images, ["img:12"]);
    assert!(
        !planned
            .env(0)
            .iter()
            .any(|variable| variable.starts_with('B') && !variable.starts_with("BASE"))
    );
    assert!(planned.env(1).contains(&"B=12".to_owned()));
    assert!(planned.env(2).contains(&"A=own".to_owned()));
}

#[test]
fn a_build_argument_goes_before_a_default_which_goes_before_the_global_value() {
    let text = "ARG A=global\nFROM scratch\nARG A=default\nRUN x\n";
    assert_eq!(with(text, &[("A", "given")]).env(0)[1..], ["A=given"]);
    assert_eq!(with(text, &[]).env(0)[1..], ["A=default"]);
    let text = "ARG A=global\nFROM scratch\nARG A\nRUN x\n";
    assert_eq!(with(text, &[]).env(0)[1..], ["A=global"]);
    let text = "FROM scratch\nARG A\nRUN x\n";
    assert_eq!(with(text, &[]).env(0).len(), 1, "unset");
    assert_eq!(with(text, &[("A", "")]).env(0)[1..], ["A="], "empty is set");
}

#[test]
fn a_build_argument_that_nobody_declares_is_seen_by_nobody() {
    assert_eq!(
        with("FROM scratch\nRUN x\n", &[("A", "given")])
            .env(0)
            .len(),
        1
    );
}

#[test]
fn a_later_arg_beats_env_for_steps_while_the_image_keeps_env() {
    let planned =
        planned("FROM scratch\nENV X=env\nARG X=arg\nRUN x\nARG Y=arg\nENV Y=env\nRUN y\n");
    assert!(planned.env(0).contains(&"X=arg".to_owned()));
    assert!(planned.env(1).contains(&"Y=env".to_owned()));
    let env = &planned.plan.config.config.env;
    assert_eq!(env[1..], ["X=env", "Y=env"]);
}

#[test]
fn a_mandatory_default_matters_only_if_it_is_used() {
    let text = "FROM scratch\nARG X=\"${Y:?no y}\"\n";
    assert!(refusal(text, &[]).contains("Y: no y"));
    with(text, &[("X", "given")]);
    with(
        "ARG Y\nFROM scratch\nARG X=\"${Y:?no y}\"\n",
        &[("X", "given")],
    );
}

#[test]
fn platform_arguments_are_automatic_but_must_be_declared() {
    let names = "TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT TARGETOSVERSION BUILDPLATFORM \
                 BUILDOS BUILDARCH BUILDVARIANT BUILDOSVERSION";
    let text = format!("FROM scratch\nRUN x\nARG {names}\nRUN y\n");
    let planned = plan_with(&text, |options| {
        options.platform = "linux/arm/v7".parse().unwrap();
        options.build_platform = "linux/amd64".parse().unwrap();
    });
    let planned = planned.unwrap();
    assert_eq!(planned.env(0).len(), 1);
    assert_eq!(
        planned.env(1)[1..],
        [
            "TARGETPLATFORM=linux/arm/v7",
            "TARGETOS=linux",
            "TARGETARCH=arm",
            "TARGETVARIANT=v7",
            "TARGETOSVERSION=",
            "BUILDPLATFORM=linux/amd64",
            "BUILDOS=linux",
            "BUILDARCH=amd64",
            "BUILDVARIANT=",
            "BUILDOSVERSION=",
        ]
    );
    assert_eq!(
        with(&text, &[("TARGETARCH", "own")]).env(1)[3],
        "TARGETARCH=own"
    );
}

#[test]
fn targetstage_is_the_name_of_the_target() {
    let stage = |text: &str, target: Option<&str>| {
        let planned = plan_with(text, |options| options.target = target.map(str::to_owned));
        planned.unwrap().env(0).last().unwrap().clone()
    };
    let run = "ARG TARGETSTAGE\nRUN x\n";
    assert_eq!(
        stage(&format!("FROM scratch\n{run}"), None),
        "TARGETSTAGE=default"
    );
    let two = format!("FROM scratch AS a\n{run}FROM a AS b\n");
    assert_eq!(stage(&two, None), "TARGETSTAGE=b");
    assert_eq!(stage(&two, Some("a")), "TARGETSTAGE=a");
}

#[test]
fn proxies_need_no_declaration_and_enter_neither_key_nor_history() {
    let text = "FROM scratch\nRUN x\n";
    let planned = with(
        text,
        &[("Http_Proxy", "p"), ("NO_PROXY", "n"), ("all_proxy", "a")],
    );
    let names: Vec<_> = planned
        .run(0)
        .unkeyed_env
        .iter()
        .map(|(n, v)| format!("{n}={v}"))
        .collect();
    assert_eq!(
        names,
        [
            "ALL_PROXY=a",
            "HTTP_PROXY=p",
            "NO_PROXY=n",
            "all_proxy=a",
            "http_proxy=p",
            "no_proxy=n"
        ]
    );
    assert_eq!(planned.history(), ["RUN /bin/sh -c x # buildkit"]);
    // Declared, it is an argument like others.
    let declared = with(
        "FROM scratch\nARG http_proxy\nRUN x\n",
        &[("http_proxy", "p")],
    );
    assert!(declared.env(0).contains(&"http_proxy=p".to_owned()));
    assert_eq!(
        declared.history()[1],
        "RUN |1 http_proxy=p /bin/sh -c x # buildkit"
    );
}

#[test]
fn what_a_bill_of_materials_covers_is_never_in_an_environment() {
    let text =
        "FROM scratch\nARG BUILDKIT_SBOM_SCAN_STAGE=true BUILDKIT_SBOM_SCAN_CONTEXT=1\nRUN x\n";
    assert_eq!(planned(text).env(0).len(), 1);
}

#[test]
fn the_sandbox_has_the_host_name_that_is_asked_for() {
    let text = "FROM scratch\nRUN x\n";
    assert_eq!(with(text, &[]).run(0).hostname, "buildkitsandbox");
    assert_eq!(
        with(text, &[("BUILDKIT_SANDBOX_HOSTNAME", "h")])
            .run(0)
            .hostname,
        "h"
    );
    assert_eq!(
        with(text, &[("BUILDKIT_SANDBOX_HOSTNAME", "")])
            .run(0)
            .hostname,
        "buildkitsandbox"
    );
}

#[test]
fn what_buildkit_removed_is_refused() {
    let text = "FROM scratch\n";
    assert_eq!(
        refusal(text, &[("BUILDKIT_DISABLE_FILEOP", "1")]),
        "support for \"BUILDKIT_DISABLE_FILEOP\" build-arg was removed in BuildKit 0.11"
    );
    with(text, &[("BUILDKIT_DISABLE_FILEOP", "0")]);
}

#[test]
fn an_index_for_one_platform_is_refused_by_name() {
    let text = "FROM scratch\n";
    assert!(
        refusal(text, &[("BUILDKIT_MULTI_PLATFORM", "true")]).contains("BUILDKIT_MULTI_PLATFORM")
    );
    assert_eq!(
        refusal(text, &[("BUILDKIT_MULTI_PLATFORM", "yes")]),
        "invalid boolean value for multi-platform: yes"
    );
    with(text, &[("BUILDKIT_MULTI_PLATFORM", "false")]);
    with(text, &[("BUILDKIT_MULTI_PLATFORM", "")]);
}

#[test]
fn names_without_meaning_here_do_no_harm() {
    with(
        "FROM scratch\n",
        &[("BUILDKIT_BUILD_NAME", "x"), ("BUILDKIT_INLINE_CACHE", "1")],
    );
}

#[test]
fn the_epoch_is_a_number_of_seconds() {
    let planned = with(
        "FROM old\nARG SOURCE_DATE_EPOCH\nWORKDIR /w\nRUN x\n",
        &[("SOURCE_DATE_EPOCH", "7")],
    );
    assert_eq!(planned.plan.epoch, Some(7));
    assert!(planned.env(0).contains(&"SOURCE_DATE_EPOCH=7".to_owned()));
    let times: Vec<_> = planned
        .plan
        .config
        .history
        .iter()
        .map(|entry| entry.created.map(|time| time.timestamp().seconds))
        .collect();
    assert_eq!(
        times,
        [Some(40), Some(7), Some(7), Some(7)],
        "the base keeps its own"
    );
}

#[test]
fn an_empty_epoch_is_none() {
    let text = "ARG SOURCE_DATE_EPOCH=7\nFROM scratch\nARG SOURCE_DATE_EPOCH\nRUN x\n";
    let none = with(text, &[("SOURCE_DATE_EPOCH", "")]);
    assert_eq!((none.plan.epoch, none.env(0).len()), (None, 1));
    let default = with(text, &[]);
    assert_eq!(default.plan.epoch, Some(7), "the default of the global ARG");
    assert_eq!(default.env(0)[1..], ["SOURCE_DATE_EPOCH=7"]);
    let given = with(text, &[("SOURCE_DATE_EPOCH", "8")]);
    assert_eq!(given.plan.epoch, Some(8));
    assert_eq!(
        with("FROM scratch\nARG SOURCE_DATE_EPOCH=9\n", &[])
            .plan
            .epoch,
        None
    );
}

#[test]
fn the_epoch_of_a_local_context_or_of_an_image_is_none() {
    let text = "ARG SOURCE_DATE_EPOCH=context\nFROM scratch\nARG SOURCE_DATE_EPOCH\nRUN x\n";
    let context = with(text, &[]);
    assert_eq!((context.plan.epoch, context.env(0).len()), (None, 1));
    let named = plan_with("FROM scratch\n", |options| {
        let image = crate::plan::NamedContext::Image("b".parse().unwrap());
        options.contexts.insert("named".into(), image);
        options
            .build_args
            .insert("SOURCE_DATE_EPOCH".into(), "named".into());
    });
    assert_eq!(named.unwrap().plan.epoch, None);
}

#[test]
fn the_epoch_of_a_stage_needs_one_remote_source_on_nothing() {
    let refused = |stage: &str| {
        refusal(
            &format!("ARG SOURCE_DATE_EPOCH=Source\n{stage}\nFROM scratch\n"),
            &[],
        )
    };
    for (stage, message) in [
        (
            "FROM a AS source\nADD https://x/y /\n",
            "stage must use FROM scratch",
        ),
        (
            "FROM scratch AS source\n",
            "must contain exactly one remote ADD",
        ),
        (
            "FROM scratch AS source\nADD https://x/y /\nADD https://x/z /\n",
            "must contain exactly one remote ADD",
        ),
        (
            "FROM scratch AS source\nADD https://x/y https://x/z /\n",
            "must contain exactly one remote ADD source",
        ),
        (
            "FROM scratch AS source\nRUN x\n",
            "stage does not meet source-only requirements: unsupported RUN instruction",
        ),
        (
            "FROM scratch AS source\nADD y /\n",
            "must be a single HTTP(S) or Git ADD",
        ),
        (
            "FROM scratch AS other\n",
            "invalid SOURCE_DATE_EPOCH: Source",
        ),
    ] {
        let error = refused(stage);
        assert!(error.contains(message), "{stage}: {error}");
    }
}

#[test]
fn what_is_no_epoch_is_refused() {
    for value in ["not-a-timestamp", "1.5", "99999999999999", "12 "] {
        let error = refusal("FROM scratch\n", &[("SOURCE_DATE_EPOCH", value)]);
        assert_eq!(error, format!("invalid SOURCE_DATE_EPOCH: {value}"));
    }
}
