//! Messages with the lines of the Dockerfile that they are about.
//!
//! ```text
//! Dockerfile:3
//! --------------------
//!    1 |     FROM alpine
//!    2 |
//!    3 | >>> COPY --form=x /a /b
//!      |          ^^^^^^^^
//!    4 |     RUN true
//! --------------------
//! error: unknown flag: --form
//! hint: did you mean `--from`?
//! ```
//!
//! The frame is BuildKit's, which people and tools know; the caret and the hint are ours.

use std::fmt::{self, Write as _};

use super::source::{Source, SourceRange};

const RULE: &str = "--------------------";
/// Lines shown beside the marked ones, above and below together, as BuildKit has it: more where
/// only one line is marked.
const CONTEXT: u32 = 2;
const CONTEXT_OF_ONE: u32 = 4;
/// Marked lines shown of a longer instruction, at its beginning and at its end.
const SHOWN_HEAD: u32 = 12;
const SHOWN_TAIL: u32 = 4;
/// Characters shown of a line. The rest is of no use to a reader.
const MAX_COLUMNS: usize = 240;

/// A message about a place in a Dockerfile. Displays as several lines without a final line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    source: Source,
    marked: SourceRange,
    caret: Option<SourceRange>,
    message: String,
    hint: Option<String>,
}

impl Diagnostic {
    /// A message about some lines.
    pub fn new(source: &Source, marked: SourceRange, message: impl Into<String>) -> Self {
        Self {
            source: source.clone(),
            marked,
            caret: None,
            message: message.into(),
            hint: None,
        }
    }

    /// Points to a part of the marked lines. Only parts of one line are shown.
    #[must_use]
    pub fn with_caret(mut self, range: SourceRange) -> Self {
        self.caret = Some(range);
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The snippet alone: name, line and frame, each line with its line end. Empty if the range
    /// is not in the text.
    pub fn snippet(&self) -> String {
        let text = self.source.text();
        let lines: Vec<&str> = text
            .strip_suffix('\n')
            .unwrap_or(text)
            .split('\n')
            .collect();
        let count = u32::try_from(lines.len()).unwrap_or(u32::MAX);
        let (first, last) = (self.marked.start.line, self.marked.end.line.min(count));
        if first == 0 || first > last {
            return String::new();
        }
        let mut out = format!("{}:{first}\n{RULE}\n", self.source.name());
        let (from, to) = with_context(first, last, count);
        for number in from..=to {
            let hidden = first + SHOWN_HEAD..(last + 1).saturating_sub(SHOWN_TAIL);
            if hidden.contains(&number) && hidden.len() > 1 {
                if number == hidden.start {
                    push(
                        &mut out,
                        format_args!(" ... | >>> ({} more lines)", hidden.len()),
                    );
                }
                continue;
            }
            let mark = if self.marked.contains_line(number) {
                ">>>"
            } else {
                "   "
            };
            let text = lines.get(number as usize - 1).copied().unwrap_or_default();
            push(
                &mut out,
                format_args!(" {number:3} | {mark} {}", Printable(text)),
            );
            self.push_caret(&mut out, number, text);
        }
        out.push_str(RULE);
        out.push('\n');
        out
    }

    /// The line with carets, if they belong under line `number`.
    fn push_caret(&self, out: &mut String, number: u32, text: &str) {
        let Some(SourceRange { start, end }) = self.caret else {
            return;
        };
        if start.line != number || end.line != number || self.caret == Some(self.marked) {
            return;
        }
        let before = (start.column as usize).saturating_sub(1);
        if before >= MAX_COLUMNS {
            return;
        }
        // Tabs stay tabs, for the caret to stand under its character.
        let indent: String = text
            .chars()
            .chain(std::iter::repeat(' '))
            .take(before)
            .map(|c| if c == '\t' { c } else { ' ' })
            .collect();
        let width =
            (end.column.saturating_sub(start.column) as usize).clamp(1, MAX_COLUMNS - before);
        push(
            out,
            format_args!("     |     {indent}{}", "^".repeat(width)),
        );
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}error: {}", self.snippet(), self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

/// The lines to show: those from `first` to `last` and some around, of `count` in all.
fn with_context(first: u32, last: u32, count: u32) -> (u32, u32) {
    let context = if first == last {
        CONTEXT_OF_ONE
    } else {
        CONTEXT
    };
    let (mut from, mut to, mut added) = (first, last, 0);
    while added < context {
        if from > 1 {
            from -= 1;
            added += 1;
        }
        if to < count {
            to += 1;
            added += 1;
        }
        // Each round counts for one more, also where there is nothing left to add.
        added += 1;
    }
    (from, to)
}

/// Appends a line without blanks at its end.
fn push(out: &mut String, line: fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(line);
    out.truncate(out.trim_end_matches([' ', '\t']).len());
    out.push('\n');
}

/// A line of source that cannot move the cursor or change colours.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.0.trim_end_matches('\r');
        for (index, character) in line.chars().enumerate() {
            match character {
                _ if index == MAX_COLUMNS => return f.write_char('…'),
                '\t' => f.write_char('\t')?,
                c if c.is_control() => f.write_char(char::REPLACEMENT_CHARACTER)?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::source::Position;

    fn range(start: (u32, u32), end: (u32, u32)) -> SourceRange {
        SourceRange::new(Position::new(start.0, start.1), Position::new(end.0, end.1))
    }

    const TEXT: &str = "FROM alpine\n\nCOPY --form=x /a /b\nRUN true\n";

    #[test]
    fn a_message_stands_below_its_lines() {
        let shown = Diagnostic::new(
            &Source::new("Dockerfile", TEXT),
            range((3, 1), (3, 20)),
            "bad",
        )
        .with_caret(range((3, 6), (3, 14)))
        .with_hint("better")
        .to_string();
        let expected = "\
Dockerfile:3
--------------------
   1 |     FROM alpine
   2 |
   3 | >>> COPY --form=x /a /b
     |          ^^^^^^^^
   4 |     RUN true
--------------------
error: bad
hint: better";
        assert_eq!(shown, expected);
    }

    #[test]
    fn several_lines_are_marked_and_a_caret_for_all_of_them_is_left_out() {
        let text = "FROM a\nRUN b \\\n  c\nUSER d\nUSER e\nUSER f";
        let marked = range((2, 1), (3, 4));
        let shown = Diagnostic::new(&Source::new("D", text), marked, "bad")
            .with_caret(marked)
            .to_string();
        let expected = "\
D:2
--------------------
   1 |     FROM a
   2 | >>> RUN b \\
   3 | >>>   c
   4 |     USER d
--------------------
error: bad";
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_middle_of_a_long_instruction_is_left_out() {
        let text = "RUN <<E\n".to_owned() + &"x\n".repeat(98) + "E\n";
        let shown = Diagnostic::new(&Source::new("D", &text), range((1, 1), (100, 2)), "bad");
        let snippet = shown.snippet();
        assert!(
            snippet.contains("\n ... | >>> (84 more lines)\n  97 | >>> x\n"),
            "{snippet}"
        );
        assert_eq!(snippet.matches(">>>").count(), 17);
    }

    #[test]
    fn carets_stand_under_tabs_and_short_ranges() {
        let source = Source::new("D", "RUN\ta\tb\n");
        let shown = Diagnostic::new(&source, range((1, 1), (1, 8)), "bad")
            .with_caret(range((1, 7), (1, 7)))
            .snippet();
        assert!(shown.contains("\n     |        \t \t^\n"), "{shown}");
    }

    #[test]
    fn control_characters_and_endless_lines_do_no_harm() {
        let text = format!("RUN \x1b[31m{}", "x".repeat(1000));
        let shown = Diagnostic::new(&Source::new("D", &text), range((1, 1), (1, 900)), "bad")
            .with_caret(range((1, 800), (1, 900)))
            .snippet();
        assert!(shown.contains("RUN \u{fffd}[31mxxx"), "{shown}");
        assert!(shown.contains("x…\n"), "{shown}");
        assert!(!shown.contains('^'), "{shown}");
    }

    #[test]
    fn a_range_outside_the_text_shows_no_lines() {
        let source = Source::new("D", "a");
        for marked in [
            range((0, 0), (0, 0)),
            range((5, 1), (9, 1)),
            range((2, 1), (1, 1)),
        ] {
            assert_eq!(
                Diagnostic::new(&source, marked, "bad").to_string(),
                "error: bad"
            );
        }
    }
}
