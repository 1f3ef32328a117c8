//! What each instruction takes and expands.

use super::{first, refused};
use crate::dockerfile::InstructionKind;
use crate::dockerfile::instruction::KEYWORDS;
use crate::graph::PlannedSource;
use crate::plan::testing::{plan_with, planned};

#[test]
fn there_are_eighteen() {
    assert_eq!(KEYWORDS.len(), 18);
}

#[test]
fn from_has_one_or_three_arguments_and_expands_global_arguments_only() {
    for text in [
        "FROM",
        "FROM a b",
        "FROM a AS",
        "FROM a WITH b",
        "FROM a AS b c",
    ] {
        assert!(refused(text).starts_with("FROM requires either one or three arguments"));
    }
    let planned = planned("ARG I=b\nFROM scratch AS s\nENV I=a\nFROM $I\n");
    assert_eq!(planned.images, ["b:latest"]);
}

#[test]
fn commands_are_never_expanded() {
    let planned = planned(
        "FROM scratch\nENV A=1\nRUN x $A ${A}\nRUN [\"$A\"]\nCMD x $A\nENTRYPOINT [\"$A\"]\n\
         HEALTHCHECK CMD x $A\n",
    );
    assert_eq!(planned.run(0).args[2], "x $A ${A}");
    assert_eq!(planned.run(1).args, ["$A"]);
    let config = &planned.plan.config.config;
    assert_eq!(config.cmd.as_ref().unwrap()[2], "x $A");
    assert_eq!(config.entrypoint.as_ref().unwrap(), &["$A"]);
    assert_eq!(
        config.healthcheck.as_ref().unwrap().test,
        ["CMD-SHELL", "x $A"]
    );
}

#[test]
fn shell_takes_json_only() {
    assert!(refused("FROM a\nSHELL /bin/x -c").contains("JSON"));
    assert_eq!(
        refused("FROM a\nSHELL []"),
        "SHELL requires at least one argument"
    );
}

#[test]
fn env_and_label_expand_names_and_values_in_both_forms() {
    let planned = planned(
        "FROM scratch\nARG N=name V=\"a value\"\nENV X_$N=$V\nENV Y rest of $V\n\
         LABEL l.$N=\"$V\"\nLABEL m more of $V\n",
    );
    let config = &planned.plan.config.config;
    assert_eq!(config.env[1..], ["X_name=a value", "Y=rest of a value"]);
    assert_eq!(config.labels["l.name"], "a value");
    assert_eq!(config.labels["m"], "more of a value");
    assert_eq!(refused("FROM a\nENV x"), "ENV must have two arguments");
    assert_eq!(
        refused("FROM a\nENV a=b c"),
        "Syntax error - can't find = in \"c\". Must be of the form: name=value \
         (quote values that hold blanks)"
    );
    assert_eq!(refused("FROM a\nLABEL =b"), "LABEL names can not be blank");
}

#[test]
fn arg_takes_several_and_expands_defaults() {
    let planned = planned("FROM scratch\nARG A=1\nARG B=${A}2 C D=\nRUN x\n");
    assert_eq!(planned.env(0)[1..], ["A=1", "B=12", "D="]);
    assert_eq!(refused("FROM a\nARG"), "ARG requires at least one argument");
    assert_eq!(refused("FROM a\nARG =x"), "ARG names can not be blank");
}

#[test]
fn copy_expands_sources_destination_owner_and_mode_but_no_stage() {
    let planned =
        planned("FROM scratch\nARG A=a M=640\nCOPY --chown=$A:$A --chmod=$M <<E /$A/\nE\n");
    assert_eq!(planned.copy(0).destination, "/a/");
    assert_eq!(planned.copy(0).owner.as_deref(), Some("a:a"));
    assert_eq!(planned.copy(0).mode.as_deref(), Some("640"));
    assert_eq!(
        refused("FROM a\nCOPY --from=$X a b"),
        "variable expansion is not supported for --from (define a new stage with FROM using ARG \
         from global scope as a workaround: `FROM ${...} AS name`)"
    );
    assert!(refused("FROM a\nCOPY x").starts_with("COPY requires at least two arguments, but"));
}

#[test]
fn workdir_user_and_stopsignal_take_one_argument_and_expand_it() {
    let planned =
        planned("FROM scratch\nARG A=1\nUSER u$A:g$A\nWORKDIR /w$A\nSTOPSIGNAL SIGUSR$A\n");
    let config = &planned.plan.config.config;
    assert_eq!(config.user, "u1:g1");
    assert_eq!(config.working_dir, "/w1");
    assert_eq!(config.stop_signal, "SIGUSR1");
    for keyword in ["WORKDIR", "USER", "STOPSIGNAL", "MAINTAINER"] {
        assert_eq!(
            refused(&format!("FROM a\n{keyword}")),
            format!("{keyword} requires exactly one argument")
        );
    }
}

#[test]
fn expose_splits_what_it_expands() {
    let planned = planned("FROM scratch\nENV P=\"80 81/udp\"\nEXPOSE $P 443\n");
    let ports: Vec<_> = planned.plan.config.config.exposed_ports.iter().collect();
    assert_eq!(ports, ["443/tcp", "80/tcp", "81/udp"]);
}

#[test]
fn volume_takes_json_or_words_and_expands_them() {
    let planned = planned("FROM scratch\nARG A=a\nVOLUME /$A /b\nVOLUME [\"/c d\"]\n");
    let volumes: Vec<_> = planned.plan.config.config.volumes.iter().collect();
    assert_eq!(volumes, ["/a", "/b", "/c d"]);
}

#[test]
fn onbuild_is_expanded_when_it_is_triggered() {
    let planned = planned("FROM scratch AS b\nENV A=then\nONBUILD ENV X=$A\nENV A=now\nFROM b\n");
    assert!(planned.plan.config.config.env.contains(&"X=now".to_owned()));
}

#[test]
fn one_instruction_sees_the_environment_of_before() {
    let planned = planned("FROM scratch\nENV a=old\nENV a=new b=$a\n");
    assert!(planned.plan.config.config.env.contains(&"b=old".to_owned()));
}

#[test]
fn what_is_not_expanded_keeps_its_dollar() {
    match first("COPY --exclude=$X a b") {
        InstructionKind::Copy(copy) => assert_eq!(copy.exclude, ["$X"]),
        other => panic!("{other:?}"),
    }
    let planned = plan_with("FROM scratch\nMAINTAINER $X\n", |_| {}).unwrap();
    assert_eq!(planned.plan.config.author, "$X");
}

#[test]
fn an_expanded_word_of_copy_stays_one_word() {
    let planned = planned("FROM scratch AS s\nFROM scratch\nENV A=\"a b\"\nCOPY --from=s $A /x\n");
    assert!(matches!(
        &planned.copy(0).sources[..],
        [PlannedSource::Node { query, .. }] if query.path == "a b"
    ));
}
