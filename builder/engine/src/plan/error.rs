//! Why a Dockerfile gives no plan.

use super::source::SourceError;
use crate::dockerfile::expand::ExpandError;
use crate::dockerfile::source::{Source, SourceRange};
use crate::dockerfile::{Diagnostic, Instruction};

/// A Dockerfile cannot be planned.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct PlanError {
    /// What is wrong.
    pub message: String,
    /// Where.
    pub place: Option<Box<Place>>,
    /// What to do about it.
    pub hint: Option<String>,
    /// The error below.
    #[source]
    pub cause: Option<Box<SourceError>>,
    /// The word at fault, as it is written: where it is found, the place points to it.
    word: Option<String>,
}

/// A place in a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The text.
    pub source: Source,
    /// The lines at fault.
    pub range: SourceRange,
    /// The part of them at fault, where that is known.
    pub caret: Option<SourceRange>,
}

impl Place {
    /// An instruction, and `word` in it.
    pub(super) fn of<K>(source: &Source, instruction: &Instruction<K>, word: Option<&str>) -> Self {
        let range = instruction.range;
        let start = range.start;
        // A trigger is shown at a FROM, where its own words are not.
        let stands_there = source.line(start.line).is_some_and(|line| {
            let skipped = (start.column as usize).saturating_sub(1);
            line.chars()
                .skip(skipped)
                .take(instruction.keyword.chars().count())
                .eq(instruction.keyword.chars())
        });
        let caret = word.filter(|_| stands_there);
        Self {
            source: source.clone(),
            range,
            caret: caret
                .map(|word| instruction.locate(word))
                .filter(|caret| *caret != range),
        }
    }

    /// The lines, as [`Diagnostic`] shows them.
    pub fn snippet(&self) -> String {
        let shown = Diagnostic::new(&self.source, self.range, "");
        match self.caret {
            Some(caret) => shown.with_caret(caret),
            None => shown,
        }
        .snippet()
    }
}

impl PlanError {
    /// An error with no place.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            place: None,
            hint: None,
            cause: None,
            word: None,
        }
    }

    /// Something that parses and is not done by this version.
    pub(super) fn unsupported(what: &str) -> Self {
        Self::new(format!("{what} is not supported by this version of Ashlar"))
    }

    /// Says first what was to be done.
    #[must_use]
    pub(super) fn prefixed(mut self, doing: &str) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// Adds what to do.
    #[must_use]
    pub(super) fn hinted(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert(hint.into());
        self
    }

    /// Names the word at fault, unless a closer one is known.
    #[must_use]
    pub(super) fn about(mut self, word: &str) -> Self {
        self.word.get_or_insert_with(|| word.to_owned());
        self
    }

    /// Adds the place, unless a closer one is known.
    #[must_use]
    pub(super) fn at(mut self, source: &Source, range: SourceRange) -> Self {
        self.place.get_or_insert_with(|| {
            Box::new(Place {
                source: source.clone(),
                range,
                caret: None,
            })
        });
        self
    }

    /// Adds the instruction at fault, and the word in it, unless a closer place is known.
    #[must_use]
    pub(super) fn within<K>(mut self, source: &Source, instruction: &Instruction<K>) -> Self {
        let word = self.word.as_deref();
        self.place
            .get_or_insert_with(|| Box::new(Place::of(source, instruction, word)));
        self
    }

    /// Adds a place that is known, unless a closer one is.
    #[must_use]
    pub(super) fn placed(mut self, place: &Place) -> Self {
        self.place.get_or_insert_with(|| Box::new(place.clone()));
        self
    }
}

impl From<ExpandError> for PlanError {
    fn from(error: ExpandError) -> Self {
        Self {
            hint: error.hint(),
            ..Self::new(error.to_string())
        }
        .about(&error.word)
    }
}

impl From<SourceError> for PlanError {
    fn from(error: SourceError) -> Self {
        Self {
            hint: error.hint.clone(),
            cause: None,
            ..Self::new(error.message.clone())
        }
        .caused_by(error)
    }
}

impl PlanError {
    fn caused_by(mut self, error: SourceError) -> Self {
        self.cause = Some(Box::new(error));
        self
    }
}
