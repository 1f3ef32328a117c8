//! Which rules are on: `skip=Rule,...;experimental=Rule,...;error=BOOL`.
//!
//! The directive `# check=` at the top of a file says it for the file, unless the build argument
//! `BUILDKIT_DOCKERFILE_CHECK` is given, which takes its place. The same words in a comment above
//! an instruction hold for that instruction, in addition; `error` means nothing there.

use std::collections::BTreeSet;

use super::rule::Rule;
use crate::dockerfile::directive::split;

/// Which rules are on, and what breaking one does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LintConfig {
    /// Rules that are off. Experimental ones are not meant: they are off by themselves.
    skip: RuleSet,
    /// Experimental rules that are on.
    experimental: RuleSet,
    /// Whether a broken rule fails the build.
    pub(super) error: bool,
}

/// Rules by name. Names that are no rule's are no mistake: they may be of a later version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct RuleSet {
    all: bool,
    names: BTreeSet<String>,
}

/// The text is no setting of the linter. The words are BuildKit's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckOptionError {
    /// There is no such setting, or it has no value.
    #[error("invalid check option {0:?}")]
    Invalid(String),
    /// The value of `error` is neither true nor false.
    #[error("failed to parse check option {0:?}: it must be true or false")]
    NotBoolean(String),
}

impl LintConfig {
    /// Reads the settings of a file.
    pub fn parse(text: &str) -> Result<Self, CheckOptionError> {
        let mut config = Self::default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(config);
        }
        // A fourth part would be a rule's name, which there is none of.
        for part in text.splitn(3, ';') {
            let Some((name, value)) = part.split_once('=') else {
                return Err(CheckOptionError::Invalid(part.to_owned()));
            };
            match name.trim() {
                "skip" => config.skip = RuleSet::parse(value),
                "experimental" => config.experimental = RuleSet::parse(value),
                "error" => {
                    config.error = parse_bool(value.trim())
                        .ok_or_else(|| CheckOptionError::NotBoolean(part.to_owned()))?;
                }
                name => return Err(CheckOptionError::Invalid(name.to_owned())),
            }
        }
        Ok(config)
    }

    /// The settings that the comments above an instruction have: those of the first `check=`, up
    /// to the first blank. What cannot be read there means nothing.
    pub(super) fn of_comments(comments: &[String]) -> Option<Self> {
        comments.iter().find_map(|comment| {
            let (name, value) = split(comment)?;
            let settings = value.split(' ').next().unwrap_or_default();
            (name == "check").then(|| Self::parse(settings).unwrap_or_default())
        })
    }

    /// These settings, and those of an instruction.
    pub(super) fn merged(&self, own: &Self) -> Self {
        Self {
            skip: self.skip.merged(&own.skip),
            experimental: self.experimental.merged(&own.experimental),
            error: self.error,
        }
    }

    /// Whether a rule is on.
    pub(super) fn allows(&self, rule: Rule) -> bool {
        if rule.is_experimental() {
            self.experimental.contains(rule)
        } else {
            !self.skip.contains(rule)
        }
    }
}

impl RuleSet {
    fn parse(text: &str) -> Self {
        let text = text.trim();
        if text == "all" {
            return Self {
                all: true,
                names: BTreeSet::new(),
            };
        }
        let names = text.split(',').map(|name| name.trim().to_owned());
        Self {
            all: false,
            names: names.collect(),
        }
    }

    fn merged(&self, other: &Self) -> Self {
        Self {
            all: self.all || other.all,
            names: self.names.union(&other.names).cloned().collect(),
        }
    }

    fn contains(&self, rule: Rule) -> bool {
        self.all || self.names.contains(rule.name())
    }
}

/// The words of Go's `strconv.ParseBool`.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(config: &LintConfig) -> Vec<Rule> {
        let rules = Rule::ALL.into_iter();
        rules.filter(|rule| config.allows(*rule)).collect()
    }

    fn parse(text: &str) -> LintConfig {
        LintConfig::parse(text).unwrap()
    }

    #[test]
    fn all_but_the_experimental_rules_are_on() {
        assert_eq!(allowed(&LintConfig::default()).len(), 20);
        assert_eq!(LintConfig::default(), parse(" "));
    }

    #[test]
    fn rules_are_switched_by_name_or_all_at_once() {
        let config = parse("skip=FromAsCasing, UndefinedVar ;experimental=CopyIgnoredFile;error=1");
        assert!(config.error);
        assert_eq!(allowed(&config).len(), 19);
        assert!(!config.allows(Rule::UndefinedVar) && config.allows(Rule::CopyIgnoredFile));
        assert_eq!(
            allowed(&parse("experimental=all;skip=all")),
            [Rule::CopyIgnoredFile, Rule::InvalidDefinitionDescription]
        );
        // To skip an experimental rule by name means nothing.
        let config = parse("experimental=all;skip=CopyIgnoredFile,NoSuchRule");
        assert_eq!(allowed(&config).len(), 22);
    }

    #[test]
    fn the_last_of_a_setting_counts_within_one_text() {
        let config = parse("skip=UndefinedVar;skip=FromAsCasing");
        assert!(config.allows(Rule::UndefinedVar) && !config.allows(Rule::FromAsCasing));
    }

    #[test]
    fn mistakes_have_the_words_of_the_reference() {
        for (text, message) in [
            ("skip", r#"invalid check option "skip""#),
            ("skip=all;", r#"invalid check option """#),
            ("warn=all", r#"invalid check option "warn""#),
            (
                "error=yes",
                r#"failed to parse check option "error=yes": it must be true or false"#,
            ),
        ] {
            assert_eq!(LintConfig::parse(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn an_instruction_adds_to_the_file() {
        let comments = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        let own = |lines: &[&str]| LintConfig::of_comments(&comments(lines) as &Vec<String>);
        let file = parse("skip=FromAsCasing");
        let merged = file.merged(
            &own(&[
                "why we do so",
                "Check = skip=UndefinedVar;error=true since it is set elsewhere",
                "check=skip=all",
            ])
            .unwrap(),
        );
        assert!(!merged.error);
        assert_eq!(allowed(&merged).len(), 18);
        assert_eq!(own(&["checked by me", "escape=x"]), None);
        // What is wrong is not read, and what comes after it neither.
        assert_eq!(
            own(&["check=nonsense", "check=skip=all"]),
            Some(LintConfig::default())
        );
    }
}
