//! Variables in words: `$name`, `${name}` and its modifiers, quotes and escapes.
//!
//! | form | gives |
//! |---|---|
//! | `$v` `${v}` | the value, or nothing |
//! | `${v:-w}` `${v-w}` | `w` if unset; with `:`, also if empty |
//! | `${v:+w}` `${v+w}` | `w` if set; with `:`, only if not empty |
//! | `${v:?m}` `${v?m}` | the value; if there is none, the error `m` |
//! | `${v#p}` `${v##p}` | the value without its shortest or longest beginning that matches `p` |
//! | `${v%p}` `${v%%p}` | the same for its end |
//! | `${v/p/r}` `${v//p/r}` | the value with the first or every match of `p` replaced by `r` |
//!
//! `w`, `m`, `p` and `r` are expanded themselves, always, whether they are needed or not.
//! Names are letters, digits and `_`; or only digits; or one of `@*#?-$!0`. A `$` before anything
//! else stays. Single quotes keep all as it is; in double quotes `$` works and the escape
//! character escapes only `"`, `$` and itself; outside it escapes anything. Quotes are removed.
//!
//! One environment serves a whole instruction: `ENV a=1 b=$a` gives `b` the `a` of before.

mod cursor;
mod environment;
mod error;
mod pattern;
mod word;

pub use environment::Environment;
pub use error::{ExpandError, ExpandErrorKind};

use std::collections::BTreeSet;

use word::{Mode, Processor};

/// Expands words as the escape character of a Dockerfile has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expander {
    escape: char,
}

/// A word after expansion.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// The text.
    pub text: String,
    /// Names that were asked for and have a value, which may be empty.
    pub defined: BTreeSet<String>,
    /// Names that were asked for and have none, whatever the form provides for that case: a
    /// default too is given by who did not declare the variable.
    pub undefined: BTreeSet<String>,
}

/// Words after expansion and splitting.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExpandedWords {
    /// The words; none is empty.
    pub words: Vec<String>,
    /// As in [`Expanded`].
    pub defined: BTreeSet<String>,
    /// As in [`Expanded`].
    pub undefined: BTreeSet<String>,
}

impl Expander {
    /// An expander whose escape character is `\` or `` ` ``
    /// (see [`Directives`](super::directive::Directives)).
    pub const fn new(escape: char) -> Self {
        Self { escape }
    }

    /// Expands variables and removes quotes; blanks stay.
    pub fn process_word(
        &self,
        word: &str,
        environment: &dyn Environment,
    ) -> Result<Expanded, ExpandError> {
        if !word.contains(['$', '\'', '"', self.escape]) {
            return Ok(Expanded {
                text: word.to_owned(),
                ..Expanded::default()
            });
        }
        Processor::run(word, environment, Mode::quoted(self.escape)).map(|result| Expanded {
            text: result.text,
            defined: result.defined,
            undefined: result.undefined,
        })
    }

    /// Expands variables, removes quotes, and splits at blanks that are not quoted, those from
    /// values of variables included.
    pub fn process_words(
        &self,
        word: &str,
        environment: &dyn Environment,
    ) -> Result<ExpandedWords, ExpandError> {
        Processor::run(word, environment, Mode::quoted(self.escape)).map(|result| ExpandedWords {
            words: result.words,
            defined: result.defined,
            undefined: result.undefined,
        })
    }

    /// Expands variables in the body of a heredoc: quotes are text, and the escape character is
    /// always `\`.
    pub fn process_heredoc(
        body: &str,
        environment: &dyn Environment,
    ) -> Result<Expanded, ExpandError> {
        Processor::run(body, environment, Mode::heredoc()).map(|result| Expanded {
            text: result.text,
            defined: result.defined,
            undefined: result.undefined,
        })
    }
}

#[cfg(test)]
mod tests;
