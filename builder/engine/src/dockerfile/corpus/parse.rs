//! The trees of the corpus: keyword, flags, words. They are coarser than ours, and of statements
//! that need not be valid instructions, so they are compared with what is split before typing.

use std::fmt::Write as _;
use std::fs;

use super::cases;
use crate::dockerfile::error::{Failure, ParseErrorKind};
use crate::dockerfile::flag::split_flags;
use crate::dockerfile::instruction::{EnvInstruction, KeyValue, Statement};
use crate::dockerfile::json_form::{self, Form};
use crate::dockerfile::lexer::{Lexer, decode};
use crate::dockerfile::parser::{read_heredocs, split_statement};
use crate::dockerfile::words::{Span, Word, split_blanks, split_quoted};
use crate::dockerfile::{Stage, parse};

/// A string as Go's `strconv.Quote` writes it, as far as the corpus needs it.
fn quote(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted += "\\n",
            '\t' => quoted += "\\t",
            '\r' => quoted += "\\r",
            '\x08' => quoted += "\\b",
            '\x0c' => quoted += "\\f",
            c if c.is_control() => write!(quoted, "\\x{:02x}", u32::from(c)).unwrap(),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

fn quote_all(texts: impl IntoIterator<Item = String>) -> String {
    texts
        .into_iter()
        .map(|text| format!(" {}", quote(&text)))
        .collect()
}

/// The words of a command: its arguments, or its text unless it is empty.
fn command(arguments: Span<'_>) -> Vec<String> {
    match json_form::read(arguments).unwrap() {
        Form::Json(items) => items,
        Form::Text(text) if text.text.is_empty() => Vec::new(),
        Form::Text(text) => vec![text.text.to_owned()],
    }
}

fn pairs(statement: &Statement<'_>) -> Vec<String> {
    let parsed = EnvInstruction::parse(statement).unwrap();
    let separator = if parsed.legacy { "" } else { "=" };
    let pair = |pair: &KeyValue| [pair.name.clone(), pair.value.clone(), separator.to_owned()];
    parsed.pairs.iter().flat_map(pair).collect()
}

fn tree(statement: &Statement<'_>) -> String {
    let keyword = statement.keyword.text.to_lowercase();
    let arguments = statement.arguments;
    let texts = |words: Vec<Word>| words.into_iter().map(|word| word.text).collect::<Vec<_>>();
    let words = match keyword.as_str() {
        "add" | "copy" | "volume" => texts(json_form::list(arguments).unwrap().0),
        "cmd" | "entrypoint" | "run" | "shell" => command(arguments),
        "env" | "label" => pairs(statement),
        "arg" => texts(split_quoted(arguments, statement.escape)),
        "expose" | "from" => texts(split_blanks(arguments)),
        "healthcheck" => match arguments.split_at_blanks() {
            (form, _) if form.text.is_empty() => Vec::new(),
            (form, None) => vec![form.text.to_owned()],
            (form, Some(rest)) => [vec![form.text.to_owned()], command(rest)].concat(),
        },
        "onbuild" => {
            let (inner, rest) = arguments.split_at_blanks();
            let rest = rest.unwrap_or_else(|| inner.tail(inner.text.len()));
            let (flags, arguments) = split_flags(rest);
            let inner = Statement {
                keyword: inner,
                flags,
                arguments,
                to_line_end: arguments,
                heredocs: Vec::new(),
                escape: statement.escape,
            };
            return format!("(onbuild {})", tree(&inner));
        }
        _ => vec![arguments.text.to_owned()],
    };
    let flags = match statement.flags.as_slice() {
        [] => String::new(),
        flags => {
            let flags: Vec<_> = flags.iter().map(|flag| quote(&flag.text)).collect();
            format!(" [{}]", flags.join(" "))
        }
    };
    format!("({keyword}{flags}{})", quote_all(words))
}

fn trees(bytes: &[u8]) -> Result<String, Failure> {
    let (text, broken) = decode(bytes);
    let mut lexer = Lexer::new(&text, broken);
    let mut trees = String::new();
    while let Some(line) = lexer.next_logical_line()? {
        let statement = split_statement(&line, lexer.directives.escape);
        read_heredocs(&mut lexer, &line, &statement)?;
        writeln!(trees, "{}", tree(&statement)).unwrap();
    }
    Ok(trees)
}

/// Cases of the corpus that split but are no Dockerfiles, and why.
fn is_invalid(case: &str, kind: &ParseErrorKind) -> bool {
    match case {
        "flags" => matches!(kind, ParseErrorKind::UnknownFlag { .. }),
        "health" => matches!(kind, ParseErrorKind::NoArguments { .. }),
        "json" => matches!(kind, ParseErrorKind::BeforeFrom { .. }),
        case if case.starts_with("jeztah-") => matches!(kind, ParseErrorKind::BeforeFrom { .. }),
        _ => false,
    }
}

#[test]
fn statements_split_into_the_trees_of_the_corpus() {
    for case in cases("parse") {
        let name = case.file_name().unwrap().to_str().unwrap();
        let bytes = fs::read(case.join("Dockerfile")).unwrap();
        let expected = fs::read_to_string(case.join("result")).unwrap();
        assert_eq!(trees(&bytes).unwrap(), expected, "{name}");
    }
}

#[test]
fn the_dockerfiles_of_the_corpus_parse() {
    for case in cases("parse") {
        let name = case.file_name().unwrap().to_str().unwrap();
        let bytes = fs::read(case.join("Dockerfile")).unwrap();
        let expected = fs::read_to_string(case.join("result")).unwrap();
        match parse(name, &bytes) {
            Ok(dockerfile) => {
                let inside = |stage: &Stage| 1 + stage.instructions.len();
                let count = dockerfile.global_args.len()
                    + dockerfile.stages.iter().map(inside).sum::<usize>();
                assert_eq!(count, expected.lines().count(), "{name}");
            }
            Err(error) => assert!(is_invalid(name, error.kind()), "{name}: {error}"),
        }
    }
}

#[test]
fn the_bad_dockerfiles_of_the_corpus_are_refused() {
    let mut seen = Vec::new();
    for case in cases("parse-errors") {
        let name = case.file_name().unwrap().to_str().unwrap().to_owned();
        let error = parse("Dockerfile", &fs::read(case.join("Dockerfile")).unwrap()).unwrap_err();
        let expected = match name.as_str() {
            "empty_dockerfile" => matches!(error.kind(), ParseErrorKind::Empty),
            "env_no_value" => matches!(error.kind(), ParseErrorKind::NameWithoutValue { .. }),
            "only_comments" => matches!(error.kind(), ParseErrorKind::NoInstructions),
            // It has no FROM either, but the array is wrong first.
            "shykes-nested-json" => matches!(error.kind(), ParseErrorKind::JsonNotStrings),
            _ => true,
        };
        assert!(expected, "{name}: {error}");
        seen.push(name);
    }
    assert!(seen.is_empty() || seen.len() >= 4, "{seen:?}");
}
