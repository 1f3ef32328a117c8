use proptest::prelude::*;

use crate::dockerfile::corpus;
use crate::dockerfile::directive::Directive;
use crate::dockerfile::instruction::KEYWORDS;
use crate::dockerfile::{Dockerfile, parse, parse_onbuild};

/// All that printing must keep.
fn content(dockerfile: &Dockerfile) -> impl PartialEq + std::fmt::Debug {
    let directives = &dockerfile.directives;
    let value =
        |directive: &Option<Directive>| directive.as_ref().map(|directive| directive.value.clone());
    let args: Vec<_> = dockerfile
        .global_args
        .iter()
        .map(|arg| (arg.comments.clone(), arg.kind.clone()))
        .collect();
    let stages: Vec<_> = dockerfile
        .stages
        .iter()
        .map(|stage| {
            let instructions: Vec<_> = stage
                .instructions
                .iter()
                .map(|instruction| (instruction.comments.clone(), instruction.kind.clone()))
                .collect();
            (
                stage.from.comments.clone(),
                stage.from.kind.clone(),
                instructions,
            )
        })
        .collect();
    let directives = (
        directives.escape,
        value(&directives.syntax),
        value(&directives.check),
    );
    (directives, args, stages)
}

/// Asserts that what is printed parses to the same.
fn assert_stable(text: &str) -> Result<(), TestCaseError> {
    let Ok(first) = parse("Dockerfile", text.as_bytes()) else {
        return Ok(());
    };
    let printed = first.to_string();
    let second = parse("printed", printed.as_bytes());
    let second = second.map_err(|error| TestCaseError::fail(format!("{error}\n{printed}")))?;
    prop_assert_eq!(content(&first), content(&second), "{}", &printed);
    prop_assert_eq!(second.to_string(), printed);
    Ok(())
}

fn print(text: &str) -> String {
    let dockerfile = parse("Dockerfile", format!("FROM a\n{text}\n").as_bytes()).unwrap();
    dockerfile.stages[0].instructions[0].to_string()
}

#[test]
fn the_corpus_prints_stably() {
    for case in corpus::cases("parse") {
        let text = std::fs::read_to_string(case.join("Dockerfile")).unwrap();
        assert_stable(&text).unwrap();
        assert_stable(&format!("FROM x\n{text}")).unwrap();
    }
}

#[test]
fn a_dockerfile_prints_with_directives_and_comments() {
    let text = "#syntax=x\n#escape=`\nARG a=1\n# the base\nfrom  a:$a as  B\nrun b `\n  c";
    let printed = parse("Dockerfile", text.as_bytes()).unwrap().to_string();
    let expected = "# syntax=x\n# escape=`\n\nARG a=1\n# the base\nFROM a:$a as B\nRUN b   c\n";
    assert_eq!(printed, expected);
}

#[test]
fn instructions_print_on_one_line() {
    for (text, expected) in [
        ("run --network=none  --mount=type=cache,target=/x  y", None),
        ("RUN -- --x", Some("RUN -- --x")),
        ("RUN", Some("RUN")),
        ("CMD [ \"a\" , \"b\" ]", Some("CMD [\"a\",\"b\"]")),
        ("ENV a  b c", Some("ENV a  b c")),
        ("ENV a=\"b c\"   d=e", Some("ENV a=\"b c\" d=e")),
        (
            "COPY --link=true --parents=false --exclude=x a  b",
            Some("COPY --link --exclude=x a b"),
        ),
        (
            "ADD --unpack=false --keep-git-dir a b",
            Some("ADD --keep-git-dir --unpack=false a b"),
        ),
        ("COPY --chown=\"a b\" a b", Some("COPY --chown=\"a b\" a b")),
        (
            "HEALTHCHECK --interval=90s CMD x",
            Some("HEALTHCHECK --interval=1m30s CMD x"),
        ),
        ("HEALTHCHECK none", Some("HEALTHCHECK NONE")),
        (
            "ONBUILD  copy <<E /x\nb\nE",
            Some("ONBUILD copy <<E /x\nb\nE"),
        ),
        (
            "COPY <<-\"E\" <<F /x\nb\n\tE\nF",
            Some("COPY <<-'E' <<F /x\nb\nE\nF"),
        ),
        ("USER x\\\x0c", Some("USER x\\\x0c")),
    ] {
        let expected = expected.unwrap_or("RUN --mount=type=cache,target=/x --network=none y");
        assert_eq!(print(text), expected, "{text}");
    }
}

#[test]
fn words_that_nearly_are_json_stay_words() {
    assert_stable("FROM a\nCOPY [\"a\",\x0b\"b\"]\nVOLUME [\"a\",\x0c\"b\"]\n").unwrap();
}

/// Pieces that are awkward together.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\\\n".to_owned()),
        Just("`".to_owned()),
        Just("\\".to_owned()),
        Just("<<E".to_owned()),
        Just("<<-'E'".to_owned()),
        Just("\nE\n".to_owned()),
        Just("--".to_owned()),
        Just("--from=".to_owned()),
        Just("--chown=".to_owned()),
        Just("--mount=".to_owned()),
        Just("[\"a\", ".to_owned()),
        Just("\"b\"]".to_owned()),
        Just("CMD ".to_owned()),
        Just("# c\n".to_owned()),
        "[ '\"=\\$a#\t\x0b\u{a0}ö<]{1,4}",
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_is_printed_parses_to_the_same(
        directive in prop_oneof![Just(""), Just("# escape=`\n"), Just("# check=a\n# b=c\n")],
        keywords in prop::collection::vec(
            prop::sample::select(KEYWORDS.as_slice()), 1..4),
        rests in prop::collection::vec(pieces(), 4),
    ) {
        let mut text = format!("{directive}FROM a\n");
        for (keyword, rest) in keywords.iter().zip(&rests) {
            text.extend([keyword, " ", rest, "\n"]);
        }
        assert_stable(&text)?;
    }

    #[test]
    fn no_text_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(error) = parse("Dockerfile", &bytes) {
            prop_assert!(!error.diagnostic().to_string().is_empty());
        }
    }

    #[test]
    fn no_dockerfile_panics(text in pieces(), keyword in prop::sample::select(
        KEYWORDS.as_slice()))
    {
        let text = format!("{keyword} {text}");
        if let Err(error) = parse("Dockerfile", text.as_bytes()) {
            prop_assert!(error.range().start.line >= 1 && error.range().start.column >= 1);
            prop_assert!(!error.diagnostic().to_string().is_empty());
        }
        drop(parse_onbuild(&text));
    }
}
