//! ENV and LABEL.

use super::{Problem, Statement};
use crate::dockerfile::error::ParseErrorKind;
use crate::dockerfile::words::{Word, split_quoted};

/// `ENV name=value...`, or `ENV name value`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvInstruction {
    /// The variables in order; never empty.
    pub pairs: Vec<KeyValue>,
    /// Written in the old form, `ENV name value`.
    pub legacy: bool,
}

/// `LABEL name=value...`, or `LABEL name value`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelInstruction {
    /// The labels in order; never empty.
    pub pairs: Vec<KeyValue>,
    /// Written in the old form, `LABEL name value`.
    pub legacy: bool,
}

/// A name and its value, both to be expanded and both with their quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The name; never empty.
    pub name: String,
    /// The value.
    pub value: String,
}

impl EnvInstruction {
    pub(in crate::dockerfile) fn parse(statement: &Statement<'_>) -> Result<Self, Problem> {
        let (pairs, legacy) = parse_pairs("ENV", statement)?;
        Ok(Self { pairs, legacy })
    }
}

impl LabelInstruction {
    pub(super) fn parse(statement: &Statement<'_>) -> Result<Self, Problem> {
        let (pairs, legacy) = parse_pairs("LABEL", statement)?;
        Ok(Self { pairs, legacy })
    }
}

/// The pairs, and whether they are one pair in the old form. The first word tells the forms
/// apart: it has no `=` in the old one, where all that follows it is the value.
fn parse_pairs(
    keyword: &'static str,
    statement: &Statement<'_>,
) -> Result<(Vec<KeyValue>, bool), Problem> {
    statement.refuse_flags(keyword)?;
    let words = split_quoted(statement.arguments, statement.escape);
    let Some(first) = words.first() else {
        return Err(Problem::anywhere(ParseErrorKind::NoArguments { keyword }));
    };
    if !first.text.contains('=') {
        let (name, value) = statement.arguments.split_at_blanks();
        let value = value.ok_or_else(|| {
            Problem::at(name.range(), ParseErrorKind::NameWithoutValue { keyword })
        })?;
        let pair = KeyValue {
            name: name.text.to_owned(),
            value: value.text.to_owned(),
        };
        return Ok((vec![pair], true));
    }
    let pairs = words.into_iter().map(|word| parse_pair(keyword, word));
    Ok((pairs.collect::<Result<_, _>>()?, false))
}

fn parse_pair(keyword: &'static str, word: Word) -> Result<KeyValue, Problem> {
    match word.text.split_once('=') {
        Some(("", _)) => Err(Problem::at(
            word.span,
            ParseErrorKind::BlankName { keyword },
        )),
        Some((name, value)) => Ok(KeyValue {
            name: name.to_owned(),
            value: value.to_owned(),
        }),
        None => {
            let kind = ParseErrorKind::MissingEquals { word: word.text };
            Err(Problem::at(word.span, kind))
        }
    }
}
