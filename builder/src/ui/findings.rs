//! What the linter has found, said once at the end: where people look, and where a failure's
//! message stands. The form is buildx's.
//!
//! ```text
//!  2 warnings found (use --check to expand):
//!  - FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)
//!  - UndefinedVar: Usage of undefined variable '$FOO' (line 3)
//! ```

use std::fmt;
use std::sync::Arc;

use ashlar_engine::lint::Finding;

use super::text::printable;

/// The findings of a build as they are shown at its end; nothing if there are none.
pub(super) struct Summary<'a> {
    pub(super) findings: &'a [Arc<Finding>],
    pub(super) color: bool,
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heading = match self.findings {
            [] => return Ok(()),
            [_] => "1 warning found".to_owned(),
            several => format!("{} warnings found", several.len()),
        };
        let (yellow, plain) = if self.color {
            ("\x1b[33m", "\x1b[0m")
        } else {
            ("", "")
        };
        writeln!(f, " {yellow}{heading} (use --check to expand):{plain}")?;
        let mut findings = self.findings.to_vec();
        findings.sort_by_key(|finding| finding.range.start.line);
        for finding in findings {
            writeln!(f, " - {}", printable(finding.to_string().as_bytes()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ashlar_engine::dockerfile::source::{Position, Source, SourceRange};
    use ashlar_engine::lint::Rule;

    use super::*;

    fn finding(line: u32, detail: &str) -> Arc<Finding> {
        Arc::new(Finding {
            rule: Rule::UndefinedVar,
            detail: detail.to_owned(),
            source: Source::new("Dockerfile", ""),
            range: SourceRange::at(Position::new(line, 1)),
        })
    }

    fn summary(findings: &[Arc<Finding>], color: bool) -> String {
        Summary { findings, color }.to_string()
    }

    #[test]
    fn findings_are_counted_and_stand_in_the_order_of_lines() {
        assert_eq!(summary(&[], true), "");
        assert_eq!(
            summary(&[finding(7, "b"), finding(3, "a\x1b[2J")], false),
            " 2 warnings found (use --check to expand):\n - UndefinedVar: a (line 3)\n - \
             UndefinedVar: b (line 7)\n"
        );
        assert_eq!(
            summary(&[finding(1, "a")], true),
            " \x1b[33m1 warning found (use --check to expand):\x1b[0m\n - UndefinedVar: a (line 1)\n"
        );
    }
}
