//! The text of a Dockerfile and places in it.

use std::sync::Arc;

/// A place in a text. Lines and columns count from 1; columns count characters, not bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

impl Position {
    /// A place.
    pub const fn new(line: u32, column: u32) -> Self {
        Self { line, column }
    }
}

/// A stretch of a text, which may span lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceRange {
    /// The first character.
    pub start: Position,
    /// Just after the last character, on the line of that character.
    pub end: Position,
}

impl SourceRange {
    /// From `start` up to, not including, `end`.
    pub const fn new(start: Position, end: Position) -> Self {
        Self { start, end }
    }

    /// No characters, at a place.
    pub const fn at(position: Position) -> Self {
        Self::new(position, position)
    }

    /// Whether it touches a line.
    pub const fn contains_line(&self, line: u32) -> bool {
        self.start.line <= line && line <= self.end.line
    }
}

/// A named text that errors point into. Clones share the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    name: Arc<str>,
    text: Arc<str>,
}

impl Source {
    /// A text under the name that users know it by, such as `Dockerfile`.
    pub fn new(name: &str, text: &str) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
        }
    }

    /// The name that users know it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A line without its line end, counted from 1.
    pub fn line(&self, number: u32) -> Option<&str> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.text.lines().nth(index)
    }
}
