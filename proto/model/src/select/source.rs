//! A whole source of COPY or ADD: its pattern, and what of the matched directories is taken.
//!
//! - `--exclude` patterns are [`PathRules`], relative to each matched directory. A file that is
//!   itself matched is judged by its name: `COPY --exclude=*.txt doc* /x` takes no `doc.txt`.
//!   (BuildKit's documentation says so and its code does otherwise: moby/buildkit issue 5489.)
//! - `--parents` turns the source into one such rule, relative to `/`, or to what stands before
//!   the first `/./` in it (the pivot). So `**` works, and symbolic links on the way are copied
//!   and not followed. A source without wildcards must be there.
//! - A directory that is not taken itself, but holds something that is, comes along as the way to
//!   it.

use serde::{Deserialize, Serialize};

use super::FileView;
use super::pattern::{Match, PatternError, SelectError, SourcePattern};
use super::rules::{Matches, PathRules};
use super::wildcard::Wildcard;
use crate::content_hash::{ContentHash, KeyEncoder};
use crate::layer::LayerPath;

/// What a COPY or ADD asks of a filesystem, as written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct SourceQuery {
    /// The source, variables expanded. It is rooted at `/` and may have wildcards.
    pub path: String,
    /// `--parents`: directories on the way are kept.
    pub parents: bool,
    /// `--exclude` patterns, in order.
    pub exclude: Vec<String>,
}

/// A [`SourceQuery`], read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pattern: SourcePattern,
    /// What must be there, though it is not what is matched.
    required: Option<SourcePattern>,
    filter: Option<Filter>,
}

/// Which files below a matched directory are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// `None` for everything.
    include: Option<PathRules>,
    exclude: PathRules,
}

/// What a filter's patterns have said of a directory and its parents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterState {
    include: Option<Matches>,
    exclude: Matches,
}

impl From<&str> for SourceQuery {
    fn from(path: &str) -> Self {
        Self::from(path.to_owned())
    }
}

impl From<String> for SourceQuery {
    fn from(path: String) -> Self {
        Self {
            path,
            ..Self::default()
        }
    }
}

impl ContentHash for SourceQuery {
    fn encode(&self, encoder: &mut KeyEncoder) {
        let Self {
            path,
            parents,
            exclude,
        } = self;
        encoder.value(path).value(parents).value(exclude);
    }
}

impl Source {
    /// Reads a source and its flags.
    pub fn parse(query: &SourceQuery) -> Result<Self, PatternError> {
        let written = query.path.as_str();
        let (base, below) = match written.split_once("/./") {
            _ if !query.parents => (written, ""),
            Some((base, below)) => (base, below),
            None => ("/", written),
        };
        let below = LayerPath::clamped(below.as_bytes()).map_err(|source| PatternError::Path {
            pattern: written.to_owned(),
            source,
        })?;
        let has_wildcards = |text: &[u8]| Wildcard::is_needed(text);
        let mut required = None;
        if !below.is_root() && !has_wildcards(base.as_bytes()) && !has_wildcards(below.as_bytes()) {
            let whole = [base.as_bytes(), below.as_bytes()].join(&b'/');
            required = Some(SourcePattern::parse(&whole)?);
        }
        Ok(Self {
            pattern: SourcePattern::parse(base.as_bytes())?,
            required,
            filter: Filter::new(&below, written, &query.exclude)?,
        })
    }

    /// All that the source matches, as [`SourcePattern::find`]. With `--parents` that is what the
    /// filter then chooses from.
    pub fn find<V: FileView + ?Sized>(
        &self,
        view: &V,
    ) -> Result<Vec<Match>, SelectError<V::Error>> {
        if let Some(required) = &self.required {
            required.find(view)?;
        }
        let mut found = self.pattern.find(view)?;
        if let Some(filter) = &self.filter {
            found.retain(|one| one.entry.is_directory() || filter.takes_file(&one.name));
        }
        Ok(found)
    }

    /// What of a matched directory is taken; `None` for everything.
    pub const fn filter(&self) -> Option<&Filter> {
        self.filter.as_ref()
    }
}

impl Filter {
    /// `below` is the only path to take, the root for everything. (`COPY --parents dir/./ /x`
    /// means all that is in `dir`; BuildKit takes nothing.)
    fn new(
        below: &LayerPath,
        written: &str,
        exclude: &[String],
    ) -> Result<Option<Self>, PatternError> {
        let rules = |pattern: &str, bytes: &[u8]| {
            PathRules::new([bytes]).map_err(|source| PatternError::Rule {
                pattern: pattern.to_owned(),
                source,
            })
        };
        // One by one first, so that an error can name the one at fault.
        for pattern in exclude {
            rules(pattern, pattern.as_bytes())?;
        }
        let exclude = PathRules::new(exclude.iter().map(String::as_bytes)).unwrap_or_default();
        let include = (!below.is_root()).then(|| rules(written, below.as_bytes()));
        let filter = Self {
            include: include.transpose()?,
            exclude,
        };
        Ok((filter.include.is_some() || !filter.exclude.is_empty()).then_some(filter))
    }

    /// What is known about the matched directory itself: it is always taken.
    pub fn root(&self) -> FilterState {
        FilterState {
            include: self.include.as_ref().map(PathRules::root),
            exclude: self.exclude.root(),
        }
    }

    /// Whether `path`, relative to the matched directory, is taken. `parent` is the state of the
    /// directory that it is in.
    pub fn takes(&self, path: &[u8], parent: &FilterState) -> bool {
        self.includes(path, parent) && !self.exclude.is_match(path, &parent.exclude)
    }

    /// Whether a file that the source itself names or matches is taken.
    fn takes_file(&self, name: &[u8]) -> bool {
        self.include.is_some() || !self.exclude.is_match(name, &self.exclude.root())
    }

    /// As [`Self::takes`], and what to hand down to all in the directory `path`.
    pub fn judge_directory(&self, path: &[u8], parent: &FilterState) -> (bool, FilterState) {
        let (excluded, exclude) = self.exclude.judge_directory(path, &parent.exclude);
        let (included, include) = match (&self.include, &parent.include) {
            (Some(rules), Some(parent)) => {
                let (included, matches) = rules.judge_directory(path, parent);
                (included, Some(matches))
            }
            _ => (true, None),
        };
        let state = FilterState { include, exclude };
        (included && !excluded, state)
    }

    /// Whether anything below a directory that is not taken might be; errs towards yes.
    pub fn may_take_below(&self, directory: &[u8], parent: &FilterState) -> bool {
        let include = self.include.as_ref();
        let included = self.includes(directory, parent)
            || include.is_some_and(|rules| rules.may_match_below(directory));
        included
            && (!self.exclude.is_match(directory, &parent.exclude)
                || self.exclude.may_take_back_below(directory))
    }

    fn includes(&self, path: &[u8], parent: &FilterState) -> bool {
        match (&self.include, &parent.include) {
            (Some(rules), Some(parent)) => rules.is_match(path, parent),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::memory::MemoryView;
    use super::*;

    fn source(path: &str, parents: bool, exclude: &[&str]) -> Source {
        let exclude = exclude.iter().map(|text| (*text).to_owned()).collect();
        Source::parse(&SourceQuery {
            path: path.to_owned(),
            parents,
            exclude,
        })
        .unwrap()
    }

    /// Whether a filter takes a path, asking for each directory on the way.
    fn takes(filter: &Filter, path: &str) -> bool {
        let mut state = filter.root();
        for (slash, _) in path.match_indices('/') {
            state = filter.judge_directory(&path.as_bytes()[..slash], &state).1;
        }
        filter.takes(path.as_bytes(), &state)
    }

    fn view() -> MemoryView {
        MemoryView::new()
            .file("a/b/c/f")
            .file("a/b2/c/f")
            .file("top")
            .link("link", "a/b")
    }

    fn found(source: &Source) -> Vec<String> {
        let matches = source.find(&view()).unwrap();
        matches.iter().map(|one| one.path.to_string()).collect()
    }

    #[test]
    fn a_plain_source_has_no_filter() {
        let plain = source("a/./b", false, &[]);
        assert_eq!(plain.filter(), None);
        assert_eq!(found(&plain), ["/a/b"]);
        assert_eq!(source("a", false, &["", " "]).filter(), None);
    }

    #[test]
    fn the_first_pivot_parts_what_is_left_out_from_what_is_kept() {
        type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str]);
        let rows: [Row<'_>; 8] = [
            ("a/b", &["/"], &["a/b", "a/b/c/f"], &["a", "a/b2", "top"]),
            ("/a/b/.", &["/"], &["a/b/c"], &["a/b2"]),
            ("./a/b", &["/"], &["a/b/c"], &["a/b2"]),
            ("a/./b", &["/a"], &["b", "b/c/f"], &["b2", "a"]),
            ("/a/./b/./c", &["/a"], &["b/c/f"], &["b2/c", "b"]),
            ("a/b*/./c", &["/a/b", "/a/b2"], &["c", "c/f"], &["f"]),
            ("**/f", &["/"], &["a/b/c/f", "f"], &["a", "top"]),
            ("a/../top", &["/"], &["top"], &["a"]),
        ];
        for (path, matched, taken, left) in rows {
            let source = source(path, true, &[]);
            assert_eq!(found(&source), matched, "{path}");
            let filter = source.filter().unwrap();
            for path in taken {
                assert!(takes(filter, path), "{path}");
            }
            for path in left {
                assert!(!takes(filter, path), "{path}");
            }
        }
        for all in [".", "/", "a/./", "a/./."] {
            assert_eq!(source(all, true, &[]).filter(), None, "{all}");
        }
    }

    #[test]
    fn a_path_without_wildcards_must_be_there() {
        for missing in ["no", "a/no", "a/./no", "no/./a"] {
            let error = source(missing, true, &[]).find(&view()).unwrap_err();
            assert!(matches!(error, SelectError::NotFound { .. }), "{missing}");
        }
        assert_eq!(
            source("a/./no", true, &[])
                .find(&view())
                .unwrap_err()
                .to_string(),
            "\"/a/no\": not found"
        );
        for none in ["no*", "a/**/no", "a*/./no"] {
            source(none, true, &[]).find(&view()).unwrap();
        }
        assert_eq!(found(&source("link/c", true, &[])), ["/"]);
    }

    #[test]
    fn exclusions_are_relative_to_the_match_and_may_be_taken_back() {
        let source = source("a", false, &["b*", "!b/c"]);
        let filter = source.filter().unwrap();
        assert!(!takes(filter, "b"));
        assert!(takes(filter, "b/c"));
        assert!(takes(filter, "b/c/f"));
        assert!(!takes(filter, "b2/c"));
        assert!(takes(filter, "a/b"));
        assert!(filter.may_take_below(b"b", &filter.root()));
        assert!(!filter.may_take_below(b"b2", &filter.root()));
    }

    #[test]
    fn a_file_that_is_matched_is_excluded_by_its_name() {
        for (path, exclude, taken) in [
            ("*", &["top"][..], &["/a", "/a/b"][..]),
            ("t*", &["*"], &[]),
            ("top", &["to?"], &[]),
            ("top", &["a/top"], &["/top"]),
            ("top", &["*", "!top"], &["/top"]),
            ("a/b/c/f", &["**/f"], &[]),
            ("a", &["a"], &["/a"]),
        ] {
            let source = source(path, false, exclude);
            assert_eq!(found(&source), taken, "{path} without {exclude:?}");
        }
    }

    #[test]
    fn exclusions_win_over_what_parents_ask_for() {
        let source = source("a/**", true, &["**/c"]);
        let filter = source.filter().unwrap();
        assert!(takes(filter, "a/b"));
        assert!(!takes(filter, "a/b/c"));
        assert!(!takes(filter, "a/b/c/f"));
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let query = |path: &str, parents, exclude: &str| SourceQuery {
            path: path.into(),
            parents,
            exclude: vec!["fine".into(), exclude.into()],
        };
        for (query, pattern) in [
            (query("a", false, "b["), "b["),
            (query("a", false, "!"), "!"),
            (query("a[", true, "b"), "a["),
        ] {
            let error = Source::parse(&query).unwrap_err().to_string();
            assert!(error.contains(&format!("`{pattern}`")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_taken_below_what_may_be_passed_over(
            path in "[ab*]{1,2}(/[ab*]{1,2}){0,2}",
            exclude in prop::collection::vec("!?[ab*]{1,2}(/[ab*]{1,2}){0,2}", 0..3),
            file in "[ab]{1,2}(/[ab]{1,2}){1,3}",
        ) {
            let query = SourceQuery { path, parents: true, exclude };
            let source = Source::parse(&query).unwrap();
            if let Some(filter) = source.filter() && takes(filter, &file) {
                let mut state = filter.root();
                for (slash, _) in file.match_indices('/') {
                    let directory = &file.as_bytes()[..slash];
                    let taken = filter.takes(directory, &state);
                    prop_assert!(taken || filter.may_take_below(directory, &state));
                    state = filter.judge_directory(directory, &state).1;
                }
            }
        }

        #[test]
        fn no_text_panics(path: String, parents: bool, exclude: Vec<String>) {
            drop(Source::parse(&SourceQuery { path, parents, exclude }));
        }
    }
}
