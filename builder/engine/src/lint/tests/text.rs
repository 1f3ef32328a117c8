//! The rules that need only the text.

use std::sync::Arc;

use proptest::prelude::*;

use super::Findings;
use crate::dockerfile::parse;
use crate::lint::{Finding, LintConfig, Linter, Rule};

/// What the rules that need only the text find, sorted by line.
fn found(text: &str) -> Vec<String> {
    let dockerfile = parse("Dockerfile", text.as_bytes()).unwrap();
    let config = match &dockerfile.directives.check {
        Some(check) => LintConfig::parse(&check.value).unwrap(),
        None => LintConfig::default(),
    };
    let findings = Arc::new(Findings::default());
    let linter = Linter::new(&dockerfile.source, config, findings.clone());
    linter.check_instructions(&dockerfile);
    linter.check_file(&dockerfile);
    findings.take()
}

#[track_caller]
fn assert_found(text: &str, expected: &[&str]) {
    assert_eq!(found(text), expected, "{text}");
}

#[test]
fn stage_name_casing() {
    assert_found(
        "FROM scratch AS Base\nFROM scratch AS next\nFROM scratch\n",
        &["StageNameCasing: Stage name 'Base' should be lowercase (line 1)"],
    );
}

#[test]
fn from_as_casing() {
    assert_found(
        "FROM scratch as one\nFROM scratch AS two\n",
        &["FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)"],
    );
    assert_found(
        "from scratch AS one\nfrom scratch as two\n",
        &["FromAsCasing: 'AS' and 'from' keywords' casing do not match (line 1)"],
    );
    assert_found(
        "FROM scratch As one\n",
        &["FromAsCasing: 'As' and 'FROM' keywords' casing do not match (line 1)"],
    );
}

#[test]
fn no_empty_continuation() {
    assert_found(
        "FROM scratch\nCOPY a \\\n\n  \n  b \\\n  /\nCOPY a \\\n# comment\n  /\n",
        &["NoEmptyContinuation: Empty continuation line (line 6)"],
    );
}

#[test]
fn consistent_instruction_casing() {
    let wrong = |command: &str, case: &str, line: u32| {
        format!(
            "ConsistentInstructionCasing: Command '{command}' should match the case of the command \
             majority ({case}) (line {line})"
        )
    };
    for (text, command, case, line) in [
        (
            "From scratch as a\nFROM scratch AS b\n",
            "From",
            "uppercase",
            1,
        ),
        (
            "frOM scratch as a\nfrom scratch as b\n",
            "frOM",
            "lowercase",
            1,
        ),
        ("FROM scratch\ncopy a /\nCOPY a /\n", "copy", "uppercase", 2),
        ("from scratch\nCOPY a /\ncopy a /\n", "COPY", "lowercase", 2),
        ("from scratch\nCOPY a /\nCOPY b /\n", "from", "uppercase", 1),
        ("FROM scratch\ncopy a /\ncopy b /\n", "FROM", "lowercase", 1),
        // No majority: upper case is usual.
        ("FROM scratch\ncopy a /\n", "copy", "uppercase", 2),
    ] {
        assert_found(text, &[&wrong(command, case, line)]);
    }
    assert_found("from scratch\ncopy a /\n", &[]);
    // ARG before FROM does not count, and what is in a heredoc is no instruction.
    assert_found("arg A=1\nFROM scratch\nRUN <<EOF\nrun x\nEOF\n", &[]);
}

#[test]
fn duplicate_stage_name() {
    assert_found(
        "FROM scratch AS b\nFROM scratch AS b\nFROM scratch AS c\n",
        &["DuplicateStageName: Duplicate stage name \"b\", stage names should be unique (line 2)"],
    );
}

#[test]
fn reserved_stage_name() {
    assert_found(
        "FROM scratch AS scratch\nFROM scratch AS context\nFROM scratch AS a\n",
        &[
            "ReservedStageName: Stage name should not use the same name as reserved stage \
             \"scratch\" (line 1)",
            "ReservedStageName: Stage name should not use the same name as reserved stage \
             \"context\" (line 2)",
        ],
    );
}

#[test]
fn maintainer_deprecated() {
    assert_found(
        "FROM scratch\nMAINTAINER me\nLABEL org.opencontainers.image.authors=me\n",
        &[
            "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label \
             (line 2)",
        ],
    );
}

#[test]
fn invalid_definition_description() {
    let text = "# check=experimental=InvalidDefinitionDescription\n\
                # bar is described\nARG foo=bar\n\
                # Base is the base\nFROM scratch AS base\n\
                # tells nothing\nARG version=latest\n\
                # tells nothing\nARG foo=baz bar=qux\n\
                # bar is described\nARG foo=baz bar=qux\n\
                # not of a definition\n#\nARG bit=bat\n\
                # anything\nCOPY a /\n\
                # anything\nFROM scratch\n";
    let wrong = |instruction: &str, name: &str, line: u32| {
        format!(
            "InvalidDefinitionDescription: Comment for {instruction} should follow the format: `# \
             {name} <description>` (line {line})"
        )
    };
    assert_found(
        text,
        &[
            &wrong("ARG", "foo", 3),
            &wrong("FROM", "base", 5),
            &wrong("ARG", "version", 7),
            &wrong("ARG", "<arg_key>", 9),
        ],
    );
    // Experimental rules are off by themselves.
    assert_found(&text.replacen("# check=", "# no directive=", 1), &[]);
}

#[test]
fn rules_are_skipped_in_the_file_and_above_an_instruction() {
    let body =
        "FROM scratch as a\n# check=skip=MaintainerDeprecated\nMAINTAINER me\nMAINTAINER you\n";
    let maintainer =
        "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label";
    let casing = "FromAsCasing: 'as' and 'FROM' keywords' casing do not match";
    assert_found(
        body,
        &[
            &format!("{casing} (line 1)"),
            &format!("{maintainer} (line 4)"),
        ],
    );
    assert_found(
        &format!("# check=skip=FromAsCasing\n{body}"),
        &[&format!("{maintainer} (line 5)")],
    );
    assert_found(&format!("# check=skip=all;error=true\n{body}"), &[]);
}

#[test]
fn what_is_about_the_file_goes_by_its_settings_alone() {
    let above = "# check=skip=DuplicateStageName,ConsistentInstructionCasing\n";
    let text = format!("FROM scratch AS a\n#\n{above}FROM scratch AS a\n");
    assert_eq!(found(&text).len(), 1);
}

/// What is found up to the instruction that is wrong.
#[test]
fn warnings_stand_before_an_error() {
    let text =
        "# check=skip=StageNameCasing\nFROM scratch as Bad\nMAINTAINER me\nBADCMD\nMAINTAINER me\n";
    let error = parse("Dockerfile", text.as_bytes()).unwrap_err();
    assert_eq!(error.instruction().start.line, 4);
    let beginning = error.beginning().unwrap();
    let check = beginning.directives.check.as_ref().unwrap();
    let config = LintConfig::parse(&check.value).unwrap();
    let findings = Arc::new(Findings::default());
    Linter::new(error.source(), config, findings.clone()).check_instructions(beginning);
    assert_eq!(
        findings.take(),
        [
            "FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 2)",
            "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label \
             (line 3)",
        ]
    );
}

#[test]
fn findings_show_their_lines() {
    let dockerfile = parse("Dockerfile", b"FROM scratch\nCOPY a \\\n  /\n").unwrap();
    let finding = Finding {
        rule: Rule::UndefinedVar,
        detail: "x".to_owned(),
        source: dockerfile.source.clone(),
        range: dockerfile.stages[0].instructions[0].range,
    };
    assert!(finding.snippet().starts_with("Dockerfile:2\n"));
    assert!(finding.snippet().contains("   3 | >>>   /\n"));
}

/// Lines of Dockerfiles, good and bad, with what rules look at.
fn line() -> impl Strategy<Value = String> {
    let keyword = "FROM|from|ARG|Env|COPY|run|CMD|LABEL|MAINTAINER|EXPOSE|WORKDIR|onbuild";
    let word = "[a-zA-Z$\\{\\}:/=\"'\\\\,_#<-]{0,12}|scratch|AS|as|--platform=x|\\$\\{X:-y\\}|key";
    prop_oneof![
        6 => (keyword, proptest::collection::vec(word, 0..4))
            .prop_map(|(keyword, words)| format!("{keyword} {}", words.join(" "))),
        1 => "# ?(check=(skip|error|experimental)=[a-zA-Z,;=]{0,20}|[a-z #]{0,10})",
        1 => "[ \\t\\\\]{0,4}",
    ]
}

proptest! {
    #[test]
    fn no_text_makes_the_rules_panic(lines in proptest::collection::vec(line(), 0..12)) {
        if let Ok(dockerfile) = parse("Dockerfile", lines.join("\n").as_bytes()) {
            let config = LintConfig::parse("experimental=all").unwrap();
            let linter = Linter::new(
                &dockerfile.source,
                config,
                Arc::new(Findings::default()),
            );
            linter.check_instructions(&dockerfile);
            linter.check_file(&dockerfile);
        }
    }
}
