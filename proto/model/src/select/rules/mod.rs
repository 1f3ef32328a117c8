//! Ordered path patterns, as `moby/patternmatcher` has them: `.dockerignore`, `--exclude` and
//! `--parents`.
//!
//! - The last pattern that matches decides; `!` in front of a pattern takes paths back.
//! - A pattern that matches a directory matches all below it. So a walk hands each directory's
//!   [`Matches`] down to what it contains.
//! - A pattern is not even tried where it could not change the verdict so far. This shows where a
//!   directory's verdict is inherited: a pattern that was not tried on the directory has not
//!   matched it.
//!
//! | module | subject |
//! |---|---|
//! | [`pattern`] | one pattern |

pub mod pattern;

pub use pattern::{PathPattern, PathPatternError};

/// Ordered patterns that match paths, or take them back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PathRules {
    patterns: Vec<PathPattern>,
}

/// Which of the patterns have matched a directory or one of its parents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matches(Box<[bool]>);

impl PathRules {
    /// Rules from patterns in order; blank ones say nothing.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, PathPatternError> {
        let patterns = patterns.into_iter();
        patterns
            .filter_map(|pattern| PathPattern::parse(pattern).transpose())
            .collect()
    }

    /// Whether there are no patterns, so that nothing matches.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// What is known about the root that paths are relative to: nothing has matched it.
    pub fn root(&self) -> Matches {
        Matches(vec![false; self.patterns.len()].into())
    }

    /// Whether the path `path`, in a directory with the given matches, is matched.
    pub fn is_match(&self, path: &[u8], parent: &Matches) -> bool {
        self.judge(path, parent, |_| {})
    }

    /// As [`Self::is_match`], and what to hand down to all in the directory `path`.
    pub fn judge_directory(&self, path: &[u8], parent: &Matches) -> (bool, Matches) {
        let mut matches = self.root();
        let matched = self.judge(path, parent, |index| matches.0[index] = true);
        (matched, matches)
    }

    /// Whether something below a directory that is matched might be taken back.
    pub fn may_take_back_below(&self, directory: &[u8]) -> bool {
        let mut patterns = self.patterns.iter();
        patterns.any(|pattern| pattern.takes_back() && pattern.may_match_below(directory))
    }

    /// Whether something below a directory that is not matched might be.
    pub fn may_match_below(&self, directory: &[u8]) -> bool {
        let mut patterns = self.patterns.iter();
        patterns.any(|pattern| !pattern.takes_back() && pattern.may_match_below(directory))
    }

    /// The source of a copy, cleaned, if it is matched for certain, whatever there is on disk:
    /// nothing takes anything back, and a pattern matches the source as it is written, or a
    /// directory above it. The root itself is matched only by a pattern for all there is.
    ///
    /// This is moby's `MatchesOrParentMatches`, behind the conditions that BuildKit's linter puts
    /// before it.
    pub fn match_for_certain(&self, source: &[u8]) -> Option<Vec<u8>> {
        if self.patterns.iter().any(PathPattern::takes_back) {
            return None;
        }
        let source = pattern::clean(source);
        let matched = if source == b"." || source == b"/" {
            let all = [&b"*"[..], b"**", b"**/*"].map(PathPattern::parse);
            self.patterns.iter().any(|pattern| {
                all.iter()
                    .any(|one| one.as_ref().ok() == Some(&Some(pattern.clone())))
            })
        } else {
            let parents = source
                .iter()
                .enumerate()
                .filter(|(_, byte)| **byte == b'/')
                .map(|(slash, _)| &source[..slash]);
            let paths: Vec<&[u8]> = parents.chain([source.as_slice()]).collect();
            self.patterns
                .iter()
                .any(|pattern| paths.iter().any(|path| pattern.matches(path)))
        };
        matched.then_some(source)
    }

    fn judge(&self, path: &[u8], parent: &Matches, mut note: impl FnMut(usize)) -> bool {
        let mut matched = false;
        for (index, (pattern, inherited)) in self.patterns.iter().zip(&parent.0).enumerate() {
            let decides = *inherited || (pattern.takes_back() == matched && pattern.matches(path));
            if decides {
                note(index);
                matched = !pattern.takes_back();
            }
        }
        matched
    }
}

impl FromIterator<PathPattern> for PathRules {
    fn from_iter<I: IntoIterator<Item = PathPattern>>(patterns: I) -> Self {
        let patterns = patterns.into_iter().collect();
        Self { patterns }
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Row {
        patterns: Vec<String>,
        path: String,
        ignored: Option<bool>,
        #[serde(default)]
        error: bool,
    }

    /// The shared test data; lies beside the repository unless the environment says otherwise.
    fn corpus() -> PathBuf {
        match option_env!("ASHLAR_CORPORA") {
            Some(path) => PathBuf::from(path),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora"),
        }
    }

    fn decide(rules: &PathRules, path: &str) -> bool {
        let path = path.trim_matches('/');
        let mut matches = rules.root();
        for (slash, _) in path.match_indices('/') {
            matches = rules.judge_directory(&path.as_bytes()[..slash], &matches).1;
        }
        rules.is_match(path.as_bytes(), &matches)
    }

    fn rules(patterns: &[&str]) -> PathRules {
        PathRules::new(patterns.iter().map(|pattern| pattern.as_bytes())).unwrap()
    }

    #[test]
    fn every_decision_of_the_corpus_is_made_alike() {
        let file = corpus().join("dockerignore/match.json");
        let Ok(text) = std::fs::read(&file) else {
            println!("skipped: {} is absent; set ASHLAR_CORPORA", file.display());
            return;
        };
        let rows: Vec<Row> = serde_json::from_slice(&text).unwrap();
        assert_eq!(rows.len(), 79);
        for row in rows {
            let rules = PathRules::new(row.patterns.iter().map(String::as_bytes));
            let decision = rules.ok().map(|rules| decide(&rules, &row.path));
            let expected = row.ignored.filter(|_| !row.error);
            assert_eq!(decision, expected, "{:?} on {}", row.patterns, row.path);
        }
    }

    #[test]
    fn the_last_match_decides() {
        let rules = rules(&["*", "!keep", "keep/secret"]);
        assert!(decide(&rules, "other"));
        assert!(!decide(&rules, "keep"));
        assert!(!decide(&rules, "keep/file"));
        assert!(decide(&rules, "keep/secret"));
    }

    #[test]
    fn a_source_is_matched_for_certain() {
        let matched = |patterns: &[&str], source: &str| {
            let found = rules(patterns).match_for_certain(source.as_bytes());
            found.map(|path| String::from_utf8(path).unwrap())
        };
        for (patterns, source, expected) in [
            (&["Dockerfile"][..], "./Dockerfile", Some("Dockerfile")),
            (&["src"], "src/deep//file", Some("src/deep/file")),
            (&["*.log"], "*.log", Some("*.log")),
            (&["src"], "source", None),
            (&["src"], "/src", None),
            (&["**/src"], "/src/file", Some("/src/file")),
            // One that takes back might take back what is asked for.
            (&["src", "!src/keep"], "src/other", None),
            (&["*"], ".", Some(".")),
            (&["**"], "/", Some("/")),
            (&["**/*"], "a/..", Some(".")),
            (&["*.c", "."], ".", None),
            (&[], "file", None),
        ] {
            assert_eq!(
                matched(patterns, source).as_deref(),
                expected,
                "{patterns:?} {source}"
            );
        }
    }

    #[test]
    fn a_pattern_not_tried_on_a_directory_does_not_reach_below_it() {
        // On `x.d` the third pattern is not tried, for the first has already left it out; so
        // nothing of it is inherited by `x.d/keep`.
        let rules = rules(&["*.d", "!x.d/keep", "x.d"]);
        assert!(decide(&rules, "x.d"));
        assert!(!decide(&rules, "x.d/keep"));
        assert!(decide(&rules, "x.d/other"));
    }

    #[test]
    fn directories_are_entered_only_for_what_may_come_back() {
        let rules = rules(&["**", "!docs/*.md", "!src/deep/file"]);
        assert!(rules.may_take_back_below(b"docs"));
        assert!(rules.may_take_back_below(b"src"));
        assert!(rules.may_take_back_below(b"src/deep"));
        assert!(!rules.may_take_back_below(b"target"));
        assert!(!rules.may_take_back_below(b"src/deeper"));
        let plain = PathRules::new([b"docs/*.md".as_slice(), b"!other/x"]).unwrap();
        assert!(plain.may_match_below(b"docs"));
        assert!(!plain.may_match_below(b"other"));
    }
}
