//! What a rule has found.

use std::fmt;

use super::rule::Rule;
use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::source::{Source, SourceRange};

/// A rule, broken. Displays as `Rule: detail (line N)`, as BuildKit's warnings do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which rule.
    pub rule: Rule,
    /// What is wrong, in one line.
    pub detail: String,
    /// The Dockerfile.
    pub source: Source,
    /// The lines of it.
    pub range: SourceRange,
}

impl Finding {
    /// The lines, with some around them.
    pub fn snippet(&self) -> String {
        Diagnostic::new(&self.source, self.range, "").snippet()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, detail, .. } = self;
        write!(f, "{rule}: {detail} (line {})", self.range.start.line)
    }
}
