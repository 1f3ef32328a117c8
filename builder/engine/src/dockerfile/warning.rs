//! What a Dockerfile may do but should not, as far as parsing sees it.
//!
//! Here is only what the tree no longer shows; the rest, and the words for it, are the
//! [linter](crate::lint)'s.

use super::source::SourceRange;

/// A dubious construct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What it is.
    pub kind: WarningKind,
    /// The line where it became known.
    pub range: SourceRange,
}

/// The constructs that parsing warns of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WarningKind {
    /// A blank line between continuation lines.
    EmptyContinuation,
}
