//! From a source pattern to the files and directories that it stands for.
//!
//! The rules are BuildKit's (`tonistiigi/fsutil/copy`, `ResolveWildcards`):
//!
//! - A pattern is cleaned as text first: it is rooted at `/`, `..` stops there, doubled and
//!   trailing slashes say nothing.
//! - Names before the first wildcard are followed through symbolic links, and must be there. A
//!   backslash in them is a plain byte.
//! - From the first wildcard on, names are matched one by one against real directories only; no
//!   match at all is no error.
//! - What is matched, or named, is itself followed if it is a symbolic link.

use super::FileView;
use super::resolve::{ResolveError, Resolved, resolve};
use super::rules::PathPatternError;
use super::wildcard::{Wildcard, WildcardError};
use crate::layer::{Entry, EntryKind, LayerPath, LayerPathError};

/// A source of COPY or ADD, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePattern {
    /// The names before the first wildcard, cleaned.
    base: LayerPath,
    /// The names from the first wildcard on.
    wildcards: Vec<Wildcard>,
}

/// One thing that a pattern stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Its last name as written or matched, links not followed; empty for the root.
    pub name: Vec<u8>,
    /// Where it really is, links followed.
    pub path: LayerPath,
    /// What is there; never a symbolic link.
    pub entry: Entry,
}

/// Why a text is not a source pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Its wildcards are malformed.
    #[error("source `{pattern}` cannot be matched")]
    Wildcard {
        /// The pattern as written.
        pattern: String,
        /// What is wrong.
        source: WildcardError,
    },
    /// It, or an `--exclude`, is malformed as a pattern of whole paths.
    #[error("`{pattern}` is no pattern")]
    Rule {
        /// The pattern as written.
        pattern: String,
        /// What is wrong.
        source: PathPatternError,
    },
    /// It cannot be a path.
    #[error("source `{pattern}` cannot be a path")]
    Path {
        /// The pattern as written.
        pattern: String,
        /// What is wrong.
        source: LayerPathError,
    },
}

/// Why the files of a pattern were not found.
#[derive(Debug, thiserror::Error)]
pub enum SelectError<E: std::error::Error + 'static> {
    /// Nothing is there. (The words are BuildKit's.)
    #[error("\"{path}\": not found")]
    NotFound {
        /// The path as written, cleaned.
        path: LayerPath,
    },
    /// A symbolic link is there that leads to nothing.
    #[error("\"{path}\": not found: it is a symbolic link to \"{target}\", which is not there")]
    Dangling {
        /// The link.
        path: LayerPath,
        /// Where it leads, inside the root.
        target: LayerPath,
    },
    /// The way to it cannot be followed.
    #[error("cannot follow a source")]
    Resolve(#[from] ResolveError<E>),
    /// A directory could not be read.
    #[error("cannot read the directory {path}")]
    View {
        /// Which.
        path: LayerPath,
        /// Why.
        source: E,
    },
}

impl SourcePattern {
    /// Reads a source as written in a Dockerfile, variables expanded.
    pub fn parse(pattern: &[u8]) -> Result<Self, PatternError> {
        let shown = || String::from_utf8_lossy(pattern).into_owned();
        let clean = LayerPath::clamped(pattern).map_err(|source| PatternError::Path {
            pattern: shown(),
            source,
        })?;
        let names: Vec<&[u8]> = clean.components().collect();
        let first = names
            .iter()
            .position(|name| Wildcard::is_needed(name))
            .unwrap_or(names.len());
        let (literal, matched) = names.split_at(first);
        let wildcards = matched
            .iter()
            .map(|name| Wildcard::parse(name))
            .collect::<Result<_, _>>()
            .map_err(|source| PatternError::Wildcard {
                pattern: shown(),
                source,
            })?;
        let base = LayerPath::new(&literal.join(&b'/')).map_err(|source| PatternError::Path {
            pattern: shown(),
            source,
        })?;
        Ok(Self { base, wildcards })
    }

    /// Whether it has wildcards, so that no match is no error.
    pub fn has_wildcards(&self) -> bool {
        !self.wildcards.is_empty()
    }

    /// All that the pattern stands for in `view`, in the order of [`LayerPath`]s as matched.
    pub fn find<V: FileView + ?Sized>(
        &self,
        view: &V,
    ) -> Result<Vec<Match>, SelectError<V::Error>> {
        let Resolved { path, entry } = resolve(view, self.base.as_bytes())?;
        let Some(entry) = entry else {
            return Err(self.missing(view, path));
        };
        if self.wildcards.is_empty() {
            let name = self.base.file_name().unwrap_or_default().to_vec();
            return Ok(vec![Match { name, path, entry }]);
        }
        let mut found = Vec::new();
        if entry.is_directory() {
            find_below(view, &path, &self.wildcards, &mut found)?;
        }
        Ok(found)
    }

    fn missing<V: FileView + ?Sized>(&self, view: &V, real: LayerPath) -> SelectError<V::Error> {
        let path = self.base.clone();
        match view.lookup(&path) {
            Ok(Some(_)) => SelectError::Dangling { path, target: real },
            _ => SelectError::NotFound { path },
        }
    }
}

/// A path as a pattern that matches nothing else.
pub fn literal(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    for character in path.chars() {
        if matches!(character, '*' | '?' | '[' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

/// Adds what matches in the real directory `directory`.
fn find_below<V: FileView + ?Sized>(
    view: &V,
    directory: &LayerPath,
    wildcards: &[Wildcard],
    found: &mut Vec<Match>,
) -> Result<(), SelectError<V::Error>> {
    let Some((wildcard, below)) = wildcards.split_first() else {
        return Ok(());
    };
    let unreadable = |source| SelectError::View {
        path: directory.clone(),
        source,
    };
    let mut names = match wildcard.literal() {
        Some(name) => vec![name],
        None => view.read_directory(directory).map_err(unreadable)?,
    };
    names.retain(|name| wildcard.matches(name));
    names.sort_unstable();
    for name in names {
        // A name that cannot be joined cannot be there either.
        let Ok(path) = directory.join(&name) else {
            continue;
        };
        let Some(entry) = view.lookup(&path).map_err(unreadable)? else {
            continue;
        };
        match entry.kind {
            EntryKind::Directory { .. } if !below.is_empty() => {
                find_below(view, &path, below, found)?;
            }
            _ if !below.is_empty() => {}
            EntryKind::Symlink(_) => {
                let real = resolve(view, path.as_bytes())?;
                let target = real.path;
                let entry = real.entry.ok_or_else(|| SelectError::Dangling {
                    path: path.clone(),
                    target: target.clone(),
                })?;
                found.push(Match {
                    name,
                    path: target,
                    entry,
                });
            }
            _ => found.push(Match { name, path, entry }),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::memory::MemoryView;
    use super::*;

    /// A pattern, and the name and real path of each of its matches.
    type Row = (&'static str, &'static [(&'static str, &'static str)]);

    fn view() -> MemoryView {
        MemoryView::new()
            .file("a.txt")
            .file("b.txt")
            .file("odd[1].txt")
            .file("back\\slash")
            .file("src/main.rs")
            .file("src/lib.rs")
            .file("src/deep/x.rs")
            .file("other/main.rs")
            .link("link.txt", "src/lib.rs")
            .link("link_dir", "src")
            .link("broken", "nowhere")
            .link("escape", "../../src")
    }

    fn find(pattern: &str) -> Result<Vec<(String, String)>, String> {
        let pattern = SourcePattern::parse(pattern.as_bytes()).map_err(|e| e.to_string())?;
        let found = pattern.find(&view()).map_err(|e| e.to_string())?;
        let text = |m: Match| (String::from_utf8(m.name).unwrap(), m.path.to_string());
        Ok(found.into_iter().map(text).collect())
    }

    fn found(pattern: &str) -> Vec<(String, String)> {
        find(pattern).unwrap()
    }

    fn pairs(rows: &[(&str, &str)]) -> Vec<(String, String)> {
        rows.iter()
            .map(|(name, path)| ((*name).to_owned(), (*path).to_owned()))
            .collect()
    }

    #[test]
    fn plain_sources_are_cleaned_and_clamped() {
        let rows: &[Row] = &[
            ("a.txt", &[("a.txt", "/a.txt")]),
            ("/a.txt", &[("a.txt", "/a.txt")]),
            ("../../a.txt", &[("a.txt", "/a.txt")]),
            ("src//deep/../main.rs", &[("main.rs", "/src/main.rs")]),
            ("src/", &[("src", "/src")]),
            ("src/.", &[("src", "/src")]),
            (".", &[("", "/")]),
            ("", &[("", "/")]),
            ("back\\slash", &[("back\\slash", "/back\\slash")]),
        ];
        for (pattern, expected) in rows {
            assert_eq!(found(pattern), pairs(expected), "{pattern}");
        }
    }

    #[test]
    fn wildcards_stay_within_one_name() {
        let rows: &[Row] = &[
            (
                "*.txt",
                &[
                    ("a.txt", "/a.txt"),
                    ("b.txt", "/b.txt"),
                    ("link.txt", "/src/lib.rs"),
                    ("odd[1].txt", "/odd[1].txt"),
                ],
            ),
            ("?.txt", &[("a.txt", "/a.txt"), ("b.txt", "/b.txt")]),
            ("odd[[]1].txt", &[("odd[1].txt", "/odd[1].txt")]),
            (
                "*/main.rs",
                &[("main.rs", "/other/main.rs"), ("main.rs", "/src/main.rs")],
            ),
            (
                "src/*",
                &[
                    ("deep", "/src/deep"),
                    ("lib.rs", "/src/lib.rs"),
                    ("main.rs", "/src/main.rs"),
                ],
            ),
            ("*/*/x.rs", &[("x.rs", "/src/deep/x.rs")]),
            ("*.none", &[]),
            ("a.txt/*", &[]),
            ("s*/m\\ain.rs", &[("main.rs", "/src/main.rs")]),
        ];
        for (pattern, expected) in rows {
            assert_eq!(found(pattern), pairs(expected), "{pattern}");
        }
    }

    #[test]
    fn links_are_followed_in_the_source_and_its_parents() {
        assert_eq!(found("link_dir"), pairs(&[("link_dir", "/src")]));
        assert_eq!(
            found("link_dir/lib.rs"),
            pairs(&[("lib.rs", "/src/lib.rs")])
        );
        assert_eq!(found("escape/lib.rs"), pairs(&[("lib.rs", "/src/lib.rs")]));
        assert_eq!(found("link_d*"), pairs(&[("link_dir", "/src")]));
        assert_eq!(
            found("link_dir/*.rs"),
            pairs(&[("lib.rs", "/src/lib.rs"), ("main.rs", "/src/main.rs")])
        );
    }

    #[test]
    fn what_is_missing_is_named_as_written() {
        let rows = [
            ("nope", "\"/nope\": not found"),
            ("src/../nope/", "\"/nope\": not found"),
            ("a.txt/x", "\"/a.txt/x\": not found"),
            ("nope/*.jar", "\"/nope\": not found"),
            (
                "broken",
                "\"/broken\": not found: it is a symbolic link to \"/nowhere\", which is not there",
            ),
            (
                "brok*",
                "\"/broken\": not found: it is a symbolic link to \"/nowhere\", which is not there",
            ),
            ("[", "source `[` cannot be matched"),
            ("a\0b", "source `a\0b` cannot be a path"),
        ];
        for (pattern, expected) in rows {
            assert_eq!(find(pattern), Err(expected.to_owned()), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn a_literal_path_has_no_wildcards(path in "[a-z*?/.\\[\\]\\\\_]{0,20}") {
            let pattern = SourcePattern::parse(literal(&path).as_bytes()).unwrap();
            prop_assert!(!pattern.has_wildcards());
        }

        #[test]
        fn every_match_is_a_real_path(pattern in "[a-z*?/.\\[\\]\\\\_]{0,20}") {
            if let Ok(pattern) = SourcePattern::parse(pattern.as_bytes()) {
                for found in pattern.find(&view()).unwrap_or_default() {
                    let again = resolve(&view(), found.path.as_bytes()).unwrap();
                    prop_assert_eq!(again.path, found.path);
                    prop_assert_eq!(again.entry, Some(found.entry));
                }
            }
        }
    }
}
