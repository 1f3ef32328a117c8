//! Patterns of claims and names, and the namespaces that are made of what they catch.
//!
//! ```text
//! refs/pull/{pr}/merge     {pr}: one segment, not empty, without `/`
//! {group*}/{project}       {group*}: anything that is not empty
//! spiffe://farm/{_}/cache  {_}: a segment that is not kept
//! ```
//!
//! A pattern has to match all of a text, and in one way only: a text that could be taken apart in
//! two ways does not match, so that whoever can choose a part of it gains nothing from that.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use ashlar_proto::resource_name::is_instance_name;
use serde::{Deserialize, Serialize};

use crate::limits::INSTANCE_NAME;

/// Longer texts match nothing.
const LONGEST: usize = 2048;

/// Longer patterns are refused, so that matching stays cheap.
const LONGEST_PATTERN: usize = 256;

/// The name of what is not kept.
const ANYTHING: &str = "_";

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Capture {
        name: String,
        /// Whether it may have a `/`.
        is_wide: bool,
    },
}

/// What was caught, by name.
pub type Captures = BTreeMap<String, String>;

/// Where a capture ends when it has to be one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Separators {
    /// At `/`.
    Slash,
    /// At `/` and at `.`, as the labels of a DNS name.
    SlashAndDot,
}

impl Separators {
    const fn has(self, byte: u8) -> bool {
        byte == b'/' || (byte == b'.' && matches!(self, Self::SlashAndDot))
    }
}

/// Reads pieces of a pattern or of a template.
fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let shown: String = text.chars().take(60).collect();
    if text.is_empty() || text.len() > LONGEST_PATTERN {
        return Err(format!(
            "the pattern `{shown}` is empty, or longer than {LONGEST_PATTERN} bytes"
        ));
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (literal, braced) = match rest.split_once('{') {
            Some((literal, braced)) => (literal, Some(braced)),
            None => (rest, None),
        };
        if literal.contains(['}', '*']) {
            return Err(format!(
                "the pattern `{shown}` has a `}}` or a `*` that stands alone: write {{name}} for \
                 one segment, and {{name*}} for any text"
            ));
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal.to_owned()));
        }
        let Some(braced) = braced else { break };
        let Some((inner, behind)) = braced.split_once('}') else {
            return Err(format!("the pattern `{shown}` has a `{{` without a `}}`"));
        };
        let (name, is_wide) = match inner.strip_suffix('*') {
            Some(name) => (name, true),
            None => (inner, false),
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(format!(
                "the pattern `{shown}` has a name in braces that is none: names have letters, \
                 digits, `_` and `-`"
            ));
        }
        pieces.push(Piece::Capture {
            name: name.to_owned(),
            is_wide,
        });
        rest = behind;
    }
    Ok(pieces)
}

fn write_pieces(pieces: &[Piece], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for piece in pieces {
        match piece {
            Piece::Literal(text) => f.write_str(text)?,
            Piece::Capture { name, is_wide } => {
                write!(f, "{{{name}{}}}", if *is_wide { "*" } else { "" })?;
            }
        }
    }
    Ok(())
}

/// A pattern of a claim, or of a certificate's name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(Vec<Piece>);

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pieces = pieces(text)?;
        let mut names = Vec::new();
        let mut was_capture = false;
        for piece in &pieces {
            let Piece::Capture { name, .. } = piece else {
                was_capture = false;
                continue;
            };
            if was_capture {
                return Err(format!(
                    "the pattern `{text}` has nothing between two names: nobody could tell where \
                     the first one ends"
                ));
            }
            was_capture = true;
            if name != ANYTHING && names.contains(&name) {
                return Err(format!("the pattern `{text}` has {{{name}}} twice"));
            }
            names.push(name);
        }
        Ok(Self(pieces))
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_pieces(&self.0, f)
    }
}

impl Pattern {
    /// The names that it catches.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Capture { name, .. } if name != ANYTHING => Some(name.as_str()),
            _ => None,
        })
    }

    /// What it catches of a text; `None` if it does not match, or matches in more than one way.
    pub fn captures(&self, text: &str, separators: Separators) -> Option<Captures> {
        if text.len() > LONGEST {
            return None;
        }
        let ways = self.ways(text, separators);
        let mut captures = Captures::new();
        let mut position = 0;
        for (piece, behind) in self.0.iter().zip(ways.iter().skip(1)) {
            match piece {
                Piece::Literal(literal) => position += literal.len(),
                Piece::Capture { name, .. } => {
                    // The way is the only one, so the first end from which it goes on is it.
                    let start = position;
                    let ends = behind.get(start + 1..)?;
                    position = start + 1 + ends.iter().position(|ways| *ways > 0)?;
                    if name != ANYTHING {
                        let caught = text.get(start..position)?;
                        captures.insert(name.clone(), caught.to_owned());
                    }
                }
            }
        }
        // Asked last, so that there is one place that decides.
        (*ways.first()?.first()? == 1).then_some(captures)
    }

    /// In how many ways the pieces from one on match the text from a byte on: 0, 1, or 2 for more.
    /// One row for each piece, and one for the end.
    fn ways(&self, text: &str, separators: Separators) -> Vec<Vec<u8>> {
        let bytes = text.as_bytes();
        let mut end = vec![0; bytes.len() + 1];
        if let Some(last) = end.last_mut() {
            *last = 1;
        }
        let mut rows = vec![end];
        for piece in self.0.iter().rev() {
            let behind = rows.last().map_or(&[][..], Vec::as_slice);
            let at = |position: usize| behind.get(position).copied().unwrap_or(0);
            let mut row = vec![0_u8; bytes.len() + 1];
            match piece {
                Piece::Literal(literal) => {
                    for (position, ways) in row.iter_mut().enumerate() {
                        let rest = bytes.get(position..).unwrap_or_default();
                        if rest.starts_with(literal.as_bytes()) {
                            *ways = at(position + literal.len());
                        }
                    }
                }
                Piece::Capture { is_wide, .. } => {
                    // One byte more, and either the end of the capture or still more of it.
                    let mut longer = 0_u8;
                    for (position, byte) in bytes.iter().enumerate().rev() {
                        longer = if !is_wide && separators.has(*byte) {
                            0
                        } else {
                            longer.saturating_add(at(position + 1)).min(2)
                        };
                        if let Some(ways) = row.get_mut(position) {
                            *ways = longer;
                        }
                    }
                }
            }
            rows.push(row);
        }
        rows.reverse();
        rows
    }
}

/// A namespace with names in braces in place of some of its parts; empty for all namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template(Vec<Piece>);

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let pieces = pieces(text)?;
        let wide = |piece: &Piece| matches!(piece, Piece::Capture { is_wide: true, .. });
        if pieces.iter().any(wide) {
            return Err(format!(
                "the namespace `{text}` has a `*`: that belongs to the pattern that the name is \
                 caught by"
            ));
        }
        let template = Self(pieces);
        // With something valid in each place, what comes out has to be valid.
        let names = template.names().map(|name| (name.to_owned(), "x".into()));
        let sample = names.collect();
        if template.fill(&sample).is_none() {
            return Err(format!(
                "`{text}` is no namespace: it has an empty segment, or one that is a keyword of \
                 the Remote Execution API, such as blobs"
            ));
        }
        Ok(template)
    }
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.to_string()
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_pieces(&self.0, f)
    }
}

impl Template {
    /// The names that have to be caught.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Capture { name, .. } => Some(name.as_str()),
            Piece::Literal(_) => None,
        })
    }

    /// The namespace that comes out; `None` if it is none.
    pub fn fill(&self, captures: &Captures) -> Option<String> {
        let mut namespace = String::new();
        for piece in &self.0 {
            namespace.push_str(match piece {
                Piece::Literal(text) => text,
                Piece::Capture { name, .. } => captures.get(name)?,
            });
        }
        // An empty name is a grant for everything, which only an empty template may give.
        let is_meant = !namespace.is_empty() || self.0.is_empty();
        (is_meant && is_namespace(&namespace)).then_some(namespace)
    }
}

/// Whether rights can be given in a namespace. Stricter than what instance names are: nothing that
/// looks like another namespace to people or to stores.
pub fn is_namespace(name: &str) -> bool {
    let is_plain =
        |segment: &str| segment != "." && segment != ".." && !segment.contains(char::is_control);
    name.len() <= INSTANCE_NAME && is_instance_name(name) && name.split('/').all(is_plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn caught(pattern: &str, text: &str) -> Option<Vec<(String, String)>> {
        let pattern: Pattern = pattern.parse().expect(pattern);
        let captures = pattern.captures(text, Separators::Slash)?;
        Some(captures.into_iter().collect())
    }

    fn pairs(pairs: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Some(pairs.iter().map(owned).collect())
    }

    #[test]
    fn a_name_catches_one_segment() {
        assert_eq!(
            caught("refs/pull/{pr}/merge", "refs/pull/17/merge"),
            pairs(&[("pr", "17")])
        );
        assert_eq!(
            caught("{org}/{repo}", "acme/app"),
            pairs(&[("org", "acme"), ("repo", "app")])
        );
        for text in [
            "refs/pull//merge",
            "refs/pull/1/2/merge",
            "refs/pull/17/merge/more",
            "xrefs/pull/17/merge",
            "refs/pull/17/head",
            "",
        ] {
            assert_eq!(caught("refs/pull/{pr}/merge", text), None, "{text}");
        }
    }

    #[test]
    fn a_name_with_a_star_catches_anything() {
        assert_eq!(
            caught("refs/heads/{branch*}", "refs/heads/feature/x"),
            pairs(&[("branch", "feature/x")])
        );
        assert_eq!(
            caught("{group*}/{project}", "a/b/c"),
            pairs(&[("group", "a/b"), ("project", "c")])
        );
        assert_eq!(caught("refs/heads/{branch*}", "refs/heads/"), None);
    }

    #[test]
    fn what_is_not_named_is_not_kept() {
        assert_eq!(caught("{_}/{_}/{x}", "a/b/c"), pairs(&[("x", "c")]));
    }

    #[test]
    fn what_can_be_taken_apart_in_two_ways_does_not_match() {
        assert_eq!(caught("{a}-{b}", "x-y"), pairs(&[("a", "x"), ("b", "y")]));
        assert_eq!(caught("{a}-{b}", "x-y-z"), None);
        assert_eq!(caught("repo:{repo*}:{rest*}", "repo:a/b:c:d"), None);
        assert_eq!(
            caught(
                "repo:{org}/{repo}:ref:{ref*}",
                "repo:a/b:ref:refs/heads/:ref:x"
            ),
            pairs(&[("org", "a"), ("ref", "refs/heads/:ref:x"), ("repo", "b")])
        );
    }

    #[test]
    fn names_of_hosts_end_at_dots_too() {
        let pattern: Pattern = "builder-{n}.example".parse().expect("a pattern");
        let matches = |text| pattern.captures(text, Separators::SlashAndDot).is_some();
        assert!(matches("builder-7.example"));
        assert!(!matches("builder-7.evil.example"));
    }

    #[test]
    fn patterns_that_nobody_can_mean_are_refused() {
        for (text, why) in [
            ("", "is empty"),
            ("refs/*", "write {name} for one segment"),
            ("a}", "stands alone"),
            ("{a", "without a `}`"),
            ("{}", "is none"),
            ("{a b}", "is none"),
            ("{*}", "is none"),
            ("{a}{b}", "nothing between"),
            ("{a}/{a}", "twice"),
        ] {
            let error = text.parse::<Pattern>().expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
        for text in ["a//b", "/a", "a/", "blobs", "a/uploads/{x}", "{x*}", "../a"] {
            text.parse::<Template>().expect_err(text);
        }
    }

    #[test]
    fn patterns_are_written_as_they_were_read() {
        for text in ["{org}/{repo*}", "a", "x{_}y"] {
            assert_eq!(text.parse::<Pattern>().expect(text).to_string(), text);
        }
        assert_eq!("".parse::<Template>().expect("all").to_string(), "");
    }

    #[test]
    fn a_namespace_is_made_of_what_was_caught() {
        let fill = |template: &str, value: &str| {
            let template: Template = template.parse().expect(template);
            template.fill(&Captures::from([("x".to_owned(), value.to_owned())]))
        };
        assert_eq!(fill("a/{x}/pr", "b"), Some("a/b/pr".to_owned()));
        assert_eq!(fill("{x}", "a/b"), Some("a/b".to_owned()));
        assert_eq!(fill("", "b"), Some(String::new()), "all");
        for value in [
            "",
            "/",
            "a/",
            "..",
            "a/../b",
            "blobs",
            "a\nb",
            &"x".repeat(300),
        ] {
            assert_eq!(fill("{x}", value), None, "{value:?}");
            assert_eq!(fill("a/{x}", value), None, "{value:?}");
        }
        assert_eq!(fill("a/{y}", "b"), None, "nothing was caught by that name");
    }

    #[test]
    fn long_texts_match_nothing_and_cost_little() {
        let pattern: Pattern = "{a*}-{b*}-{c*}-{d*}-{e*}-{f*}".parse().expect("a pattern");
        assert_eq!(pattern.captures(&"-".repeat(2048), Separators::Slash), None);
        assert_eq!(
            pattern.captures(&"-".repeat(1 << 20), Separators::Slash),
            None
        );
    }

    /// All ways in which a pattern matches, found by trying them all.
    fn all_ways(pieces: &[Piece], text: &str) -> usize {
        let Some((first, rest)) = pieces.split_first() else {
            return usize::from(text.is_empty());
        };
        match first {
            Piece::Literal(literal) => text
                .strip_prefix(literal.as_str())
                .map_or(0, |text| all_ways(rest, text)),
            Piece::Capture { is_wide, .. } => (1..=text.len())
                .filter(|end| text.is_char_boundary(*end))
                .filter(|end| *is_wide || !text[..*end].contains('/'))
                .map(|end| all_ways(rest, &text[end..]))
                .sum(),
        }
    }

    fn any_pattern() -> impl Strategy<Value = Pattern> {
        let piece = prop_oneof!["[a/:-]{1,3}", Just("{w*}".to_owned()), "\\{[a-d]\\}"];
        proptest::collection::vec(piece, 1..6)
            .prop_filter_map("no pattern", |pieces| pieces.concat().parse().ok())
    }

    proptest! {
        #[test]
        fn no_capture_of_one_segment_crosses_a_slash(
            pattern in any_pattern(),
            text in "[a/:é-]{0,12}",
        ) {
            let captures = pattern.captures(&text, Separators::Slash);
            prop_assert_eq!(captures.is_some(), all_ways(&pattern.0, &text) == 1);
            for (name, value) in captures.iter().flatten() {
                prop_assert!(!value.is_empty());
                prop_assert!(name == "w" || !value.contains('/'), "{name} = {value}");
                prop_assert!(text.contains(value));
            }
        }

        #[test]
        fn what_comes_out_is_a_namespace_or_nothing(
            template in "([a{}/b]|\\{[xy]\\}){0,8}",
            x in "\\PC{0,8}|[a/.]{0,6}|blobs",
            y in "[a/.\u{0}\n]{0,6}|uploads|operations",
        ) {
            let Ok(template) = template.parse::<Template>() else { return Ok(()) };
            let captures = Captures::from([("x".to_owned(), x), ("y".to_owned(), y)]);
            if let Some(namespace) = template.fill(&captures) {
                prop_assert!(is_instance_name(&namespace) && namespace.len() <= 255);
                prop_assert!(!namespace.is_empty() || template.to_string().is_empty());
                prop_assert!(!namespace.contains('\n') && !namespace.contains('\0'));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}|[{}*a/]{0,12}") {
            if let Ok(pattern) = text.parse::<Pattern>() {
                prop_assert_eq!(pattern.to_string(), text);
            }
        }
    }
}
