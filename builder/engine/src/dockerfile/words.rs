//! The ways in which instructions split their arguments, none of which expands anything.

use std::ops::Range;

/// A part of a logical line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    /// Its bytes in the logical line, with what is dropped of it.
    pub(super) span: Range<usize>,
}

/// A part of a logical line as it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span<'a> {
    pub(super) text: &'a str,
    /// Byte offset in the logical line.
    pub(super) offset: usize,
}

impl Span<'_> {
    pub(super) const fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.text.len()
    }

    pub(super) fn slice(&self, range: Range<usize>) -> Self {
        Self {
            offset: self.offset + range.start,
            text: &self.text[range],
        }
    }

    pub(super) fn tail(&self, start: usize) -> Self {
        self.slice(start..self.text.len())
    }

    pub(super) fn trim(&self) -> Self {
        let start = self.text.len() - self.text.trim_start().len();
        let end = self.text.trim_end().len().max(start);
        self.slice(start..end)
    }

    /// The part before the first blank, and that after all blanks there, if there are any.
    pub(super) fn split_at_blanks(&self) -> (Self, Option<Self>) {
        match self.text.find(is_blank) {
            Some(end) => {
                let blanks = self.text[end..].find(|c| !is_blank(c));
                let next = blanks.map_or(self.text.len(), |length| end + length);
                (self.slice(0..end), Some(self.tail(next)))
            }
            None => (*self, None),
        }
    }

    fn word(&self) -> Word {
        Word {
            text: self.text.to_owned(),
            span: self.range(),
        }
    }
}

/// What separates keyword, arguments and list items. Wider blanks, such as U+00A0, do not.
const fn is_blank(character: char) -> bool {
    matches!(character, '\t' | '\x0b' | '\x0c' | '\r' | ' ')
}

/// Splits at blanks; quotes mean nothing.
pub(super) fn split_blanks(arguments: Span<'_>) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = Some(arguments).filter(|arguments| !arguments.text.is_empty());
    while let Some(current) = rest {
        let (word, next) = current.split_at_blanks();
        words.push(word.word());
        rest = next;
    }
    words
}

/// Splits at white space outside quotes. Quotes and escapes stay in the words, but for an escape
/// character that ends the line.
pub(super) fn split_quoted(arguments: Span<'_>, escape: char) -> Vec<Word> {
    let mut words = Vec::new();
    let text = arguments.text;
    let mut characters = text.char_indices().peekable();
    while let Some(&(start, first)) = characters.peek() {
        if first.is_whitespace() {
            characters.next();
            continue;
        }
        let mut word = String::new();
        let mut end = text.len();
        let mut quote = None;
        while let Some((index, character)) = characters.next() {
            if quote.is_none() && character.is_whitespace() {
                end = index;
                break;
            }
            if character == escape && quote != Some('\'') {
                // An escape character at the end escapes nothing and is dropped.
                if let Some((_, escaped)) = characters.next() {
                    word.extend([character, escaped]);
                }
                continue;
            }
            match quote {
                Some(open) if open == character => quote = None,
                None if matches!(character, '\'' | '"') => quote = Some(character),
                _ => {}
            }
            word.push(character);
        }
        if !word.is_empty() {
            let span = arguments.slice(start..end).range();
            words.push(Word { text: word, span });
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(text: &str) -> Span<'_> {
        Span { text, offset: 10 }
    }

    fn texts(words: Vec<Word>) -> Vec<String> {
        words.into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn blanks_split_even_inside_quotes() {
        assert_eq!(
            texts(split_blanks(span("a  \"b\tc\"\x0bd\u{a0}e"))),
            ["a", "\"b", "c\"", "d\u{a0}e"]
        );
        assert_eq!(texts(split_blanks(span(""))), [""; 0]);
    }

    #[test]
    fn white_space_in_quotes_or_escaped_does_not_split() {
        let split = |text| texts(split_quoted(span(text), '\\'));
        assert_eq!(
            split("a=\"b c\"  'd e'x f\\ g"),
            ["a=\"b c\"", "'d e'x", "f\\ g"]
        );
        assert_eq!(split("'a\\' b"), ["'a\\'", "b"]);
        assert_eq!(split("\"a\\\" b\" c"), ["\"a\\\" b\"", "c"]);
        assert_eq!(split("föo bàr \"âbc xÿz\""), ["föo", "bàr", "\"âbc xÿz\""]);
        assert_eq!(split("\"\" ''"), ["\"\"", "''"]);
        assert_eq!(split("\"open end"), ["\"open end"]);
    }

    #[test]
    fn an_escape_character_at_the_end_is_dropped() {
        assert_eq!(texts(split_quoted(span("a b\\"), '\\')), ["a", "b"]);
        assert_eq!(texts(split_quoted(span("a \\"), '\\')), ["a"]);
        assert_eq!(texts(split_quoted(span("a `"), '`')), ["a"]);
    }

    #[test]
    fn words_know_their_place() {
        let words = split_quoted(span("a 'b c' d"), '\\');
        assert_eq!(words[1].span, 12..17);
        assert_eq!(words[2].span, 18..19);
        assert_eq!(split_blanks(span("ab  cd"))[1].span, 14..16);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[ \t'a\"\\\\`ü\u{a0}]{0,20}") {
            let span = span(&text);
            for word in split_blanks(span).into_iter().chain(split_quoted(span, '`')) {
                proptest::prop_assert!(word.span.start >= 10 && word.span.end <= 10 + text.len());
            }
            span.trim();
        }
    }
}
