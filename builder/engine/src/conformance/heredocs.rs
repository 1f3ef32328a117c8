//! Heredocs.

use super::{first, refused};
use crate::dockerfile::InstructionKind;
use crate::dockerfile::instruction::SourceArgument;
use crate::graph::PlannedSource;
use crate::plan::testing::{plan_with, planned};

#[test]
fn every_spelling_of_a_delimiter_is_known() {
    for word in [
        "<<EOF",
        "<<'EOF'",
        "<<\"EOF\"",
        "<<-EOF",
        "<<EO\"F\"",
        "<< EOF",
        "4<<EOF",
    ] {
        match first(&format!("RUN cat {word}\nbody\nEOF\n")) {
            InstructionKind::Run(run) => assert_eq!(run.heredocs[0].body, "body\n", "{word}"),
            other => panic!("{other:?}"),
        }
    }
    for word in ["<<<EOF", "'<<EOF'", "<<", "\"<<EOF sh\""] {
        match first(&format!("RUN cat {word}")) {
            InstructionKind::Run(run) => assert_eq!(run.heredocs, [], "{word}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_dash_strips_leading_tabs_of_lines_and_terminator() {
    let planned = planned("FROM scratch\nCOPY <<-E /f\n\t\ta\tb\n \tc\n\tE\n");
    assert!(matches!(
        &planned.copy(0).sources[0],
        PlannedSource::Inline { data, .. } if data == b"a\tb\n \tc\n"
    ));
}

#[test]
fn several_bodies_are_consumed_in_order() {
    match first("COPY <<one <<two /d/\n1\none\n2\ntwo\n") {
        InstructionKind::Copy(copy) => {
            let bodies: Vec<_> = copy.arguments.heredocs().map(|h| h.body.as_str()).collect();
            assert_eq!(bodies, ["1\n", "2\n"]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_unterminated_heredoc_is_an_error() {
    assert!(refused("FROM a\nRUN <<E\nx\n").starts_with("unterminated heredoc"));
}

#[test]
fn json_arguments_have_none() {
    match first("COPY [\"<<E\", \"/x\"]") {
        InstructionKind::Copy(copy) => {
            assert_eq!(
                copy.arguments.sources,
                [SourceArgument::Path("<<E".to_owned())]
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_copied_file_is_named_and_expanded_unless_quoted() {
    let planned = plan_with(
        "FROM scratch\nARG A=1\nCOPY <<plain <<'quoted' /d/\n$A \\$A '$A'\nplain\n$A\nquoted\n",
        |_| {},
    )
    .unwrap();
    let inline = |number: usize| match &planned.copy(0).sources[number] {
        PlannedSource::Inline { name, data } => {
            (name.clone(), String::from_utf8(data.clone()).unwrap())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(inline(0), ("plain".to_owned(), "1 $A '1'\n".to_owned()));
    assert_eq!(inline(1), ("quoted".to_owned(), "$A\n".to_owned()));
}

#[test]
fn a_heredoc_is_no_destination() {
    assert_eq!(
        refused("FROM a\nCOPY x <<E\nE\n"),
        "COPY cannot accept a heredoc as a destination"
    );
}

#[test]
fn a_run_of_one_heredoc_is_a_script_or_a_text_for_the_shell() {
    let planned = planned(
        "FROM scratch\nRUN <<E\n#!/bin/x\nhi $A\nE\nRUN <<E\nhi\nE\nRUN cat <<E > f\nhi\nE\n",
    );
    let script = planned.run(0).script.as_ref().unwrap();
    assert_eq!(script.path, "/dev/pipes/E");
    assert_eq!(
        script.body, "#!/bin/x\nhi $A\n",
        "the builder never expands it"
    );
    assert_eq!(planned.run(0).args, ["/bin/sh", "-c", "/dev/pipes/E"]);
    assert_eq!(planned.run(1).args[2], "hi\n");
    assert_eq!(
        planned.run(2).args[2],
        "cat <<E > f\nhi\nE",
        "the shell reads it"
    );
}

#[test]
fn onbuild_stores_the_bodies_in_its_trigger() {
    let kind = first("ONBUILD RUN <<E\nhi\nE\n");
    let InstructionKind::Onbuild(onbuild) = kind else {
        panic!("{kind:?}");
    };
    assert_eq!(onbuild.trigger, "RUN <<E\nhi\nE");
    let planned = planned("FROM scratch AS b\nONBUILD COPY <<E /f\n$A\nE\nFROM b\nRUN x\n");
    assert!(matches!(
        &planned.copy(0).sources[0],
        PlannedSource::Inline { .. }
    ));
}

#[test]
fn the_escape_directive_does_not_reach_heredocs() {
    let planned = planned("# escape=`\nFROM scratch\nARG A=1\nCOPY <<E /f\n`$A \\$A\nE\n");
    assert!(matches!(
        &planned.copy(0).sources[0],
        PlannedSource::Inline { data, .. } if data == b"`1 $A\n"
    ));
}
