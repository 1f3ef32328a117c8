//! One path pattern, as `moby/patternmatcher` compiles it.
//!
//! | in the pattern | matches |
//! |---|---|
//! | `*`, `?` | bytes, one character; never `/` |
//! | `**` at the end | anything |
//! | `**`, with a `/` that may follow | nothing, or anything that ends with `/` |
//! | `[a-z]`, `[^a-z]` | one character of the class, or none of it |
//! | `\c` | `c` itself |
//!
//! Three shapes never come to a matcher, and differ from the table in moby too: a pattern without
//! wildcards is compared; `x**` asks whether the path begins with `x`; `**x` asks whether it ends
//! with `x`, also within a name (`**file` matches `myfile`), and `**/x` also matches `x` itself.
//!
//! One difference is meant: moby hands the inside of a class to a regular expression as it is, so
//! that `[*]` or `\d` mean something odd there. Here they are what Go's `filepath.Match` says.

use super::super::wildcard::{CharacterClass, Wildcard, WildcardError, first_character};

/// A pattern that matches paths or takes them back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    takes_back: bool,
    shape: Shape,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathPatternError {
    /// Nothing follows the `!`. (The words are moby's.)
    #[error("illegal exclusion pattern: \"!\"")]
    NothingTakenBack,
    /// Its wildcards are malformed.
    #[error(transparent)]
    Wildcard(#[from] WildcardError),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    Exact(Vec<u8>),
    Prefix(Vec<u8>),
    Suffix(Vec<u8>),
    Glob(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// `?`
    OneCharacter,
    Class(CharacterClass),
    /// `*`
    WithinName,
    /// `**` or `**/` before something: nothing, or anything that ends with `/`.
    Directories,
    /// `**` at the end.
    Anything,
}

impl PathPattern {
    /// Reads a pattern, with its `!` if it has one; `None` if it is blank.
    pub fn parse(pattern: &[u8]) -> Result<Option<Self>, PathPatternError> {
        let trimmed = pattern.trim_ascii();
        if trimmed.is_empty() {
            return Ok(None);
        }
        let cleaned = clean(trimmed);
        let (takes_back, path) = match cleaned.strip_prefix(b"!") {
            Some([]) => return Err(PathPatternError::NothingTakenBack),
            Some(path) => (true, path),
            None => (false, cleaned.as_slice()),
        };
        Wildcard::parse(path)?;
        let shape = Shape::parse(path)?;
        Ok(Some(Self { takes_back, shape }))
    }

    /// Whether it takes paths back rather than matching them.
    pub const fn takes_back(&self) -> bool {
        self.takes_back
    }

    /// Whether it matches this very path; parents are the caller's affair.
    pub fn matches(&self, path: &[u8]) -> bool {
        match &self.shape {
            Shape::Exact(exact) => path == exact,
            Shape::Prefix(prefix) => path.starts_with(prefix),
            Shape::Suffix(suffix) => {
                path.ends_with(suffix) || suffix.strip_prefix(b"/") == Some(path)
            }
            Shape::Glob(tokens) => {
                ends_alike(tokens, path) && Matcher::new(tokens, path).matches_from(0, 0)
            }
        }
    }

    /// Whether it might match something below `directory`; errs towards yes.
    pub fn may_match_below(&self, directory: &[u8]) -> bool {
        let fixed = match &self.shape {
            Shape::Exact(exact) => return below(directory, exact),
            Shape::Prefix(prefix) => prefix.clone(),
            Shape::Suffix(_) => return true,
            Shape::Glob(tokens) => literal_bytes(tokens.iter()).collect(),
        };
        below(directory, &fixed) || directory.starts_with(&fixed) || {
            fixed.strip_prefix(directory) == Some(b"/")
        }
    }
}

impl Shape {
    fn parse(pattern: &[u8]) -> Result<Self, WildcardError> {
        let mut tokens = Vec::with_capacity(pattern.len());
        let mut rest = pattern;
        let mut plain = true;
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            let token = match first {
                b'*' if rest.first() == Some(&b'*') => {
                    let at_start = tokens.is_empty();
                    rest = &rest[1..];
                    rest = rest.strip_prefix(b"/").unwrap_or(rest);
                    match (rest.is_empty(), at_start) {
                        (true, true) => return Ok(Self::Suffix(Vec::new())),
                        (true, false) if plain => {
                            let length = pattern.len() - 2;
                            return Ok(Self::Prefix(pattern[..length].to_vec()));
                        }
                        (true, false) => Token::Anything,
                        (false, true) if is_plain(rest) => {
                            return Ok(Self::Suffix(pattern[2..].to_vec()));
                        }
                        (false, _) => Token::Directories,
                    }
                }
                b'*' => Token::WithinName,
                b'?' => Token::OneCharacter,
                b'[' => Token::Class(CharacterClass::parse(&mut rest)?),
                b'\\' => {
                    let (escaped, after) = rest.split_first().ok_or(WildcardError::Escape)?;
                    rest = after;
                    plain = false;
                    tokens.push(Token::Byte(*escaped));
                    continue;
                }
                byte => {
                    tokens.push(Token::Byte(*byte));
                    continue;
                }
            };
            plain = false;
            tokens.push(token);
        }
        let glob = || Self::Glob(tokens);
        Ok(if plain {
            Self::Exact(pattern.to_vec())
        } else {
            glob()
        })
    }
}

/// Whether a pattern has nothing that must be interpreted.
fn is_plain(pattern: &[u8]) -> bool {
    !pattern
        .iter()
        .any(|byte| matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\'))
}

/// Whether `path` lies below `directory`.
fn below(directory: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.len() > 1 && rest[0] == b'/')
}

fn literal_bytes<'a>(tokens: impl Iterator<Item = &'a Token>) -> impl Iterator<Item = u8> {
    tokens.map_while(|token| match token {
        Token::Byte(byte) => Some(*byte),
        _ => None,
    })
}

/// The quick check that settles nearly all paths: the bytes after the last wildcard.
fn ends_alike(tokens: &[Token], path: &[u8]) -> bool {
    let mut ending = path.iter().rev();
    literal_bytes(tokens.iter().rev()).all(|byte| ending.next() == Some(&byte))
}

/// Tries a pattern on one path. What has failed once is remembered, so that the time is
/// bounded by the product of the lengths, whatever the pattern.
struct Matcher<'a> {
    tokens: &'a [Token],
    path: &'a [u8],
    /// Whether `(token, position)` is known to fail; empty until a first wildcard gives way.
    failed: Vec<bool>,
}

impl<'a> Matcher<'a> {
    const fn new(tokens: &'a [Token], path: &'a [u8]) -> Self {
        let failed = Vec::new();
        Self {
            tokens,
            path,
            failed,
        }
    }

    /// Whether the tokens from `token` on match the path from `position` on. Recursion is as
    /// deep as the pattern has wildcards of varying length.
    fn matches_from(&mut self, mut token: usize, mut position: usize) -> bool {
        loop {
            let rest = &self.path[position..];
            let taken = match self.tokens.get(token) {
                None => return rest.is_empty(),
                Some(Token::Anything) => return true,
                Some(Token::Byte(byte)) => (rest.first() == Some(byte)).then_some(1),
                Some(Token::OneCharacter) => first_character(rest)
                    .filter(|(character, _)| *character != '/')
                    .map(|(_, length)| length),
                Some(Token::Class(class)) => first_character(rest)
                    .filter(|(character, _)| class.contains(*character))
                    .map(|(_, length)| length),
                Some(Token::WithinName) => {
                    let longest = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
                    return (position..=position + longest).any(|end| self.retry(token + 1, end));
                }
                Some(Token::Directories) => {
                    let path = self.path;
                    return self.retry(token + 1, position)
                        || (position..path.len())
                            .filter(|slash| path[*slash] == b'/')
                            .any(|slash| self.retry(token + 1, slash + 1));
                }
            };
            let Some(length) = taken else {
                return false;
            };
            token += 1;
            position += length;
        }
    }

    fn retry(&mut self, token: usize, position: usize) -> bool {
        let width = self.path.len() + 1;
        if self.failed.is_empty() {
            self.failed = vec![false; (self.tokens.len() + 1) * width];
        }
        let slot = token * width + position;
        if self.failed[slot] {
            return false;
        }
        let matched = self.matches_from(token, position);
        self.failed[slot] = !matched;
        matched
    }
}

/// Go's `filepath.Clean` on Unix: the shortest path that is the same as text.
pub fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.starts_with(b"/");
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if names.last().is_some_and(|last| *last != b"..") => {
                names.pop();
            }
            b".." if rooted => {}
            name => names.push(name),
        }
    }
    let joined = names.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/", joined.as_slice()].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    fn pattern(text: &str) -> PathPattern {
        PathPattern::parse(text.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn the_shapes_that_moby_treats_apart() {
        let rows = [
            ("**", "", true),
            ("**file", "myfile", true),
            ("**file", "a/myfile", true),
            ("**/file", "myfile", false),
            ("**/file", "file", true),
            ("**/a.b", "x/a.b", true),
            ("**/a.b", "x/acb", false),
            ("a**", "abc/d", true),
            ("a/**", "a", false),
            ("a/**", "a/b", true),
            ("a?/**", "ab/c/d", true),
            ("x/**/y", "x/y", true),
            ("x/**/y", "x/a/b/y", true),
            ("x/**/y", "x/ay", false),
            ("x**y", "xy", true),
            ("x**y", "xa/y", true),
            ("x**y", "xay", false),
            ("**/*.go", "a/b.go", true),
            ("*.go", "a/b.go", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("[a-c]?", "b\u{263a}", true),
            ("[^/]x", "/x", false),
        ];
        for (text, path, expected) in rows {
            assert_eq!(
                pattern(text).matches(path.as_bytes()),
                expected,
                "{text} on {path}"
            );
        }
    }

    #[test]
    fn cleaning_is_gos() {
        let rows = [
            ("", "."),
            ("a//b/./c/..", "a/b"),
            ("/../a", "/a"),
            ("../a", "../a"),
            ("../../a/..", "../.."),
            ("/", "/"),
            ("a/..", "."),
        ];
        for (path, expected) in rows {
            assert_eq!(
                String::from_utf8(clean(path.as_bytes())).unwrap(),
                expected,
                "{path}"
            );
        }
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        let text = "**/".to_owned() + &"a*".repeat(60) + "b";
        let path = "a/".repeat(200) + &"a".repeat(250) + "c/b";
        assert!(!pattern(&text).matches(path.as_bytes()));
    }

    /// The regular expression that moby would make of a pattern without fast shapes.
    fn as_regex(text: &str) -> Regex {
        let mut regex = String::from("(?s)^");
        let mut rest = text.chars().peekable();
        while let Some(character) = rest.next() {
            match character {
                '*' if rest.next_if_eq(&'*').is_some() => {
                    rest.next_if_eq(&'/');
                    let end = rest.peek().is_none();
                    regex.push_str(if end { ".*" } else { "(.*/)?" });
                }
                '*' => regex.push_str("[^/]*"),
                '?' => regex.push_str("[^/]"),
                other => regex.push_str(&regex::escape(&other.to_string())),
            }
        }
        Regex::new(&(regex + "$")).unwrap()
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_regular_expression(
            // A `?` in front keeps the pattern out of the shapes that moby treats apart.
            text in "\\?[ab*?]{0,5}(/[ab*?]{1,5}){0,3}",
            path in "[ab]{1,4}(/[ab]{1,4}){0,4}",
        ) {
            prop_assert_eq!(
                pattern(&text).matches(path.as_bytes()),
                as_regex(&text).is_match(&path),
                "{} on {}", text, path
            );
        }

        #[test]
        fn what_matches_below_is_not_denied(
            text in "[ab*?]{1,4}(/[ab*?]{1,4}){0,3}",
            path in "[ab]{1,3}(/[ab]{1,3}){1,4}",
        ) {
            let pattern = pattern(&text);
            if pattern.matches(path.as_bytes()) {
                for (slash, _) in path.match_indices('/') {
                    prop_assert!(pattern.may_match_below(&path.as_bytes()[..slash]));
                }
            }
        }
    }
}
