//! Patterns of namespaces, and names that are made of what their stars stand for.

use std::fmt;
use std::str::FromStr;

use ashlar_proto::resource_name::is_instance_name;

/// A pattern: segments, of which `*` stands for any one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    /// `None` for a star.
    segments: Vec<Option<String>>,
}

/// How a pattern fits a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<'n> {
    /// The part of the name that the pattern has.
    pub beginning: &'n str,
    /// What its stars stand for.
    pub stars: Vec<&'n str>,
}

/// What is no pattern, or no name made by one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The pattern is not like a name.
    #[error(
        "`{0}` is no pattern of namespaces: it has segments as instance names have, of which `*` \
         stands for any one, such as acme/*/pr/*"
    )]
    Pattern(String),
    /// The name that is made is none.
    #[error("`{0}` makes no instance name: write one such as acme/{{1}}/main")]
    Template(String),
    /// There is no such star.
    #[error("`{template}` has {{{number}}}, but `{pattern}` has {stars} stars")]
    NoStar {
        /// What has it.
        template: String,
        /// Which star it wants.
        number: usize,
        /// The pattern.
        pattern: String,
        /// How many it has.
        stars: usize,
    },
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let wrong = || PatternError::Pattern(text.to_owned());
        let mut segments = Vec::new();
        for segment in text.split('/') {
            segments.push(match segment {
                "*" => None,
                segment if segment.contains(['*', '{', '}']) => return Err(wrong()),
                segment => Some(segment.to_owned()),
            });
        }
        if text.is_empty() || !is_instance_name(&text.replace('*', "any")) {
            return Err(wrong());
        }
        Ok(Self {
            text: text.to_owned(),
            segments,
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Pattern {
    /// How many stars it has.
    pub fn stars(&self) -> usize {
        self.segments.iter().filter(|part| part.is_none()).count()
    }

    /// Whether it fits every name that another one fits.
    pub fn has_all_of(&self, other: &Self) -> bool {
        let pairs = self.segments.iter().zip(&other.segments);
        self.segments.len() <= other.segments.len()
            && pairs
                .into_iter()
                .all(|(own, theirs)| own.is_none() || own == theirs)
    }

    /// How it fits a name or the beginning of one; `None` if it does not.
    pub fn find<'n>(&self, name: &'n str) -> Option<Found<'n>> {
        let mut stars = Vec::new();
        let mut rest = Some(name).filter(|name| !name.is_empty());
        let mut length = 0;
        for (index, wanted) in self.segments.iter().enumerate() {
            let (segment, next) = match rest?.split_once('/') {
                Some((segment, next)) => (segment, Some(next)),
                None => (rest?, None),
            };
            match wanted {
                None => stars.push(segment),
                Some(wanted) if wanted == segment => {}
                Some(_) => return None,
            }
            length += segment.len() + usize::from(index > 0);
            rest = next;
        }
        Some(Found {
            beginning: name.get(..length)?,
            stars,
        })
    }
}

/// A name with `{1}` where the first star's segment comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// A star, counted from 0.
    Star(usize),
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Template {
    /// A template over the stars of a pattern.
    pub fn new(text: &str, pattern: &Pattern) -> Result<Self, PatternError> {
        let wrong = || PatternError::Template(text.to_owned());
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (number, after) = after.split_once('}').ok_or_else(wrong)?;
            let number: usize = number.parse().map_err(|_| wrong())?;
            let star = number.checked_sub(1).ok_or_else(wrong)?;
            if star >= pattern.stars() {
                return Err(PatternError::NoStar {
                    template: text.to_owned(),
                    number,
                    pattern: pattern.text.clone(),
                    stars: pattern.stars(),
                });
            }
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Star(star));
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        let template = Self {
            text: text.to_owned(),
            parts,
        };
        let example = template.fill(&vec!["any"; pattern.stars()]);
        if example.contains(['*', '{', '}']) || !is_instance_name(&example) {
            return Err(wrong());
        }
        Ok(template)
    }

    /// The name, with the stars' segments in it.
    pub fn fill(&self, stars: &[&str]) -> String {
        let parts = self.parts.iter();
        let parts = parts.map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Star(star) => stars.get(*star).copied().unwrap_or_default(),
        });
        parts.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_the_beginning_of_names() {
        let pattern: Pattern = "acme/*/pr/*".parse().expect("a pattern");
        let found = pattern.find("acme/web/pr/17/linux").expect("a fit");
        assert_eq!(found.beginning, "acme/web/pr/17");
        assert_eq!(found.stars, ["web", "17"]);
        assert_eq!(
            pattern
                .find("acme/web/pr/17")
                .map(|found| found.stars.len()),
            Some(2)
        );
        for other in [
            "",
            "acme",
            "acme/web/pr",
            "acme/web/main/17",
            "acmeweb/x/pr/1",
        ] {
            assert_eq!(pattern.find(other), None, "{other}");
        }
        let top: Pattern = "*".parse().expect("a pattern");
        assert_eq!(top.find(""), None);
        assert_eq!(top.find("a/b").map(|found| found.beginning), Some("a"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            "/",
            "a//b",
            "a/",
            "a/b*",
            "a/**",
            "a/{1}",
            "a/blobs",
            "operations",
        ] {
            assert_eq!(
                text.parse::<Pattern>(),
                Err(PatternError::Pattern(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn templates_name_the_stars_that_there_are() {
        let pattern: Pattern = "acme/*/pr/*".parse().expect("a pattern");
        let template = Template::new("x/{2}/v-{1}", &pattern).expect("a template");
        assert_eq!(template.fill(&["web", "17"]), "x/17/v-web");
        for text in [
            "a/{3}",
            "a/{0}",
            "a/{x}",
            "a/{1",
            "a//b",
            "a/*",
            "a}",
            "a/uploads",
        ] {
            Template::new(text, &pattern).expect_err(text);
        }
        assert_eq!(
            Template::new("a/{3}", &pattern)
                .expect_err("refused")
                .to_string(),
            "`a/{3}` has {3}, but `acme/*/pr/*` has 2 stars"
        );
    }
}
