//! Heredocs: texts that follow the line of an instruction.
//!
//! RUN, COPY and ADD may have them, also behind ONBUILD, unless their arguments are a JSON array.
//! A word `[fd]<<[-]NAME` announces one; the bodies follow the instruction in the order of the
//! words, each up to a line that is only its name:
//!
//! ```text
//! COPY <<one <<-"two" /dir/
//! content of /dir/one, $expanded
//! one
//!         content of /dir/two, without leading tabs, not expanded
//!         two
//! ```
//!
//! Names are what a shell makes of them, with `\` for escape whatever the directive says.
//! `<<<` is none, nor is `<<` inside quotes or shell arithmetic.

use std::borrow::Cow;
use std::ops::Range;

/// A heredoc and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The name that ends the body, without quotes.
    pub name: String,
    /// The lines as written, with their line ends; without the line that ends them.
    pub body: String,
    /// COPY and ADD expand variables in the body: no part of the name is quoted.
    pub expand: bool,
    /// `<<-`: leading tabs do not belong to the body.
    pub chomp: bool,
    /// The file descriptor before `<<`.
    pub fd: Option<u32>,
}

impl Heredoc {
    /// The body as it is meant: without leading tabs if the heredoc drops them.
    pub fn content(&self) -> Cow<'_, str> {
        if !self.chomp || !self.body.contains('\t') {
            return Cow::Borrowed(&self.body);
        }
        let lines = self.body.split_inclusive('\n');
        Cow::Owned(lines.map(|line| line.trim_start_matches('\t')).collect())
    }
}

/// The word that announces a heredoc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeredocMark {
    pub(super) name: String,
    pub(super) expand: bool,
    pub(super) chomp: bool,
    pub(super) fd: Option<u32>,
}

impl HeredocMark {
    /// Reads a word; `None` if it announces no heredoc.
    pub(super) fn parse(word: &str) -> Option<Self> {
        let (fd, rest) = word.split_once("<<")?;
        if !fd.bytes().all(|b| b.is_ascii_digit()) || rest.contains('<') {
            return None;
        }
        let (chomp, rest) = match rest.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let (name, quoted) = unquote(rest.trim_start_matches(is_blank))?;
        Some(Self {
            name,
            expand: !quoted,
            chomp,
            fd: fd.parse().ok(),
        })
    }

    /// The heredoc with its body.
    pub(super) fn with_body(self, body: String) -> Heredoc {
        Heredoc {
            name: self.name,
            body,
            expand: self.expand,
            chomp: self.chomp,
            fd: self.fd,
        }
    }
}

/// A single, non-empty shell word without its quotes and escapes, and whether it had quotes.
fn unquote(word: &str) -> Option<(String, bool)> {
    let mut name = String::new();
    let mut quoted = false;
    let mut quote = None;
    let mut characters = word.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (Some('\''), other) => name.push(other),
            (Some(_), '\\') => match characters.next()? {
                escaped @ ('"' | '$' | '\\') => name.push(escaped),
                other => name.extend(['\\', other]),
            },
            (Some(_), other) => name.push(other),
            (None, open @ ('\'' | '"')) => {
                quoted = true;
                quote = Some(open);
            }
            (None, '\\') => name.extend(characters.next()),
            (None, blank) if blank.is_whitespace() => return None,
            (None, other) => name.push(other),
        }
    }
    (quote.is_none() && !name.is_empty()).then_some((name, quoted))
}

/// The heredocs that a line announces, with the bytes where. A line with an open quote has none.
pub(super) fn find_marks(line: &str) -> Vec<(HeredocMark, Range<usize>)> {
    if !line.contains("<<") {
        return Vec::new();
    }
    let words = Words { line, offset: 0 };
    let words: Option<Vec<_>> = words.collect();
    words
        .unwrap_or_default()
        .into_iter()
        .filter_map(|range| Some((HeredocMark::parse(&line[range.clone()])?, range)))
        .collect()
}

/// The shell words of a line; `None` for one that has no end.
///
/// Blanks after `<<` and `<<-` belong to the word.
struct Words<'a> {
    line: &'a str,
    offset: usize,
}

impl Iterator for Words<'_> {
    type Item = Option<Range<usize>>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.line.get(self.offset..)?;
        let start = self.offset + (rest.len() - rest.trim_start().len());
        if start == self.line.len() {
            return None;
        }
        let end = word_end(self.line, start);
        // Nothing can be told of what follows an open quote.
        self.offset = end.unwrap_or(self.line.len() + 1);
        Some(end.map(|end| start..end))
    }
}

/// The byte after the word that begins at byte `start`; `None` if a quote stays open.
fn word_end(line: &str, start: usize) -> Option<usize> {
    let mut offset = start;
    while let Some(character) = line[offset..].chars().next() {
        let rest = &line[offset..];
        offset += match character {
            blank if blank.is_whitespace() => return Some(offset),
            '\'' => rest[1..].find('\'')? + 2,
            '"' => double_quoted_length(rest)?,
            '\\' => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            '$' if rest.starts_with("$((") => rest.find("))").map_or(3, |length| length + 2),
            '<' if rest.starts_with("<<") => {
                let operator = if rest.starts_with("<<-") { 3 } else { 2 };
                let after = &rest[operator..];
                operator + (after.len() - after.trim_start_matches(is_blank).len())
            }
            other => other.len_utf8(),
        };
    }
    Some(line.len())
}

/// The bytes of the double-quoted text at the beginning of `text`, with its quotes.
fn double_quoted_length(text: &str) -> Option<usize> {
    let mut escaped = true;
    for (index, character) in text.char_indices() {
        match character {
            '"' if !escaped => return Some(index + 1),
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    None
}

const fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(line: &str) -> Vec<String> {
        find_marks(line)
            .into_iter()
            .map(|(mark, _)| mark.name)
            .collect()
    }

    #[test]
    fn every_form_of_a_mark_is_known() {
        for word in [
            "<<EOF",
            "<<'EOF'",
            "<<\"EOF\"",
            "<<-EOF",
            "<<-'EOF'",
            "<<-\"EOF\"",
            "<<EO\"F\"",
            "<< EOF",
            "<<- EOF",
            "4<<EOF",
            "<<E\\OF",
        ] {
            assert_eq!(HeredocMark::parse(word).unwrap().name, "EOF", "{word}");
        }
    }

    #[test]
    fn other_words_are_no_marks() {
        for word in [
            "", "EOF", "<<", "<<-", "<EOF", "<<<EOF", "<<EOF sh", "<<'EOF", "<<\"EOF", "<<EOF'",
            "<<EOF\"", "x<<EOF", "<<''", "<<a<<b",
        ] {
            assert_eq!(HeredocMark::parse(word), None, "{word}");
        }
    }

    #[test]
    fn quotes_forbid_expansion_and_escapes_do_not() {
        for (word, name, expand) in [
            ("<<eo'f'", "eof", false),
            ("<<eo\\'f", "eo'f", true),
            ("<<'e'o\\'f", "eo'f", false),
            ("<<'one two'", "one two", false),
            ("<<$EOF", "$EOF", true),
            ("<<\"a\\\"b\\c\"", "a\"b\\c", false),
        ] {
            let mark = HeredocMark::parse(word).unwrap();
            assert_eq!((mark.name.as_str(), mark.expand), (name, expand), "{word}");
        }
    }

    #[test]
    fn a_mark_may_have_a_file_descriptor_and_drop_tabs() {
        let mark = HeredocMark::parse("3<<-EOF").unwrap();
        assert_eq!((mark.fd, mark.chomp), (Some(3), true));
        let mark = HeredocMark::parse("<< -EOF").unwrap();
        assert_eq!(
            (mark.fd, mark.chomp, mark.name.as_str()),
            (None, false, "-EOF")
        );
        assert_eq!(HeredocMark::parse("99999999999<<E").unwrap().fd, None);
    }

    #[test]
    fn marks_are_found_among_the_words_of_a_line() {
        for (line, expected) in [
            ("RUN <<EOF", vec!["EOF"]),
            ("RUN <<  EOF  > foo", vec!["EOF"]),
            ("RUN <<- EOF", vec!["EOF"]),
            ("RUN << -EOF", vec!["-EOF"]),
            ("RUN <<EOF <<'two words'", vec!["EOF", "two words"]),
            (
                "RUN <<EOF 3<<IN1 4<<IN2 awk -f -",
                vec!["EOF", "IN1", "IN2"],
            ),
            ("RUN --mount=type=cache,target=/foo <<MOUNT", vec!["MOUNT"]),
            ("RUN <<x;", vec!["x;"]),
            ("RUN echo ${x:0:3} \"${y}\" <<E", vec!["E"]),
            ("RUN '<<EOF' \"<<EOF\" \\<<EOF", vec![]),
            ("RUN cat <<<EOF <<< EOF", vec![]),
            ("RUN cat a<<EOF", vec![]),
            ("RUN echo $(( 1 << 2 )) <<E", vec!["E"]),
            ("RUN echo $((1<<2)", vec![]),
            ("RUN cat <<E # don't", vec![]),
            ("RUN \"\\\\\" <<E", vec!["E"]),
            ("RUN ends <<", vec![]),
            ("RUN ends\\", vec![]),
        ] {
            assert_eq!(names(line), expected, "{line}");
        }
    }

    #[test]
    fn a_mark_is_where_its_word_is() {
        let line = "RUN ü <<  E x";
        assert_eq!(&line[find_marks(line)[0].1.clone()], "<<  E");
    }

    #[test]
    fn only_leading_tabs_are_dropped_and_only_if_asked() {
        let heredoc = |chomp| Heredoc {
            name: "E".to_owned(),
            body: "\t\ta\tb\n  \tc\n\n\t\n".to_owned(),
            expand: true,
            chomp,
            fd: None,
        };
        assert_eq!(heredoc(true).content(), "a\tb\n  \tc\n\n\n");
        assert_eq!(heredoc(false).content(), heredoc(false).body);
    }

    proptest::proptest! {
        #[test]
        fn no_line_panics(line in "[<\\-$() 'a\"\\\\1ü\t]{0,20}") {
            for (mark, range) in find_marks(&line) {
                proptest::prop_assert_eq!(HeredocMark::parse(&line[range]), Some(mark));
            }
        }
    }
}
