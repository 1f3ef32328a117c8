//! The ignore file: the lines of a `.dockerignore`, as `moby/patternmatcher/ignorefile` reads them.
//!
//! What the patterns mean is said in [`ashlar_model::select::rules`]. A byte-order mark is dropped; a `#` in the first column makes a comment; blanks around a
//! pattern, and around its `!`, are dropped; the path is cleaned, and a leading `/` means nothing.

use ashlar_model::select::PathRules;
use ashlar_model::select::rules::pattern::{PathPattern, PathPatternError, clean};

/// Why a `.dockerignore` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the ignore file: `{pattern}` is no pattern")]
pub struct IgnoreError {
    /// Which line, counted from 1.
    pub line: usize,
    /// What stands there.
    pub pattern: String,
    /// What is wrong with it.
    #[source]
    pub source: PathPatternError,
}

/// Reads the text of an ignore file: what the rules match is left out of the context.
pub fn parse_ignore_file(text: &[u8]) -> Result<PathRules, IgnoreError> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut patterns = Vec::new();
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        if line.starts_with(b"#") {
            continue;
        }
        let written = line.trim_ascii();
        let parsed = PathPattern::parse(&normalise(written)).map_err(|source| IgnoreError {
            line: number,
            pattern: String::from_utf8_lossy(written).into_owned(),
            source,
        })?;
        patterns.extend(parsed);
    }
    Ok(patterns.into_iter().collect())
}

/// A line's pattern with its path cleaned and relative.
fn normalise(written: &[u8]) -> Vec<u8> {
    let (takes_back, path) = match written.strip_prefix(b"!") {
        Some(path) => (true, path.trim_ascii()),
        None => (false, written),
    };
    let mut pattern = if takes_back {
        b"!".to_vec()
    } else {
        Vec::new()
    };
    if !path.is_empty() {
        let cleaned = clean(path);
        match cleaned.strip_prefix(b"/") {
            Some(relative) if !relative.is_empty() => pattern.extend_from_slice(relative),
            _ => pattern.extend_from_slice(&cleaned),
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_read_as_moby_reads_them() {
        let text = b"\xef\xbb\xbf# comment\n  /abs/ \r\n\n#no\n #file\n! /a/./b/../c \n/\n";
        let expected = ["abs", "#file", "!a/c", "/"];
        let expected = PathRules::new(expected.map(str::as_bytes)).unwrap();
        assert_eq!(parse_ignore_file(text), Ok(expected));
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = parse_ignore_file(b"ok\n !\n").unwrap_err();
        assert_eq!(error.line, 2);
        assert_eq!(error.source.to_string(), "illegal exclusion pattern: \"!\"");
        let error = parse_ignore_file(b"a[").unwrap_err();
        assert_eq!((error.line, error.pattern.as_str()), (1, "a["));
    }

    #[test]
    fn an_empty_file_leaves_nothing_out() {
        assert!(parse_ignore_file(b"\n# only this\n").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(text: Vec<u8>, path: Vec<u8>) {
            if let Ok(rules) = parse_ignore_file(&text) {
                let _ = rules.is_match(&path, &rules.root());
            }
        }
    }
}
