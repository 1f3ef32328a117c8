//! Wildcards in one name of a path, exactly as Go's `path/filepath.Match` reads them on Unix.
//!
//! | pattern | matches |
//! |---|---|
//! | `*` | any bytes, also none |
//! | `?` | one character (one byte where the name is not UTF-8) |
//! | `[a-z_]`, `[^a-z]` | one character of the class, or none of it; never empty |
//! | `\c` | `c` itself, also inside a class |
//! | anything else | itself, byte for byte |
//!
//! A name has no `/`, so nothing here speaks of one.

use std::str;

/// A pattern for one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wildcard {
    tokens: Vec<Token>,
}

/// Why bytes are not a [`Wildcard`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WildcardError {
    /// A `[` has no `]`, or its class is empty or ends in the middle of a range.
    #[error("syntax error in pattern: unfinished or empty character class")]
    Class,
    /// The pattern ends with the `\` that should escape a character.
    #[error("syntax error in pattern: nothing follows the last `\\`")]
    Escape,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    OneCharacter,
    AnyBytes,
    Class(CharacterClass),
}

/// A set of characters: `[a-z_]` or, negated, `[^a-z_]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CharacterClass {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Wildcard {
    /// Whether a name, read as a pattern, has any wildcard that is not escaped.
    pub fn is_needed(name: &[u8]) -> bool {
        let mut bytes = name.iter();
        while let Some(byte) = bytes.next() {
            match byte {
                b'*' | b'?' | b'[' => return true,
                b'\\' => {
                    bytes.next();
                }
                _ => {}
            }
        }
        false
    }

    /// Reads a pattern; all of it is checked, whatever it will be matched against.
    pub fn parse(pattern: &[u8]) -> Result<Self, WildcardError> {
        let mut tokens = Vec::with_capacity(pattern.len());
        let mut rest = pattern;
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            match first {
                b'*' => {
                    if tokens.last() != Some(&Token::AnyBytes) {
                        tokens.push(Token::AnyBytes);
                    }
                }
                b'?' => tokens.push(Token::OneCharacter),
                b'[' => tokens.push(Token::Class(CharacterClass::parse(&mut rest)?)),
                b'\\' => {
                    let (escaped, after) = rest.split_first().ok_or(WildcardError::Escape)?;
                    tokens.push(Token::Byte(*escaped));
                    rest = after;
                }
                byte => tokens.push(Token::Byte(*byte)),
            }
        }
        Ok(Self { tokens })
    }

    /// The one name that matches, if there is only one.
    pub fn literal(&self) -> Option<Vec<u8>> {
        self.tokens
            .iter()
            .map(|token| match token {
                Token::Byte(byte) => Some(*byte),
                _ => None,
            })
            .collect()
    }

    /// Whether all of `name` matches.
    pub fn matches(&self, name: &[u8]) -> bool {
        // Only the last `*` ever needs to give way: whatever an earlier one could take, it can.
        let mut resume: Option<(usize, usize)> = None;
        let (mut token, mut position) = (0, 0);
        loop {
            let step = match self.tokens.get(token) {
                None if position == name.len() => return true,
                None => None,
                Some(Token::AnyBytes) => {
                    resume = Some((token + 1, position));
                    token += 1;
                    continue;
                }
                Some(other) => other.take(&name[position..]),
            };
            match (step, &mut resume) {
                (Some(length), _) => {
                    token += 1;
                    position += length;
                }
                (None, Some((after_star, start))) if *start < name.len() => {
                    *start += 1;
                    (token, position) = (*after_star, *start);
                }
                _ => return false,
            }
        }
    }
}

impl Token {
    /// How many bytes of `rest` this token takes; `None` if it does not match.
    fn take(&self, rest: &[u8]) -> Option<usize> {
        match self {
            Self::Byte(byte) => (rest.first() == Some(byte)).then_some(1),
            Self::OneCharacter => first_character(rest).map(|(_, length)| length),
            Self::Class(class) => {
                let (character, length) = first_character(rest)?;
                class.contains(character).then_some(length)
            }
            Self::AnyBytes => None,
        }
    }
}

impl CharacterClass {
    /// Reads a class after its `[`, up to and with its `]`, and moves `rest` behind it.
    pub fn parse(rest: &mut &[u8]) -> Result<Self, WildcardError> {
        let negated = rest.first() == Some(&b'^');
        if negated {
            *rest = &rest[1..];
        }
        let mut ranges = Vec::new();
        loop {
            if rest.first() == Some(&b']') && !ranges.is_empty() {
                *rest = &rest[1..];
                return Ok(Self { negated, ranges });
            }
            let low = parse_class_character(rest)?;
            let high = if rest.first() == Some(&b'-') {
                *rest = &rest[1..];
                parse_class_character(rest)?
            } else {
                low
            };
            ranges.push((low, high));
        }
    }

    /// Whether a character is of this class.
    pub fn contains(&self, character: char) -> bool {
        let mut ranges = self.ranges.iter();
        let within = ranges.any(|(low, high)| (*low..=*high).contains(&character));
        within != self.negated
    }
}

/// Reads one character of a class; something must follow it.
fn parse_class_character(rest: &mut &[u8]) -> Result<char, WildcardError> {
    if matches!(rest.first(), None | Some(b'-' | b']')) {
        return Err(WildcardError::Class);
    }
    if rest.first() == Some(&b'\\') {
        *rest = &rest[1..];
    }
    match first_character(rest) {
        Some((char::REPLACEMENT_CHARACTER, 1)) | None => Err(WildcardError::Class),
        Some((_, length)) if length == rest.len() => Err(WildcardError::Class),
        Some((character, length)) => {
            *rest = &rest[length..];
            Ok(character)
        }
    }
}

/// The first character and its length; bytes that are no UTF-8 count as U+FFFD, one each.
pub fn first_character(bytes: &[u8]) -> Option<(char, usize)> {
    let window = &bytes[..bytes.len().min(4)];
    let valid = match str::from_utf8(window) {
        Ok(text) => text,
        Err(error) => str::from_utf8(&window[..error.valid_up_to()]).unwrap_or_default(),
    };
    match valid.chars().next() {
        Some(character) => Some((character, character.len_utf8())),
        None if bytes.is_empty() => None,
        None => Some((char::REPLACEMENT_CHARACTER, 1)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Rows of Go's own `TestMatch` that have no separator: pattern, name, whether it matches
    /// (`None`: bad pattern).
    const GO_ROWS: &[(&str, &str, Option<bool>)] = &[
        ("abc", "abc", Some(true)),
        ("*", "abc", Some(true)),
        ("*c", "abc", Some(true)),
        ("a*", "a", Some(true)),
        ("a*", "abc", Some(true)),
        ("a*b*c*d*e*", "axbxcxdxe", Some(true)),
        ("a*b*c*d*e*", "axbxcxdxexxx", Some(true)),
        ("a*b?c*x", "abxbbxdbxebxczzx", Some(true)),
        ("a*b?c*x", "abxbbxdbxebxczzy", Some(false)),
        ("ab[c]", "abc", Some(true)),
        ("ab[b-d]", "abc", Some(true)),
        ("ab[e-g]", "abc", Some(false)),
        ("ab[^c]", "abc", Some(false)),
        ("ab[^b-d]", "abc", Some(false)),
        ("ab[^e-g]", "abc", Some(true)),
        ("a\\*b", "a*b", Some(true)),
        ("a\\*b", "ab", Some(false)),
        ("a?b", "a\u{263a}b", Some(true)),
        ("a[^a]b", "a\u{263a}b", Some(true)),
        ("a???b", "a\u{263a}b", Some(false)),
        ("a[^a][^a][^a]b", "a\u{263a}b", Some(false)),
        ("[a-\u{3b6}]*", "\u{3b1}", Some(true)),
        ("*[a-\u{3b6}]", "A", Some(false)),
        ("[\\]a]", "]", Some(true)),
        ("[\\-]", "-", Some(true)),
        ("[x\\-]", "x", Some(true)),
        ("[x\\-]", "-", Some(true)),
        ("[x\\-]", "z", Some(false)),
        ("[\\-x]", "x", Some(true)),
        ("[\\-x]", "a", Some(false)),
        ("[]a]", "]", None),
        ("[-]", "-", None),
        ("[x-]", "x", None),
        ("[x-]", "z", None),
        ("[-x]", "x", None),
        ("\\", "a", None),
        ("[a-b-c]", "a", None),
        ("[", "a", None),
        ("[^", "a", None),
        ("[^bc", "a", None),
        ("a[", "a", None),
        ("a[", "ab", None),
        ("a[", "x", None),
        ("*x", "xxx", Some(true)),
    ];

    #[test]
    fn every_row_of_gos_own_test_holds() {
        for (pattern, name, expected) in GO_ROWS {
            let found = Wildcard::parse(pattern.as_bytes())
                .ok()
                .map(|wildcard| wildcard.matches(name.as_bytes()));
            assert_eq!(found, *expected, "{pattern} against {name}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_one_character_each() {
        let wildcard = Wildcard::parse(b"a?b").unwrap();
        assert!(wildcard.matches(b"a\xffb"));
        assert!(!wildcard.matches(b"a\xff\xfeb"));
        assert_eq!(Wildcard::parse(b"a[\xff]"), Err(WildcardError::Class));
    }

    #[test]
    fn escaped_wildcards_need_no_matching() {
        assert!(!Wildcard::is_needed(b"a\\*b\\[c"));
        assert!(Wildcard::is_needed(b"a\\\\*b"));
        assert_eq!(
            Wildcard::parse(b"a\\*b").unwrap().literal(),
            Some(b"a*b".to_vec())
        );
        assert_eq!(Wildcard::parse(b"a*b").unwrap().literal(), None);
    }

    /// The obvious way, slow but plainly right.
    fn matches_slowly(tokens: &[Token], name: &[u8]) -> bool {
        match tokens.split_first() {
            None => name.is_empty(),
            Some((Token::AnyBytes, rest)) => {
                (0..=name.len()).any(|skip| matches_slowly(rest, &name[skip..]))
            }
            Some((token, rest)) => token
                .take(name)
                .is_some_and(|length| matches_slowly(rest, &name[length..])),
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_obvious_way(
            pattern in "[ab*?\\[\\]\\\\^é-]{0,10}",
            name in "[abé-]{0,10}",
        ) {
            if let Ok(wildcard) = Wildcard::parse(pattern.as_bytes()) {
                prop_assert_eq!(
                    wildcard.matches(name.as_bytes()),
                    matches_slowly(&wildcard.tokens, name.as_bytes())
                );
            }
        }

        #[test]
        fn no_bytes_panic(pattern: Vec<u8>, name: Vec<u8>) {
            if let Ok(wildcard) = Wildcard::parse(&pattern) {
                let _ = wildcard.matches(&name);
            }
        }

        #[test]
        fn an_escaped_name_matches_only_itself(name in "[^\u{0}/]{1,8}", other in "[^\u{0}/]{1,8}") {
            let escaped: Vec<u8> = name.bytes().flat_map(|byte| [b'\\', byte]).collect();
            let wildcard = Wildcard::parse(&escaped).unwrap();
            prop_assert!(wildcard.matches(name.as_bytes()));
            prop_assert_eq!(wildcard.matches(other.as_bytes()), name == other);
        }
    }
}
