//! WORKDIR, and sources of COPY and ADD.

use super::LintScope;
use super::rule::Rule;

impl LintScope<'_> {
    /// The first WORKDIR of this Dockerfile in a stage and its bases. Those after it stand on it,
    /// and are right once it is.
    pub(crate) fn first_workdir(&self, path: &str) {
        if !path.starts_with('/') {
            let detail = format!(
                "Relative workdir {path:?} can have unexpected results if the base image changes"
            );
            self.report(Rule::WorkdirRelativePath, detail);
        }
    }

    /// A source that the ignore file leaves out. `verb` is `Copy` or `Add`.
    pub(crate) fn ignored_source(&self, verb: &str, path: &str) {
        let detail =
            format!("Attempting to {verb} file {path:?} that is excluded by .dockerignore");
        self.report(Rule::CopyIgnoredFile, detail);
    }
}
