use super::*;
use crate::dockerfile::instruction::CommandLine;
use crate::dockerfile::warning::WarningKind;

fn error(text: &str) -> ParseError {
    parse("Dockerfile", text.as_bytes()).unwrap_err()
}

/// Name, content and whether it is expanded.
type Bodies = &'static [(&'static str, &'static str, bool)];

/// Line and column where a range begins and ends.
fn places(range: SourceRange) -> [(u32, u32); 2] {
    [range.start, range.end].map(|position| (position.line, position.column))
}

#[test]
fn instructions_belong_to_the_stage_above() {
    let text = "ARG V=1\nARG W\nFROM a:$V AS one\nRUN x\n\nFROM one\nUSER y\nCMD z\n";
    let dockerfile = parse("Dockerfile", text.as_bytes()).unwrap();
    assert_eq!(dockerfile.global_args.len(), 2);
    let stages: Vec<_> = dockerfile
        .stages
        .iter()
        .map(|stage| {
            (
                stage.name(),
                stage.from.kind.image.as_str(),
                stage.instructions.len(),
            )
        })
        .collect();
    assert_eq!(stages, [(Some("one"), "a:$V", 1), (None, "one", 2)]);
}

#[test]
fn instructions_know_their_text_and_place() {
    let text = "FROM a\n\n  run a \\\n  # c\n  b  \n\nCOPY <<E /ü\nx\nE\nuser y";
    let dockerfile = parse("Dockerfile", text.as_bytes()).unwrap();
    let [run, copy, user] = dockerfile.stages[0].instructions.as_slice() else {
        panic!("not three");
    };
    assert_eq!(run.original, "run a \\\n  # c\n  b  ");
    assert_eq!(run.keyword, "run");
    assert_eq!(places(run.range), [(3, 3), (5, 6)]);
    assert_eq!(copy.original, "COPY <<E /ü\nx\nE");
    assert_eq!(places(copy.range), [(7, 1), (9, 2)]);
    assert_eq!(user.original, "user y");
    assert_eq!(places(user.range), [(10, 1), (10, 7)]);
    assert_eq!(places(copy.locate("/ü")), [(7, 10), (7, 12)]);
}

#[test]
fn line_ends_of_windows_change_nothing_but_bodies() {
    let text = "\u{feff}# escape=`\r\nFROM a\r\nRUN b `\r\n c\r\nCOPY <<E /d\r\nx\r\nE\r\n";
    let dockerfile = parse("Dockerfile", text.as_bytes()).unwrap();
    assert_eq!(dockerfile.directives.escape, '`');
    let [run, copy] = dockerfile.stages[0].instructions.as_slice() else {
        panic!("not two");
    };
    assert_eq!(run.kind.to_string(), "RUN b  c");
    let InstructionKind::Copy(copy) = &copy.kind else {
        panic!("no COPY");
    };
    assert_eq!(copy.arguments.heredocs().next().unwrap().body, "x\r\n");
}

#[test]
fn comments_describe_what_is_below() {
    let text =
        "# syntax=x\n# web serves\nFROM a AS web\n# other\n#\n# V the version\n\nARG V\nRUN x";
    let dockerfile = parse("Dockerfile", text.as_bytes()).unwrap();
    let stage = &dockerfile.stages[0];
    assert_eq!(stage.description(), Some("serves"));
    assert_eq!(stage.instructions[0].comments, ["V the version"]);
    assert_eq!(
        stage.instructions[0].description_of("V"),
        Some("the version")
    );
    assert_eq!(stage.instructions[1].comments, [""; 0]);
}

#[test]
fn directives_and_warnings_have_places() {
    let text = "# syntax=x\n# check=skip=all\nFROM a\nRUN b \\\n\n c\n";
    let dockerfile = parse("Dockerfile", text.as_bytes()).unwrap();
    let check = dockerfile.directives.check.unwrap();
    assert_eq!(
        (check.value.as_str(), places(check.range)),
        ("skip=all", [(2, 1), (2, 17)])
    );
    let [warning] = dockerfile.warnings.as_slice() else {
        panic!("not one warning");
    };
    assert_eq!(warning.kind, WarningKind::EmptyContinuation);
    assert_eq!(warning.range.start.line, 6);
}

#[test]
fn the_heredocs_of_the_reference_are_found() {
    // After the table of the reference implementation's own test.
    let cases: [(&str, Bodies); 21] = [
        ("USER <<INVALID", &[]),
        ("RUN <<EMPTY\nEMPTY", &[("EMPTY", "", true)]),
        ("RUN 3<<EMPTY2\nEMPTY2", &[("EMPTY2", "", true)]),
        ("RUN \"<<NOHEREDOC\"", &[]),
        ("RUN <<I\n\tfoo\n\tbar\nI", &[("I", "\tfoo\n\tbar\n", true)]),
        ("RUN <<-U\n\tbaz\n\tquux\nU", &[("U", "baz\nquux\n", true)]),
        ("RUN <<-U2\n\tbaz\n\tU2", &[("U2", "baz\n", true)]),
        (
            "RUN <<-E\n\texpand $NAME\nE",
            &[("E", "expand $NAME\n", true)],
        ),
        (
            "RUN <<-'N'\n\tdon't $NAME\nN",
            &[("N", "don't $NAME\n", false)],
        ),
        (
            "RUN <<C\n# internal\necho # trailing\nC",
            &[("C", "# internal\necho # trailing\n", true)],
        ),
        (
            "RUN --mount=type=cache,target=/foo <<M\necho\nM",
            &[("M", "echo\n", true)],
        ),
        (
            "COPY <<F1 <<F2 /d\n1\nF1\n2\nF2",
            &[("F1", "1\n", true), ("F2", "2\n", true)],
        ),
        (
            "COPY <<X <<Y /d\nY\nX\nX\nY",
            &[("X", "Y\n", true), ("Y", "X\n", true)],
        ),
        (
            "RUN <<COMPLEX python3\nprint('x')\nCOMPLEX",
            &[("COMPLEX", "print('x')\n", true)],
        ),
        ("RUN <<eo'f'\necho\neof", &[("eof", "echo\n", false)]),
        ("RUN <<eo\\'f\necho\neo'f", &[("eo'f", "echo\n", true)]),
        ("RUN <<'e'o\\'f\necho\neo'f", &[("eo'f", "echo\n", false)]),
        (
            "RUN <<'one two'\necho\none two",
            &[("one two", "echo\n", false)],
        ),
        ("RUN <<$EOF\n$EOF", &[("$EOF", "", true)]),
        ("RUN <<  EOF  > foo\nEOF", &[("EOF", "", true)]),
        ("RUN [\"<<EOF\"]", &[]),
    ];
    for (text, expected) in cases {
        let text = format!("FROM a\n{text}\nUSER last");
        let dockerfile = parse("Dockerfile", text.as_bytes()).unwrap();
        let [instruction, _last] = dockerfile.stages[0].instructions.as_slice() else {
            panic!("not two: {text}");
        };
        let heredocs = match &instruction.kind {
            InstructionKind::Run(run) => run.heredocs.clone(),
            InstructionKind::Copy(copy) => copy.arguments.heredocs().cloned().collect(),
            _ => Vec::new(),
        };
        let found: Vec<_> = heredocs
            .iter()
            .map(|heredoc| (heredoc.name.as_str(), heredoc.content(), heredoc.expand))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, body, expand)| (*name, std::borrow::Cow::Borrowed(*body), *expand))
            .collect();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn files_without_stages_are_refused() {
    for (text, expected) in [
        ("", ParseErrorKind::Empty),
        ("\u{feff}", ParseErrorKind::Empty),
        ("\n \n# a\n", ParseErrorKind::NoInstructions),
        ("ARG a\n", ParseErrorKind::NoStages),
        (
            "RUN a\nFROM b",
            ParseErrorKind::BeforeFrom {
                keyword: "RUN".to_owned(),
            },
        ),
    ] {
        assert_eq!(*error(text).kind(), expected, "{text:?}");
    }
}

#[test]
fn errors_point_to_the_part_that_is_wrong() {
    for (text, start, end) in [
        ("FROM a\n  FRM b", (2, 3), (2, 6)),
        ("FROM a\nCOPY --link \\\n  --form=x a b", (3, 3), (3, 11)),
        ("FROM a\nENV a=1 \\\n\n ä b=2", (4, 2), (4, 3)),
        ("FROM a AS 1x", (1, 11), (1, 13)),
        ("FROM a\nRUN cat <<E | x\n a\n", (2, 9), (2, 12)),
        ("FROM a\nHEALTHCHECK --retries=x CMD a", (2, 13), (2, 24)),
        ("FROM a\nCOPY a \\\n <<E\nE", (3, 2), (3, 5)),
        ("FROM a\nRUN [1]", (2, 5), (2, 8)),
        ("FROM a\nCOPY a \\\n\n", (2, 1), (3, 1)),
        ("# escape=x\nFROM a", (1, 1), (1, 11)),
        ("FROM a\nONBUILD FROM b", (2, 9), (2, 13)),
        ("ARG a\n", (1, 6), (1, 6)),
    ] {
        assert_eq!(places(error(text).range()), [start, end], "{text}");
    }
}

#[test]
fn an_error_shows_its_lines_and_what_to_do() {
    let error = error("FROM a\nRUN b\nCOPY --form=x a b\n");
    assert_eq!(error.to_string(), "Dockerfile:3:6: unknown flag: --form");
    let expected = "\
Dockerfile:3
--------------------
   1 |     FROM a
   2 |     RUN b
   3 | >>> COPY --form=x a b
     |          ^^^^^^^^
--------------------
error: unknown flag: --form
hint: did you mean `--from`?";
    assert_eq!(error.diagnostic().to_string(), expected);
}

#[test]
fn hints_say_what_to_do() {
    for (text, part) in [
        ("", "FROM image"),
        ("RUN a", "only ARG"),
        ("FROM a\nCPOY a b", "`COPY`"),
        ("FROM a\nRUN b\n&& c", "escape character"),
        ("FROM a\nRUN a <<E\n", "only `E`"),
        ("FROM a\nCOPY << E /x\nE", "<<E"),
        ("FROM a\nCMD --x", "CMD -- --x"),
        ("FROM a\nENV a=b c", "quote"),
        ("FROM a\nSHELL sh -c", "SHELL [\"program\""),
        ("FROM a\nRUN --network=x y", "default, none, host"),
        ("FROM a\nCOPY --from=$a b c", "AS name"),
    ] {
        let hint = error(text).hint().unwrap();
        assert!(hint.contains(part), "{text:?}: {hint}");
    }
}

#[test]
fn a_trigger_is_checked_when_it_is_triggered() {
    let run = parse_onbuild("RUN a <<E\nb\nE").unwrap();
    let InstructionKind::Run(run) = run.kind else {
        panic!("no RUN");
    };
    assert_eq!(run.command, CommandLine::Shell("a <<E".to_owned()));
    assert_eq!(run.heredocs[0].body, "b\n");
    for (text, expected) in [
        ("", "should be a single expression"),
        ("RUN a\nRUN b", "should be a single expression"),
        ("FROM a", "FROM isn't allowed"),
        ("ONBUILD ONBUILD RUN a", "Chaining ONBUILD"),
        ("FROBNICATE", "unknown instruction"),
        ("COPY a", "at least two arguments"),
    ] {
        let error = parse_onbuild(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
        assert!(error.starts_with("ONBUILD:"), "{error}");
    }
}

#[test]
fn the_trigger_of_an_onbuild_parses_alike() {
    let body = "COPY <<-'A' b /c\n\tx $y\n\tA";
    let dockerfile = parse("D", format!("FROM a\n{body}\nONBUILD {body}\n").as_bytes()).unwrap();
    let [direct, onbuild] = dockerfile.stages[0].instructions.as_slice() else {
        panic!("not two");
    };
    let InstructionKind::Onbuild(onbuild) = &onbuild.kind else {
        panic!("no ONBUILD");
    };
    assert_eq!(parse_onbuild(&onbuild.trigger).unwrap().kind, direct.kind);
}

#[test]
fn long_files_take_time_in_proportion() {
    let instructions = "RUN a \\\n b\nENV c=d\n".repeat(20_000);
    let dockerfile = parse("D", format!("FROM a\n{instructions}").as_bytes()).unwrap();
    assert_eq!(dockerfile.stages[0].instructions.len(), 40_000);
    let continued = format!("FROM a\nRUN b{}", " \\\n c".repeat(50_000));
    let dockerfile = parse("D", continued.as_bytes()).unwrap();
    assert_eq!(dockerfile.stages[0].instructions.len(), 1);
}
