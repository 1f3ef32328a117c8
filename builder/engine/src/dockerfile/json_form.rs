//! The JSON form of arguments: `["a", "b"]`.
//!
//! What begins with `[` but is no JSON is no mistake: it is a shell command, or a list of words.

use super::error::ParseErrorKind;
use super::instruction::{CommandLine, Problem};
use super::words::{Span, Word, split_blanks};

/// Arguments in one form or the other.
#[derive(Debug)]
pub(super) enum Form<'a> {
    Json(Vec<String>),
    Text(Span<'a>),
}

/// Reads arguments that may be in JSON form.
pub(super) fn read(arguments: Span<'_>) -> Result<Form<'_>, Problem> {
    if !arguments.text.starts_with('[') {
        return Ok(Form::Text(arguments));
    }
    let Ok(items) = serde_json::from_str::<Vec<serde_json::Value>>(arguments.text) else {
        return Ok(Form::Text(arguments));
    };
    let strings = items.into_iter().map(|item| match item {
        serde_json::Value::String(text) => Ok(text),
        _ => Err(Problem::at(
            arguments.range(),
            ParseErrorKind::JsonNotStrings,
        )),
    });
    strings.collect::<Result<_, _>>().map(Form::Json)
}

/// A command in exec form or, failing that, shell form.
pub(super) fn command(arguments: Span<'_>) -> Result<CommandLine, Problem> {
    Ok(match read(arguments)? {
        Form::Json(items) => CommandLine::Exec(items),
        Form::Text(text) => CommandLine::Shell(text.text.to_owned()),
    })
}

/// A list of words, and whether it is in JSON form.
pub(super) fn list(arguments: Span<'_>) -> Result<(Vec<Word>, bool), Problem> {
    Ok(match read(arguments)? {
        Form::Json(items) => {
            let span = arguments.range();
            let word = |text| Word {
                text,
                span: span.clone(),
            };
            (items.into_iter().map(word).collect(), true)
        }
        Form::Text(text) => (split_blanks(text), false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(text: &str) -> Span<'_> {
        Span { text, offset: 0 }
    }

    #[test]
    fn arrays_of_strings_are_the_exec_form() {
        let exec = |items: &[&str]| {
            CommandLine::Exec(items.iter().map(|item| (*item).to_owned()).collect())
        };
        for (text, expected) in [
            ("[]", exec(&[])),
            ("[ \"a\",\t\"b c\" ]", exec(&["a", "b c"])),
            ("[\"\\u0041\\\"\\n\"]", exec(&["A\"\n"])),
        ] {
            assert_eq!(command(span(text)).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_shell_form() {
        for text in [
            "",
            "a",
            "['a']",
            "[\"a\"",
            "[\"a\"] b",
            "[ -f x ] && y",
            "\"[]\"",
            "[a]",
        ] {
            let shell = CommandLine::Shell(text.to_owned());
            assert_eq!(command(span(text)).unwrap(), shell);
        }
    }

    #[test]
    fn other_arrays_are_errors() {
        for text in ["[1]", "[\"a\", [\"b\"]]", "[null]", "[{}]"] {
            let problem = command(span(text)).unwrap_err();
            assert_eq!(problem.kind, ParseErrorKind::JsonNotStrings, "{text}");
        }
    }

    #[test]
    fn lists_are_arrays_or_words() {
        let words = |text| {
            let (words, json) = list(span(text)).unwrap();
            (
                words.into_iter().map(|word| word.text).collect::<Vec<_>>(),
                json,
            )
        };
        assert_eq!(
            words("[\"a b\", \"c\"]"),
            (vec!["a b".to_owned(), "c".to_owned()], true)
        );
        assert_eq!(
            words("[a b]"),
            (vec!["[a".to_owned(), "b]".to_owned()], false)
        );
    }
}
