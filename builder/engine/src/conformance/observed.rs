//! What BuildKit was seen to do where its documents say otherwise, or nothing. Numbers are those
//! of the list that the project keeps; what concerns copies and steps is tested with those.

use super::{first, parsed, refused};
use crate::dockerfile::InstructionKind;
use crate::graph::NodeKind;
use crate::key::scratch_key;
use crate::plan::testing::{plan_with, planned};

#[test]
fn point_03_an_absolute_working_directory_is_stored_as_written() {
    for path in ["/a//b/./c/../d/", "/a/x/", "//", "/."] {
        let planned = planned(&format!("FROM scratch\nWORKDIR {path}\n"));
        assert_eq!(planned.plan.config.config.working_dir, path);
        assert_eq!(planned.ops().len(), 1, "only `/` itself makes no layer");
    }
}

#[test]
fn point_04_a_heredoc_mark_with_a_blank_is_for_the_shell_only() {
    let error = refused("FROM a\nCOPY << EOF /x\nhi\nEOF\n");
    assert!(
        error.starts_with("the heredoc `EOF` is no word of its own"),
        "{error}"
    );
    let planned = planned("FROM scratch\nRUN cat << EOF > /x\nhi\nEOF\n");
    assert_eq!(planned.run(0).args[2], "cat << EOF > /x\nhi\nEOF");
}

#[test]
fn point_05_names_of_arguments_do_not_expand() {
    let planned = planned("FROM scratch\nARG K=a\nARG ${K}_x=1\nRUN y\n");
    assert_eq!(planned.env(0)[1..], ["K=a", "${K}_x=1"]);
}

#[test]
fn point_07_an_empty_command_leaves_only_its_mark() {
    let planned = planned("FROM scratch\nCMD []\n");
    let json = serde_json::to_value(&planned.plan.config.config).unwrap();
    assert_eq!(json.get("Cmd"), None);
    assert_eq!(json["ArgsEscaped"], true);
}

#[test]
fn point_08_the_history_of_a_health_check_has_no_ampersand() {
    let planned = planned("FROM scratch\nHEALTHCHECK --interval=5s CMD x\n");
    assert!(planned.history()[0].starts_with("HEALTHCHECK {Test:[CMD-SHELL x] Interval:5s "));
}

#[test]
fn point_09_an_unterminated_brace_is_an_error() {
    // BuildKit calls it a modifier that it does not know; ours says what is missing.
    let error = plan_with("FROM scratch\nENV A=${B\n", |_| {}).map(|p| p.names);
    assert_eq!(
        error.unwrap_err().to_string(),
        "failed to process \"${B\": syntax error: missing '}'"
    );
}

#[test]
fn point_15_a_user_may_hold_blanks() {
    assert_eq!(
        planned("FROM scratch\nUSER a b\n").plan.config.config.user,
        "a b"
    );
}

#[test]
fn point_16_triggers_are_checked_when_they_are_triggered() {
    let text = "FROM scratch AS b\nONBUILD COPY --nonsense x\nONBUILD FROBNICATE\n";
    planned(text);
    let error = plan_with(&format!("{text}FROM b\n"), |_| {})
        .map(|p| p.names)
        .unwrap_err();
    assert!(
        error.to_string().contains("ONBUILD COPY --nonsense x"),
        "{error}"
    );
    assert_eq!(error.place.unwrap().range.start.line, 4);
}

#[test]
fn point_18_a_file_of_one_endless_line_is_refused() {
    // BuildKit finds no instruction in it; ours says why.
    let error = refused(&"x".repeat(70_000));
    assert!(error.starts_with("dockerfile line greater than max allowed size of 65535"));
}

#[test]
fn point_19_the_epoch_dates_workdir_and_no_copy() {
    let planned = plan_with("FROM scratch\nWORKDIR /w\nCOPY a /b/c/\n", |options| {
        options
            .build_args
            .insert("SOURCE_DATE_EPOCH".into(), "9".into());
    });
    let entries = planned.unwrap().plan.config.history;
    assert!(entries.iter().all(|entry| entry.created.is_some()));
}

#[test]
fn point_21_run_and_cmd_may_be_empty_but_an_array_may_not() {
    let planned = planned("FROM scratch\nRUN\nCMD\n");
    assert_eq!(planned.run(0).args, ["/bin/sh", "-c", ""]);
    assert!(refused("FROM a\nRUN []").contains("RUN"));
}

#[test]
fn point_22_words_of_copy_split_at_blanks_in_quotes_and_names_run_to_the_next_blank() {
    match first("COPY \"a b\" /c") {
        InstructionKind::Copy(copy) => {
            assert_eq!(copy.arguments.paths().collect::<Vec<_>>(), ["\"a", "b\""]);
        }
        other => panic!("{other:?}"),
    }
    match first("RUN --mount=\"type=tmpfs,target=/t\" x") {
        InstructionKind::Run(run) => assert_eq!(run.mounts, ["type=tmpfs,target=/t"]),
        other => panic!("{other:?}"),
    }
    let dockerfile = parsed("FROM a\nRUN cat <<x; y\nbody\nx;\n");
    assert_eq!(dockerfile.stages[0].instructions.len(), 1);
}

#[test]
fn point_23_scratch_is_a_source_and_a_stage_of_that_name_shadows_it() {
    let planned = planned("FROM img\nCOPY --from=scratch /x /y\n");
    let scratch =
        planned.plan.graph.nodes().any(
            |(_, node)| matches!(&node.kind, NodeKind::Base(base) if base.key == scratch_key()),
        );
    assert!(scratch);
    let shadowed = self::planned("FROM img AS scratch\nFROM scratch\nRUN x\n");
    assert_eq!(shadowed.images, ["img:latest"]);
    assert_eq!(shadowed.run(0).cwd, "/base");
}
