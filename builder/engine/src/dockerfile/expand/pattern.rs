//! Patterns of `${v#p}`, `${v%p}` and `${v/p/r}`.
//!
//! `*` matches any text and `?` any character, both except a line feed; there are no brackets.
//! `\` escapes `*`, `?` and itself, and stands before `}` and `/` where these would end the
//! pattern. A match takes time in proportion to pattern times text, whatever the pattern.

use std::mem;

use super::error::ExpandErrorKind;

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Token>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Literal(char),
    AnyCharacter,
    AnyText,
}

/// Which of several matches to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Shortest,
    Longest,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, ExpandErrorKind> {
        let mut tokens = Vec::with_capacity(text.len());
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            tokens.push(match character {
                '*' => Token::AnyText,
                '?' => Token::AnyCharacter,
                '\\' => match characters.next() {
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Token::Literal(escaped),
                    other => {
                        return Err(ExpandErrorKind::PatternEscape(
                            other.map(String::from).unwrap_or_default(),
                        ));
                    }
                },
                literal => Token::Literal(literal),
            });
        }
        Ok(Self(tokens))
    }

    /// `value` without its beginning that matches.
    pub(super) fn strip_prefix<'v>(&self, value: &'v str, length: Length) -> &'v str {
        match self.match_start(value.chars(), length) {
            Some(count) => skip_characters(value, count),
            None => value,
        }
    }

    /// `value` without its end that matches.
    pub(super) fn strip_suffix<'v>(&self, value: &'v str, length: Length) -> &'v str {
        let reversed = Self(self.0.iter().rev().copied().collect());
        match reversed.match_start(value.chars().rev(), length) {
            Some(count) => {
                let kept = value.chars().count() - count;
                &value[..value.len() - skip_characters(value, kept).len()]
            }
            None => value,
        }
    }

    /// `value` with its first match replaced.
    pub(super) fn replace_first(&self, value: &str, replacement: &str) -> String {
        for (start, _) in value.char_indices().chain([(value.len(), '\0')]) {
            let rest = &value[start..];
            if let Some(count) = self.match_start(rest.chars(), Length::Longest) {
                return [&value[..start], replacement, skip_characters(rest, count)].concat();
            }
        }
        value.to_owned()
    }

    /// `value` with every match replaced. An empty match directly after another is none.
    ///
    /// In `replacement`, `$0` is the matched text, `$$` a dollar, and `$` with any other name
    /// nothing: it is a template of Go's regular expressions in the reference implementation.
    pub(super) fn replace_all(&self, value: &str, replacement: &str) -> String {
        let mut result = String::with_capacity(value.len());
        let mut start = 0;
        let mut after_match = false;
        loop {
            let rest = &value[start..];
            let matched = self.match_start(rest.chars(), Length::Longest);
            let length = matched.map_or(0, |count| rest.len() - skip_characters(rest, count).len());
            if matched.is_some() && !(length == 0 && after_match) {
                expand_template(replacement, &rest[..length], &mut result);
            }
            after_match = length > 0;
            start += length;
            if length == 0 {
                let Some(character) = rest.chars().next() else {
                    return result;
                };
                result.push(character);
                start += character.len_utf8();
            }
        }
    }

    /// How many of the first characters match.
    fn match_start(&self, value: impl Iterator<Item = char>, length: Length) -> Option<usize> {
        // Whether the first `i` tokens match the characters read so far.
        let mut reached = vec![false; self.0.len() + 1];
        let mut next = reached.clone();
        reached[0] = true;
        self.pass_empty_texts(&mut reached);
        let mut found = reached[self.0.len()].then_some(0);
        for (index, character) in value.enumerate() {
            if length == Length::Shortest && found.is_some() {
                break;
            }
            next.fill(false);
            for (i, token) in self.0.iter().enumerate() {
                if reached[i] && token.accepts(character) {
                    next[if *token == Token::AnyText { i } else { i + 1 }] = true;
                }
            }
            self.pass_empty_texts(&mut next);
            mem::swap(&mut reached, &mut next);
            if reached[self.0.len()] {
                found = Some(index + 1);
            } else if !reached.contains(&true) {
                break;
            }
        }
        found
    }

    /// A `*` may match nothing.
    fn pass_empty_texts(&self, reached: &mut [bool]) {
        for (i, token) in self.0.iter().enumerate() {
            if *token == Token::AnyText && reached[i] {
                reached[i + 1] = true;
            }
        }
    }
}

impl Token {
    fn accepts(self, character: char) -> bool {
        match self {
            Self::Literal(literal) => literal == character,
            Self::AnyCharacter | Self::AnyText => character != '\n',
        }
    }
}

fn skip_characters(text: &str, count: usize) -> &str {
    let mut rest = text.chars();
    for _ in 0..count {
        rest.next();
    }
    rest.as_str()
}

/// Appends a template of Go's `Regexp.Expand` for a match without groups.
fn expand_template(template: &str, matched: &str, result: &mut String) {
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let (name, following) = if let Some(after) = after.strip_prefix('$') {
            ("$", after)
        } else if let Some((name, following)) = after
            .strip_prefix('{')
            .and_then(|after| after.split_once('}'))
            && !name.is_empty()
            && name.chars().all(is_name)
        {
            (name, following)
        } else {
            after.split_at(after.find(|c| !is_name(c)).unwrap_or(after.len()))
        };
        match name {
            "$" | "" => result.push('$'),
            "0" => result.push_str(matched),
            _ => {}
        }
        rest = following;
    }
    result.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn beginnings_are_stripped_shortest_or_longest() {
        let strip = |p, v, length| pattern(p).strip_prefix(v, length);
        assert_eq!(strip("*x*y", "xxyy", Length::Shortest), "y");
        assert_eq!(strip("*x", "xxyy", Length::Longest), "yy");
        assert_eq!(strip("*", "xxyy", Length::Shortest), "xxyy");
        assert_eq!(strip("*", "xxyy", Length::Longest), "");
        assert_eq!(strip("?\\?", "???y", Length::Shortest), "?y");
        assert_eq!(strip("", "xxyy", Length::Longest), "xxyy");
        assert_eq!(strip("z", "xxyy", Length::Longest), "xxyy");
    }

    #[test]
    fn ends_are_stripped_shortest_or_longest() {
        let strip = |p, v, length| pattern(p).strip_suffix(v, length);
        assert_eq!(strip("\\**", "xx**", Length::Longest), "xx");
        assert_eq!(strip("\\**\\*", "a***yy*", Length::Longest), "a");
        assert_eq!(strip("x", "xxyy", Length::Shortest), "xxyy");
        assert_eq!(strip("y*", "xxyy", Length::Shortest), "xxy");
        assert_eq!(strip("ö?", "aöü", Length::Shortest), "a");
    }

    #[test]
    fn characters_special_to_regular_expressions_are_plain() {
        let all = pattern("()[]{\\}^$.\\*\\?|\\\\");
        assert_eq!(all.strip_prefix("()[]{}^$.*?|\\x", Length::Shortest), "x");
    }

    #[test]
    fn wildcards_stop_at_a_line_feed() {
        assert_eq!(pattern("*").strip_prefix("a\nb", Length::Longest), "\nb");
        assert_eq!(pattern("a?").strip_prefix("a\nb", Length::Longest), "a\nb");
    }

    #[test]
    fn only_special_characters_may_be_escaped() {
        for text in ["\\", "\\x", "\\\\\\"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn matches_are_replaced() {
        let needle = pattern("\\*/");
        assert_eq!(needle.replace_first("/foo*/*/*.txt", "."), "/foo.*/*.txt");
        assert_eq!(needle.replace_all("/foo*/*/*.txt", "."), "/foo..*.txt");
        assert_eq!(
            pattern("/?/").replace_all("/a/foo/b/c.txt", "/"),
            "/foo/c.txt"
        );
        assert_eq!(pattern("").replace_first("xy", "w"), "wxy");
        assert_eq!(pattern("z").replace_first("xy", "w"), "xy");
    }

    #[test]
    fn empty_matches_lie_between_the_others() {
        // As Go's ReplaceAllString.
        assert_eq!(pattern("").replace_all("xy", "w"), "wxwyw");
        assert_eq!(pattern("*").replace_all("xy", "w"), "w");
        assert_eq!(pattern("*").replace_all("x\ny", "w"), "w\nw");
        assert_eq!(pattern("b*").replace_all("abxb", "w"), "aw");
    }

    #[test]
    fn a_replacement_is_a_template_when_all_are_replaced() {
        assert_eq!(pattern("a").replace_all("ba", "<$0>"), "b<a>");
        assert_eq!(
            pattern("a").replace_all("ba", "$1x$$y${0}${name}$"),
            "b$ya$"
        );
        assert_eq!(pattern("a").replace_first("ba", "$0"), "b$0");
    }

    /// The same by regular expressions, as the reference implementation does it.
    fn regular_expression(text: &str, length: Length) -> String {
        text.chars()
            .map(|c| match (c, length) {
                ('*', Length::Longest) => ".*".to_owned(),
                ('*', Length::Shortest) => ".*?".to_owned(),
                ('?', _) => ".".to_owned(),
                (c, _) => regex::escape(&c.to_string()),
            })
            .collect()
    }

    proptest! {
        #[test]
        fn matches_are_those_of_regular_expressions(
            text in "[ab*?]{0,8}",
            value in "[abö\n]{0,10}",
            longest: bool,
        ) {
            let length = if longest { Length::Longest } else { Length::Shortest };
            let re = regex::Regex::new(&format!("^{}", regular_expression(&text, length))).unwrap();
            let expected = re.find(&value).map_or(value.as_str(), |m| &value[m.end()..]);
            prop_assert_eq!(pattern(&text).strip_prefix(&value, length), expected);
            let re = regex::Regex::new(&regular_expression(&text, Length::Longest)).unwrap();
            let expected = re.replacen(&value, 1, regex::NoExpand("<>"));
            prop_assert_eq!(pattern(&text).replace_first(&value, "<>"), expected);
        }
    }
}
