//! Physical lines, comments and directives.

use super::{first, parsed, refused};
use crate::dockerfile::instruction::CommandLine;
use crate::dockerfile::{InstructionKind, check_syntax, detect_syntax};

fn run_text(text: &str) -> String {
    let dockerfile = parsed(text);
    match &dockerfile.stages[0].instructions[0].kind {
        InstructionKind::Run(run) => match &run.command {
            CommandLine::Shell(line) => line.clone(),
            CommandLine::Exec(words) => words.join("|"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_byte_order_mark_is_stripped_on_the_first_line_only() {
    assert_eq!(parsed("\u{feff}# escape=`\nFROM a").directives.escape, '`');
    assert!(refused("FROM a\n\u{feff}RUN x").starts_with("unknown instruction"));
}

#[test]
fn lines_end_with_lf_or_crlf() {
    assert_eq!(run_text("FROM a\r\nRUN x \\\r\n  y\r\n"), "x   y");
}

#[test]
fn a_physical_line_has_at_most_65535_bytes() {
    let line = |length: usize| format!("FROM a\nRUN {}\nUSER x\n", "x".repeat(length - 4));
    assert_eq!(parsed(&line(65_535)).stages[0].instructions.len(), 2);
    assert!(
        refused(&line(65_536))
            .starts_with("dockerfile line greater than max allowed size of 65535")
    );
    let comment = format!("FROM a\n# {}\n", "x".repeat(65_535));
    assert!(refused(&comment).starts_with("dockerfile line greater than"));
    let heredoc = format!("FROM a\nRUN <<E\n{}\nE\n", "x".repeat(65_536));
    assert!(refused(&heredoc).starts_with("dockerfile line greater than"));
}

#[test]
fn an_empty_file_one_without_instructions_and_one_without_from_are_told_apart() {
    assert!(refused("").starts_with("the Dockerfile cannot be empty"));
    for text in ["\n", "# only a comment\n", "\u{feff}\n\n"] {
        assert!(refused(text).starts_with("file with no instructions"));
    }
    assert!(refused("ARG a=1\n").starts_with("dockerfile contains no stages to build"));
    assert!(refused("ARG a\nRUN x\n").starts_with("no build stage in current context"));
}

#[test]
fn blanks_before_an_instruction_are_stripped_and_those_of_continuation_lines_stay() {
    assert_eq!(run_text("FROM a\n \t RUN x \\\n\t y\n"), "x \t y");
}

#[test]
fn comments_inside_a_continuation_are_dropped_and_cannot_be_continued() {
    assert_eq!(
        run_text("FROM a\nRUN x \\\n  # a \\\n# b\n y\n"),
        "x  y",
        "indented ones too"
    );
    let dockerfile = parsed("FROM a\n# comment \\\nRUN x\n");
    assert_eq!(dockerfile.stages[0].instructions.len(), 1);
}

#[test]
fn a_line_continues_behind_one_escape_character_but_not_behind_two() {
    assert_eq!(
        run_text("FROM a\nRUN x\\ \t\ny\n"),
        "xy",
        "blanks may follow it"
    );
    assert_eq!(run_text("FROM a\nRUN x\\\\\nUSER y\n"), "x\\\\");
    assert_eq!(
        run_text("FROM a\nRUN x \\\n\\\ny\n"),
        "x y",
        "alone on its line"
    );
    assert_eq!(run_text("FROM a\nRUN x \\"), "x", "at the end of the file");
}

#[test]
fn an_empty_line_inside_a_continuation_is_skipped_with_a_warning() {
    let dockerfile = parsed("FROM a\nRUN x \\\n\n  y\n");
    assert_eq!(dockerfile.warnings.len(), 1);
    assert_eq!(run_text("FROM a\nRUN x \\\n\n  y\n"), "x   y");
}

#[test]
fn only_escape_characters_are_no_instruction() {
    assert!(refused("FROM a\n\\\n\n").starts_with("unknown instruction: "));
}

#[test]
fn directives_are_known_by_name_in_any_case_and_only_at_the_top() {
    let directives = parsed("# SYNTAX = a b\n#Escape=`\n  #check=skip=all\nFROM a").directives;
    assert_eq!(directives.escape, '`');
    assert_eq!(directives.syntax.unwrap().value, "a b");
    assert_eq!(directives.check.unwrap().value, "skip=all");
    for before in ["# a comment", "", "# unknown=x", "ARG x"] {
        let text = format!("{before}\n# escape=`\nFROM a");
        assert_eq!(
            parsed(&text).directives.escape,
            '\\',
            "{before:?} ends them"
        );
    }
    // A directive's line is not continued.
    assert_eq!(parsed("# syntax=a \\\nFROM b").stages.len(), 1);
}

#[test]
fn a_directive_is_given_once() {
    assert_eq!(
        refused("# escape=`\n# ESCAPE=`\nFROM a"),
        "only one escape parser directive can be used"
    );
}

#[test]
fn escape_is_a_backslash_or_a_backtick() {
    assert_eq!(
        refused("# escape=x\nFROM a"),
        "invalid escape token 'x' does not match ` or \\"
    );
    assert_eq!(run_text("# escape=`\nFROM a\nRUN c:\\x`\n y\n"), "c:\\x y");
}

#[test]
fn syntax_is_found_in_every_form_and_known_for_the_dockerfile_language() {
    for text in [
        "# syntax=docker/dockerfile:1\nFROM a",
        "#!/usr/bin/env x\n# syntax=docker.io/docker/dockerfile:1.7-labs\nFROM a",
        "// syntax=docker/dockerfile-upstream:master\n",
        "{\"syntax\": \"dockerfile.v0\"}",
    ] {
        assert!(detect_syntax(text).is_some(), "{text}");
        check_syntax("Dockerfile", text.as_bytes(), None).unwrap();
        let foreign = check_syntax("Dockerfile", text.as_bytes(), Some("other/x")).unwrap_err();
        assert!(
            foreign.to_string().contains("other/x"),
            "BUILDKIT_SYNTAX wins"
        );
    }
    let foreign = "// syntax=hub.io/x y\n";
    check_syntax("Dockerfile", foreign.as_bytes(), None).unwrap_err();
    check_syntax("Dockerfile", foreign.as_bytes(), Some("dockerfile.v0")).unwrap();
}

#[test]
fn an_instruction_is_known_in_any_case_and_ends_at_a_blank() {
    for blank in [' ', '\t', '\u{b}', '\u{c}'] {
        assert_eq!(first(&format!("rUn{blank}x")), first("RUN x"));
    }
    assert_eq!(
        refused("FROM a\nCPY a b"),
        "unknown instruction: CPY (did you mean `COPY`?)"
    );
}

#[test]
fn flags_have_quotes_and_escapes_and_end_at_two_dashes() {
    assert_eq!(
        first("COPY --chown=\"a\"':b' x y"),
        first("COPY --chown=a:b x y")
    );
    assert_eq!(
        first("COPY --chown=a\\:b x y"),
        first("COPY --chown=a:b x y")
    );
    match first("COPY --link -- --from=x y") {
        InstructionKind::Copy(copy) => {
            assert_eq!(copy.from, None);
            assert_eq!(copy.arguments.paths().collect::<Vec<_>>(), ["--from=x"]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn flags_are_checked_with_buildkits_words() {
    for (text, message) in [
        (
            "COPY --chonw=a x y",
            "unknown flag: --chonw (did you mean `--chown`?)",
        ),
        (
            "COPY --from=a --from=b x y",
            "duplicate flag specified: from",
        ),
        (
            "COPY --from x y",
            "missing a value on flag: from (write `--from=value`)",
        ),
        (
            "COPY --link= x y",
            "missing a value on flag: link (write `--link=value`)",
        ),
        (
            "COPY --link=yes x y",
            "expecting boolean value for flag link, not: yes (use `true` or `false`)",
        ),
    ] {
        assert_eq!(refused(&format!("FROM a\n{text}")), message);
    }
    assert_eq!(first("COPY --link=TRUE x y"), first("COPY --link x y"));
    assert_eq!(
        first("COPY --from= x y"),
        first("COPY x y"),
        "an empty one is none"
    );
}

#[test]
fn arrays_of_strings_are_json_and_what_is_no_json_is_shell_form() {
    let message = "when using JSON array syntax, arrays must be comprised of strings only";
    for text in [
        "RUN [1]",
        "CMD [\"a\", null]",
        "COPY [[\"a\"], \"b\"]",
        "SHELL [{}]",
    ] {
        assert_eq!(refused(&format!("FROM a\n{text}")), message, "{text}");
    }
    assert_eq!(run_text("FROM a\nRUN [ -f x ] && y\n"), "[ -f x ] && y");
    assert_eq!(run_text("FROM a\nRUN   [\"a\", \"b c\"]\n"), "a|b c");
    match first("COPY ['a', 'b'] /c") {
        InstructionKind::Copy(copy) => {
            assert_eq!(
                copy.arguments.paths().collect::<Vec<_>>(),
                ["['a',", "'b']"]
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_comment_above_describes_a_stage_or_an_argument() {
    let dockerfile = parsed(
        "# V the version\nARG V=1\n# old text\n#\n# build makes it\n# more\nFROM a AS build\n\
         # other about\nARG X\n",
    );
    let stage = &dockerfile.stages[0];
    assert_eq!(stage.description(), Some("makes it"));
    assert_eq!(
        dockerfile.global_args[0].description_of("V"),
        Some("the version")
    );
    assert_eq!(stage.instructions[0].description_of("X"), None);
    let reset = parsed("# build makes it\n#\n# other\nFROM a AS build\n");
    assert_eq!(
        reset.stages[0].description(),
        None,
        "an empty comment ends a block"
    );
}

#[test]
fn errors_have_file_line_column_snippet_and_hint() {
    let error = crate::dockerfile::parse("dir/Dockerfile", b"FROM a\nCOPY --form=b \\\n  c d\n");
    let error = error.unwrap_err();
    assert_eq!(
        error.to_string(),
        "dir/Dockerfile:2:6: unknown flag: --form"
    );
    assert_eq!(
        error.diagnostic().to_string(),
        "dir/Dockerfile:2\n\
         --------------------\n   \
         1 |     FROM a\n   \
         2 | >>> COPY --form=b \\\n     \
         |          ^^^^^^^^\n   \
         3 | >>>   c d\n\
         --------------------\n\
         error: unknown flag: --form\n\
         hint: did you mean `--from`?"
    );
}
