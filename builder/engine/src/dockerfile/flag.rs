//! Flags of instructions: the words that begin with `--`, directly after the keyword.
//!
//! Quotes in them are removed; `\` escapes any character, whatever the escape directive says. The
//! word `--` ends the flags, for arguments that begin with `--` themselves.

use super::error::ParseErrorKind;
use super::instruction::Problem;
use super::suggest::suggest;
use super::words::{Span, Word};

/// How a flag is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FlagForm {
    /// `--x`, `--x=true` or `--x=false`.
    Boolean,
    /// `--x=value`.
    Text,
    /// `--x=value`, any number of times.
    List,
}

/// The flags of an instruction, checked against those that it has.
#[derive(Debug)]
pub(super) struct Flags {
    given: Vec<Given>,
}

#[derive(Debug)]
struct Given {
    name: &'static str,
    value: Value,
    word: Word,
}

#[derive(Debug)]
enum Value {
    Boolean(bool),
    Text(String),
}

/// Splits the flags off the beginning of arguments.
pub(super) fn split_flags(arguments: Span<'_>) -> (Vec<Word>, Span<'_>) {
    let mut flags = Vec::new();
    let mut rest = arguments;
    loop {
        rest = rest.tail(rest.text.len() - rest.text.trim_start().len());
        if !rest.text.starts_with("--") {
            return (flags, rest.trim());
        }
        let (word, after) = split_word(rest);
        if word.text == "--" {
            return (flags, after.trim());
        }
        flags.push(word);
        rest = after;
    }
}

/// The word that `text` begins with, without its quotes and escapes, and what follows it.
fn split_word(text: Span<'_>) -> (Word, Span<'_>) {
    let mut word = String::new();
    let mut quote = None;
    let mut end = text.text.len();
    let mut characters = text.text.char_indices();
    while let Some((index, character)) = characters.next() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (None, open @ ('\'' | '"')) => quote = Some(open),
            (_, '\\') => word.extend(characters.next().map(|(_, escaped)| escaped)),
            (None, blank) if blank.is_whitespace() => {
                end = index;
                break;
            }
            (_, other) => word.push(other),
        }
    }
    let span = text.slice(0..end).range();
    (Word { text: word, span }, text.tail(end))
}

impl Flags {
    /// Checks that `words` are flags that the instruction has.
    pub(super) fn check(
        keyword: &'static str,
        known: &'static [(&'static str, FlagForm)],
        words: &[Word],
    ) -> Result<Self, Problem> {
        let mut given: Vec<Given> = Vec::new();
        for word in words {
            let fail = |kind| Err(Problem::at(word.span.clone(), kind));
            let text = word.text.strip_prefix("--").unwrap_or(&word.text);
            let (flag, value) = match text.split_once('=') {
                Some((flag, value)) => (flag, Some(value)),
                None => (text, None),
            };
            let Some((name, form)) = known.iter().find(|(name, _)| *name == flag) else {
                return fail(ParseErrorKind::UnknownFlag {
                    keyword,
                    flag: flag.to_owned(),
                    suggestion: suggest(flag, known.iter().map(|(name, _)| *name)),
                });
            };
            let flag = flag.to_owned();
            if *form != FlagForm::List && given.iter().any(|given| given.name == *name) {
                return fail(ParseErrorKind::DuplicateFlag { flag });
            }
            let value = match (form, value) {
                (FlagForm::Boolean, None) => Value::Boolean(true),
                (FlagForm::Boolean, Some("")) | (FlagForm::Text | FlagForm::List, None) => {
                    return fail(ParseErrorKind::FlagWithoutValue { flag });
                }
                (FlagForm::Boolean, Some(value)) => match value.to_ascii_lowercase().as_str() {
                    "true" => Value::Boolean(true),
                    "false" => Value::Boolean(false),
                    _ => {
                        let value = value.to_owned();
                        return fail(ParseErrorKind::FlagNotBoolean { flag, value });
                    }
                },
                (FlagForm::Text | FlagForm::List, Some(value)) => Value::Text(value.to_owned()),
            };
            let word = word.clone();
            given.push(Given { name, value, word });
        }
        Ok(Self { given })
    }

    /// A flag's setting, if it is given.
    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        self.given.iter().find_map(|given| match given.value {
            Value::Boolean(value) if given.name == name => Some(value),
            _ => None,
        })
    }

    /// A flag's value, if it is given.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.texts(name).next()
    }

    /// A flag's values.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        self.texts(name).map(str::to_owned).collect()
    }

    fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        self.given
            .iter()
            .filter_map(move |given| match &given.value {
                Value::Text(value) if given.name == name => Some(value.as_str()),
                _ => None,
            })
    }

    /// A problem with the value of a flag.
    pub(super) fn problem(&self, name: &str, kind: ParseErrorKind) -> Problem {
        let given = self.given.iter().find(|given| given.name == name);
        match given {
            Some(given) => Problem::at(given.word.span.clone(), kind),
            None => Problem::anywhere(kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[(&str, FlagForm)] = &[
        ("link", FlagForm::Boolean),
        ("from", FlagForm::Text),
        ("mount", FlagForm::List),
    ];

    fn split(text: &str) -> (Vec<String>, &str) {
        let (flags, rest) = split_flags(Span { text, offset: 0 });
        (flags.into_iter().map(|flag| flag.text).collect(), rest.text)
    }

    fn check(text: &str) -> Result<Flags, ParseErrorKind> {
        let (words, _) = split_flags(Span { text, offset: 0 });
        Flags::check("COPY", KNOWN, &words).map_err(|problem| problem.kind)
    }

    #[test]
    fn flags_end_at_the_first_other_word() {
        let flags = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            split(" --a  --b=c d --e "),
            (flags(&["--a", "--b=c"]), "d --e")
        );
        assert_eq!(split("--a -- --b c"), (flags(&["--a"]), "--b c"));
        assert_eq!(split("--a --"), (flags(&["--a"]), ""));
        assert_eq!(split("-a --b"), (flags(&[]), "-a --b"));
        assert_eq!(split("---a b"), (flags(&["---a"]), "b"));
        assert_eq!(split(""), (flags(&[]), ""));
    }

    #[test]
    fn quotes_and_escapes_are_removed_from_flags() {
        assert_eq!(split("--a=\"b c\"'d \\'e' f").0, ["--a=b cd 'e"]);
        assert_eq!(split("--a=b\\ c\\\\ d").0, ["--a=b c\\"]);
        assert_eq!(split("--a=ü\\").0, ["--a=ü"]);
        assert_eq!(split("--a='open end").0, ["--a=open end"]);
    }

    #[test]
    fn flags_have_their_values() {
        let flags = check("--link --from=a=b --mount=1 --mount=").unwrap();
        assert_eq!(flags.boolean("link"), Some(true));
        assert_eq!(flags.text("from"), Some("a=b"));
        assert_eq!(flags.list("mount"), ["1", ""]);
        assert_eq!(check("--link=FALSE").unwrap().boolean("link"), Some(false));
        assert_eq!(check("").unwrap().boolean("link"), None);
    }

    #[test]
    fn flags_are_checked() {
        let flag = |flag: &str| flag.to_owned();
        for (text, expected) in [
            (
                "--from=a --from=a",
                ParseErrorKind::DuplicateFlag { flag: flag("from") },
            ),
            (
                "--link --link",
                ParseErrorKind::DuplicateFlag { flag: flag("link") },
            ),
            (
                "--link=",
                ParseErrorKind::FlagWithoutValue { flag: flag("link") },
            ),
            (
                "--from",
                ParseErrorKind::FlagWithoutValue { flag: flag("from") },
            ),
            (
                "--mount",
                ParseErrorKind::FlagWithoutValue {
                    flag: flag("mount"),
                },
            ),
            (
                "--link=yes",
                ParseErrorKind::FlagNotBoolean {
                    flag: flag("link"),
                    value: flag("yes"),
                },
            ),
            (
                "--form=x",
                ParseErrorKind::UnknownFlag {
                    keyword: "COPY",
                    flag: flag("form"),
                    suggestion: Some("from"),
                },
            ),
            (
                "--From=x",
                ParseErrorKind::UnknownFlag {
                    keyword: "COPY",
                    flag: flag("From"),
                    suggestion: Some("from"),
                },
            ),
        ] {
            assert_eq!(check(text).unwrap_err(), expected, "{text}");
        }
    }
}
