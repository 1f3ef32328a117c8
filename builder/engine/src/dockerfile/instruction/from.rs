//! FROM.

use super::{Problem, Statement};
use crate::dockerfile::error::ParseErrorKind;
use crate::dockerfile::flag::FlagForm;
use crate::dockerfile::words::{Word, split_blanks};

/// `FROM [--platform=P] image [AS name]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromInstruction {
    /// `--platform`, to be expanded with global ARGs.
    pub platform: Option<String>,
    /// An earlier stage, a named context, `scratch` or an image; to be expanded with global ARGs.
    pub image: String,
    /// The stage's name in lower case.
    pub name: Option<String>,
    /// The word AS and the name as they are written.
    pub name_as_written: Option<(String, String)>,
}

impl FromInstruction {
    pub(super) fn parse(statement: &Statement<'_>) -> Result<Self, Problem> {
        let words = split_blanks(statement.arguments);
        let (image, named) = match <[Word; 3]>::try_from(words) {
            Ok([image, keyword, name]) if keyword.text.eq_ignore_ascii_case("as") => {
                (image, Some((keyword, name)))
            }
            Ok(_) => return Err(Problem::anywhere(ParseErrorKind::FromArguments)),
            Err(words) => match <[Word; 1]>::try_from(words) {
                Ok([image]) => (image, None),
                Err(_) => return Err(Problem::anywhere(ParseErrorKind::FromArguments)),
            },
        };
        let name = match &named {
            Some((_, name)) => Some(parse_stage_name(name)?),
            None => None,
        };
        let flags = statement.check_flags("FROM", &[("platform", FlagForm::Text)])?;
        Ok(Self {
            // An empty one is none.
            platform: flags
                .text("platform")
                .filter(|platform| !platform.is_empty())
                .map(str::to_owned),
            image: image.text,
            name,
            name_as_written: named.map(|(keyword, name)| (keyword.text, name.text)),
        })
    }
}

/// The name of a stage, in lower case.
fn parse_stage_name(word: &Word) -> Result<String, Problem> {
    let name = word.text.to_lowercase();
    let valid = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.')
        });
    if valid {
        Ok(name)
    } else {
        let name = word.text.clone();
        Err(Problem::at(
            word.span.clone(),
            ParseErrorKind::StageName { name },
        ))
    }
}
