//! From bytes to logical lines: one for each instruction, with its continuation lines joined.
//!
//! ```text
//! # escape=\            directive
//! # about run           comment, kept for the instruction below
//!   RUN one \           ─┐
//!   # in between         │ logical line `RUN one   two`: blanks at the beginning of its first
//!                        │ line go, those of the others stay
//!   two                 ─┘
//! ```
//!
//! - A line continues if the escape character is its last, blanks aside, and no other escape
//!   character stands before it.
//! - Comments and blank lines inside are dropped; a blank one is warned of.
//! - A byte order mark at the beginning is dropped; lines end with LF or CRLF.

use std::borrow::Cow;

use super::directive::{DirectiveScanner, Directives};
use super::error::{Failure, ParseErrorKind};
use super::heredoc::HeredocMark;
use super::source::{Position, SourceRange};
use super::warning::{Warning, WarningKind};

/// The longest line, without its line feed. The reference implementation's: its reader's buffer
/// holds 64 KiB with the line feed.
const MAX_LINE: usize = 65_535;

/// A line of the file.
#[derive(Debug, Clone, Copy)]
struct PhysicalLine<'a> {
    /// Without line end.
    text: &'a str,
    number: u32,
    /// Byte offset in the file.
    offset: usize,
}

/// An instruction's text, joined.
#[derive(Debug)]
pub(super) struct LogicalLine {
    /// The text. Begins with the keyword.
    pub(super) text: String,
    /// Comments above.
    pub(super) comments: Vec<String>,
    /// Byte offset in the file of the keyword.
    pub(super) offset: usize,
    pieces: Vec<Piece>,
}

/// A part of a logical line that stands in one physical line.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// Byte offset in the logical line.
    at: usize,
    /// The place of its first character.
    position: Position,
    /// Byte offset in the file.
    offset: usize,
}

impl LogicalLine {
    /// The place of a byte of the text.
    pub(super) fn position(&self, offset: usize) -> Position {
        let index = self
            .pieces
            .partition_point(|piece| piece.at <= offset)
            .max(1)
            - 1;
        match self.pieces.get(index) {
            Some(piece) => {
                let before = self.text.get(piece.at..offset).unwrap_or_default();
                advance(piece.position, before)
            }
            None => Position::new(1, 1),
        }
    }
}

/// The place after `text` on the same line.
fn advance(position: Position, text: &str) -> Position {
    let columns = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
    Position::new(position.line, position.column.saturating_add(columns))
}

/// Reads the text of a Dockerfile, line by line.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    offset: usize,
    /// Number of the next line.
    line: u32,
    /// Places of bytes that were not UTF-8, in order.
    broken: Vec<Position>,
    scanner: DirectiveScanner,
    pub(super) directives: Directives,
    pub(super) warnings: Vec<Warning>,
    /// The byte of the file and the place where what was read so far ends.
    pub(super) end: (usize, Position),
}

/// Makes text of bytes. What is not UTF-8 is replaced, and its places are returned.
pub(super) fn decode(bytes: &[u8]) -> (Cow<'_, str>, Vec<Position>) {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut broken = Vec::new();
    let mut position = Position::new(1, 1);
    let text = String::from_utf8_lossy(bytes);
    if let Cow::Owned(_) = text {
        for chunk in bytes.utf8_chunks() {
            for character in chunk.valid().chars() {
                position = match character {
                    '\n' => Position::new(position.line.saturating_add(1), 1),
                    _ => Position::new(position.line, position.column.saturating_add(1)),
                };
            }
            if !chunk.invalid().is_empty() {
                broken.push(position);
                position.column = position.column.saturating_add(1);
            }
        }
    }
    (text, broken)
}

impl<'a> Lexer<'a> {
    /// A reader of what [`decode`] gave.
    pub(super) fn new(text: &'a str, broken: Vec<Position>) -> Self {
        Self {
            text,
            offset: 0,
            line: 1,
            broken,
            scanner: DirectiveScanner::default(),
            directives: Directives::default(),
            warnings: Vec::new(),
            end: (0, Position::new(1, 1)),
        }
    }

    /// The next instruction, or `None` at the end of the file.
    pub(super) fn next_logical_line(&mut self) -> Result<Option<LogicalLine>, Failure> {
        let mut comments = Vec::new();
        while let Some(line) = self.next_line()? {
            let text = line.text.trim_start();
            let indent = line.text.len() - text.len();
            if let Some(comment) = text.strip_prefix('#') {
                let start = advance(Position::new(line.number, 1), &line.text[..indent]);
                let range = SourceRange::new(start, advance(start, text));
                if !self.scanner.scan(comment, range, &mut self.directives)? {
                    match comment.trim() {
                        "" => comments.clear(),
                        comment => comments.push(comment.to_owned()),
                    }
                }
                continue;
            }
            self.scanner.finish();
            if text.is_empty() {
                continue;
            }
            let joined = self.join(line, indent)?;
            return Ok(Some(LogicalLine { comments, ..joined }));
        }
        Ok(None)
    }

    /// The instruction that begins at byte `indent` of `first`. If only escape characters and
    /// blanks follow it is empty, which no instruction may be.
    fn join(&mut self, first: PhysicalLine<'a>, indent: usize) -> Result<LogicalLine, Failure> {
        let mut joined = LogicalLine {
            text: String::new(),
            comments: Vec::new(),
            offset: first.offset,
            pieces: Vec::new(),
        };
        let mut has_blank_line = false;
        let mut continues = self.append(&mut joined, first, indent)?;
        while continues && let Some(line) = self.next_line()? {
            self.note_end(line);
            let text = line.text.trim_start();
            if text.starts_with('#') {
                continue;
            }
            if text.is_empty() {
                has_blank_line = true;
                continue;
            }
            // Before the keyword blanks mean nothing: the first line had only its escape character.
            let skipped = if joined.text.is_empty() {
                line.text.len() - text.len()
            } else {
                0
            };
            continues = self.append(&mut joined, line, skipped)?;
        }
        if has_blank_line {
            // Where it is known that the instruction has one: the place that BuildKit names.
            self.warnings.push(Warning {
                kind: WarningKind::EmptyContinuation,
                range: SourceRange::at(Position::new(self.end.1.line, 1)),
            });
        }
        if let Some(first) = joined.pieces.first() {
            joined.offset = first.offset;
        }
        Ok(joined)
    }

    /// Appends a physical line from byte `from` on; whether another one follows.
    fn append(
        &mut self,
        joined: &mut LogicalLine,
        line: PhysicalLine<'a>,
        from: usize,
    ) -> Result<bool, Failure> {
        self.note_end(line);
        self.check_utf8(line)?;
        let position = advance(Position::new(line.number, 1), &line.text[..from]);
        let (text, continues) = strip_continuation(&line.text[from..], self.directives.escape);
        if joined.text.is_empty() {
            joined.pieces.clear();
        }
        if !text.is_empty() || joined.pieces.is_empty() {
            joined.pieces.push(Piece {
                at: joined.text.len(),
                position,
                offset: line.offset + from,
            });
            joined.text.push_str(text);
        }
        Ok(continues)
    }

    /// Reads the body of a heredoc, and the line that ends it. `marked` is where the heredoc is
    /// announced.
    pub(super) fn read_heredoc(
        &mut self,
        mark: &HeredocMark,
        marked: SourceRange,
    ) -> Result<String, Failure> {
        let start = self.offset;
        while let Some(line) = self.next_line()? {
            self.check_utf8(line)?;
            self.note_end(line);
            let candidate = match mark.chomp {
                true => line.text.trim_start_matches('\t'),
                false => line.text,
            };
            if candidate == mark.name {
                return Ok(self.text[start..line.offset].to_owned());
            }
        }
        let name = mark.name.clone();
        Err(Failure::at(
            marked,
            ParseErrorKind::UnterminatedHeredoc { name },
        ))
    }

    fn next_line(&mut self) -> Result<Option<PhysicalLine<'a>>, Failure> {
        let rest = &self.text[self.offset..];
        if rest.is_empty() {
            return Ok(None);
        }
        let length = rest.find('\n').map_or(rest.len(), |index| index + 1);
        let whole = &rest[..length];
        let line = PhysicalLine {
            text: whole.trim_end_matches(['\r', '\n']),
            number: self.line,
            offset: self.offset,
        };
        if whole.strip_suffix('\n').unwrap_or(whole).len() > MAX_LINE {
            let limit = MAX_LINE;
            let place = SourceRange::at(Position::new(self.line, 1));
            return Err(Failure::at(place, ParseErrorKind::LineTooLong { limit }));
        }
        self.offset += length;
        self.line = self.line.saturating_add(1);
        Ok(Some(line))
    }

    fn check_utf8(&self, line: PhysicalLine<'_>) -> Result<(), Failure> {
        let index = self
            .broken
            .partition_point(|place| place.line < line.number);
        match self.broken.get(index) {
            Some(place) if place.line == line.number => Err(Failure::at(
                SourceRange::at(*place),
                ParseErrorKind::NotUtf8,
            )),
            _ => Ok(()),
        }
    }

    fn note_end(&mut self, line: PhysicalLine<'_>) {
        let end = advance(Position::new(line.number, 1), line.text);
        self.end = (line.offset + line.text.len(), end);
    }
}

/// The line without the escape character that continues it, if there is one.
fn strip_continuation(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(text) if !text.ends_with(escape) => (text, true),
        _ => (line, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<LogicalLine> {
        let mut lexer = Lexer::new(text, Vec::new());
        std::iter::from_fn(|| lexer.next_logical_line().unwrap()).collect()
    }

    fn texts(text: &str) -> Vec<String> {
        lines(text).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn continuation_lines_are_joined_with_their_blanks() {
        assert_eq!(texts("  RUN a \\\n  b\\ \t\nc \n"), ["RUN a   bc "]);
        assert_eq!(texts("RUN a \\"), ["RUN a "]);
        assert_eq!(texts("RUN a\\\r\nb\r\nUSER c\r\n"), ["RUN ab", "USER c"]);
    }

    #[test]
    fn an_escaped_escape_character_continues_nothing() {
        assert_eq!(texts("ENV C c\\\\\nENV D d"), ["ENV C c\\\\", "ENV D d"]);
        assert_eq!(
            texts("ENV C c\\\\\\\nENV D d"),
            ["ENV C c\\\\\\", "ENV D d"]
        );
    }

    #[test]
    fn a_lone_escape_character_continues() {
        assert_eq!(texts("ENV E a\\\n\\\nb"), ["ENV E ab"]);
        assert_eq!(texts("\\\n  RUN x\n"), ["RUN x"]);
        assert_eq!(texts("\\\n\\\n\n"), [""]);
    }

    #[test]
    fn comments_between_are_dropped_and_those_above_kept() {
        let lines = lines("# a\n#\n# b\n\n  # c\nRUN x \\\n  # in\n# side\n  y\n#d\nUSER z");
        assert_eq!(lines[0].text, "RUN x   y");
        assert_eq!(lines[0].comments, ["b", "c"]);
        assert_eq!(lines[1].comments, ["d"]);
    }

    #[test]
    fn blank_lines_inside_are_warned_of_once() {
        let mut lexer = Lexer::new("RUN a \\\n\n  \n b\nRUN c \\\n d\nRUN e\\\n\nf", Vec::new());
        while lexer.next_logical_line().unwrap().is_some() {}
        let places: Vec<_> = lexer.warnings.iter().map(|w| w.range.start.line).collect();
        assert_eq!(places, [4, 9]);
    }

    #[test]
    fn places_are_those_of_the_physical_lines() {
        let lines = lines("\n  RÜN a \\\n# no\n    bcd\n");
        let line = &lines[0];
        let place = |word| line.position(line.text.find(word).unwrap());
        assert_eq!(place("RÜN"), Position::new(2, 3));
        assert_eq!(place("a"), Position::new(2, 7));
        assert_eq!(place("bcd"), Position::new(4, 5));
        assert_eq!(line.position(line.text.len()), Position::new(4, 8));
        assert_eq!(line.offset, 3);
    }

    #[test]
    fn the_length_of_a_line_is_bounded() {
        let longest = format!("FROM a\nRUN {}\n", "x".repeat(MAX_LINE - 4));
        assert_eq!(lines(&longest).len(), 2);
        let longer = longest.replace("RUN", "RUN ");
        let mut lexer = Lexer::new(&longer, Vec::new());
        lexer.next_logical_line().unwrap();
        let failure = lexer.next_logical_line().unwrap_err();
        assert_eq!(
            failure.kind,
            ParseErrorKind::LineTooLong { limit: MAX_LINE }
        );
        assert_eq!(failure.range.start.line, 2);
    }

    #[test]
    fn bytes_that_are_no_text_matter_only_outside_comments() {
        let (text, broken) = decode(b"\xef\xbb\xbf# caf\xe9\nRUN x\xff\n");
        let mut lexer = Lexer::new(&text, broken);
        let failure = lexer.next_logical_line().unwrap_err();
        assert_eq!(failure.kind, ParseErrorKind::NotUtf8);
        assert_eq!(failure.range.start, Position::new(2, 6));

        let (text, broken) = decode(b"# caf\xe9\nRUN x\n");
        assert_eq!(broken.len(), 1);
        assert!(
            Lexer::new(&text, broken)
                .next_logical_line()
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn heredoc_bodies_are_raw() {
        let mut lexer = Lexer::new("RUN <<E\n\ta \\\r\n# b\nE\nUSER x", Vec::new());
        lexer.next_logical_line().unwrap();
        let mark = HeredocMark::parse("<<E").unwrap();
        let nowhere = SourceRange::at(Position::new(1, 1));
        assert_eq!(
            lexer.read_heredoc(&mark, nowhere).unwrap(),
            "\ta \\\r\n# b\n"
        );
        assert_eq!(lexer.end, (19, Position::new(4, 2)));
        assert_eq!(lexer.next_logical_line().unwrap().unwrap().text, "USER x");
    }

    #[test]
    fn a_heredoc_may_end_behind_tabs_only_if_it_drops_them() {
        let read = |mark, text| {
            let mark = HeredocMark::parse(mark).unwrap();
            Lexer::new(text, Vec::new()).read_heredoc(&mark, SourceRange::at(Position::new(1, 1)))
        };
        assert_eq!(read("<<-E", "\ta\n\t\tE\n").unwrap(), "\ta\n");
        assert_eq!(read("<<E", "a\n\tE\nE").unwrap(), "a\n\tE\n");
        let failure = read("<<E", "a\n E\n").unwrap_err();
        let name = "E".to_owned();
        assert_eq!(failure.kind, ParseErrorKind::UnterminatedHeredoc { name });
    }
}
