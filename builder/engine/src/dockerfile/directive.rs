//! Parser directives: `# escape=`, `# syntax=` and `# check=` at the top.
//!
//! The first line that is none ends them, be it a comment, blank, or a directive that is not
//! known. Names are case-insensitive, none may be given twice, and lines cannot be continued.

use super::error::{Failure, ParseErrorKind};
use super::source::{Position, SourceRange};

/// The directives of a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// The character that escapes and continues lines: `\` or `` ` ``.
    pub escape: char,
    /// `# syntax=`: an image reference, then perhaps arguments.
    pub syntax: Option<Directive>,
    /// `# check=`: settings of the linter.
    pub check: Option<Directive>,
}

/// One directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// What stands after `=`, without blanks around.
    pub value: String,
    /// Where it stands.
    pub range: SourceRange,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            escape: '\\',
            syntax: None,
            check: None,
        }
    }
}

/// Looks for directives in the comments at the top.
#[derive(Debug, Default)]
pub(super) struct DirectiveScanner {
    finished: bool,
    escape_seen: bool,
}

impl DirectiveScanner {
    /// No directive follows.
    pub(super) const fn finish(&mut self) {
        self.finished = true;
    }

    /// Takes the text of a comment, without `#`; whether it is a directive.
    pub(super) fn scan(
        &mut self,
        comment: &str,
        range: SourceRange,
        directives: &mut Directives,
    ) -> Result<bool, Failure> {
        let Some((name, value)) = split(comment).filter(|_| !self.finished) else {
            self.finish();
            return Ok(false);
        };
        let fail = |kind| Err(Failure::at(range, kind));
        let directive = Directive {
            value: value.to_owned(),
            range,
        };
        let repeated = match name.as_str() {
            "escape" => {
                directives.escape = match value {
                    "\\" => '\\',
                    "`" => '`',
                    _ => {
                        let value = directive.value;
                        return fail(ParseErrorKind::InvalidEscape { value });
                    }
                };
                std::mem::replace(&mut self.escape_seen, true)
            }
            "syntax" => directives.syntax.replace(directive).is_some(),
            "check" => directives.check.replace(directive).is_some(),
            _ => {
                self.finish();
                return Ok(false);
            }
        };
        if repeated {
            return fail(ParseErrorKind::DuplicateDirective { name });
        }
        Ok(true)
    }
}

/// The lower-case name and the value of `name = value`, the form of directives.
pub(crate) fn split(comment: &str) -> Option<(String, &str)> {
    let (name, value) = comment.split_once('=')?;
    let name = name.trim();
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric());
    let value = match value.trim() {
        // The pattern of the reference implementation wants a character, and takes a blank.
        "" => &value[value.char_indices().next_back()?.0..],
        value => value,
    };
    is_name.then(|| (name.to_ascii_lowercase(), value))
}

/// Finds which frontend a file is for, also if the file is no Dockerfile: `# syntax=x` at the
/// top or below a `#!` line, `// syntax=x`, or JSON such as `{"syntax": "x"}`.
pub fn detect_syntax(text: &str) -> Option<Directive> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (text, first) = match text.split_once('\n') {
        Some((line, rest)) if line.starts_with("#!") => (rest, 2),
        _ => (text, 1),
    };
    in_comments(text, first, "#")
        .or_else(|| in_comments(text, first, "//"))
        .or_else(|| in_json(text, first))
}

fn in_comments(text: &str, first: u32, mark: &str) -> Option<Directive> {
    let mut directives = Directives::default();
    let mut scanner = DirectiveScanner::default();
    for (line, number) in text.lines().zip(first..) {
        let comment = line.strip_prefix(mark)?;
        let columns = u32::try_from(line.chars().count()).unwrap_or(u32::MAX - 1);
        let start = Position::new(number, 1);
        let range = SourceRange::new(start, Position::new(number, columns + 1));
        let found = scanner.scan(comment, range, &mut directives).ok()?;
        if !found || directives.syntax.is_some() {
            break;
        }
    }
    directives.syntax
}

fn in_json(text: &str, first: u32) -> Option<Directive> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).ok()?;
    Some(Directive {
        value: object.get("syntax")?.as_str()?.to_owned(),
        range: SourceRange::at(Position::new(first, 1)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(lines: &[&str]) -> Result<Directives, ParseErrorKind> {
        let mut directives = Directives::default();
        let mut scanner = DirectiveScanner::default();
        for line in lines {
            let range = SourceRange::at(Position::new(1, 1));
            match scanner.scan(line, range, &mut directives) {
                Ok(_) => {}
                Err(failure) => return Err(failure.kind),
            }
        }
        Ok(directives)
    }

    fn values(lines: &[&str]) -> (char, Option<String>, Option<String>) {
        let directives = scan(lines).unwrap();
        let value = |directive: Option<Directive>| directive.map(|directive| directive.value);
        (
            directives.escape,
            value(directives.syntax),
            value(directives.check),
        )
    }

    #[test]
    fn directives_are_read_from_the_top() {
        let found = values(&[
            " Syntax = a/b:1 c ",
            "ESCAPE=`",
            "check=skip=all;error=true",
        ]);
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(found, ('`', text("a/b:1 c"), text("skip=all;error=true")));
    }

    #[test]
    fn the_first_other_comment_ends_them() {
        for first in ["comment", "unknown=x", "", "2a=b", "escape=", "unknown= "] {
            assert_eq!(values(&[first, "escape=`"]).0, '\\', "{first}");
        }
    }

    #[test]
    fn directives_are_not_repeated() {
        let name = |name: &str| ParseErrorKind::DuplicateDirective {
            name: name.to_owned(),
        };
        assert_eq!(scan(&["escape=\\", "Escape=\\"]), Err(name("escape")));
        assert_eq!(scan(&["syntax=a", "syntax=b"]), Err(name("syntax")));
        assert_eq!(
            scan(&["check=a", "syntax=b", "check=c"]),
            Err(name("check"))
        );
    }

    #[test]
    fn only_two_characters_can_escape() {
        for (line, value) in [
            ("escape='", "'"),
            ("escape=\\\\", "\\\\"),
            ("escape= \t", "\t"),
        ] {
            let value = value.to_owned();
            assert_eq!(scan(&[line]), Err(ParseErrorKind::InvalidEscape { value }));
        }
    }

    #[test]
    fn a_frontend_is_found_in_every_form() {
        let found = |text| detect_syntax(text).map(|d| (d.value, d.range.start.line));
        let x = |line| Some(("x y".to_owned(), line));
        assert_eq!(found("# check=a\n# syntax=x y\nFROM a"), x(2));
        assert_eq!(found("\u{feff}#!/bin/sh\n#syntax=x y"), x(2));
        assert_eq!(found("// syntax=x y\nlet a"), x(1));
        assert_eq!(found("{\"syntax\": \"x y\", \"b\": 1}"), x(1));
        for text in [
            "",
            "FROM a",
            "\n# syntax=x",
            "{\"syntax\": 1}",
            "{",
            "# a\n# syntax=b",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
