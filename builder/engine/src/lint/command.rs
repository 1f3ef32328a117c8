//! CMD, ENTRYPOINT and HEALTHCHECK.

use super::LintScope;
use super::rule::Rule;
use crate::dockerfile::instruction::CommandLine;
use crate::dockerfile::source::SourceRange;

/// Where a stage has had the instructions of which only the last counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Given {
    pub(crate) cmd: Option<SourceRange>,
    pub(crate) entrypoint: Option<SourceRange>,
    pub(crate) healthcheck: Option<SourceRange>,
}

impl LintScope<'_> {
    /// Notes an instruction of which only the last counts. The one before it is what is reported:
    /// it has no effect.
    pub(crate) fn counts_once(&self, given: &mut Option<SourceRange>) {
        if let Some(earlier) = given.replace(self.range) {
            let detail = format!(
                "Multiple {} instructions should not be used in the same stage because only the \
                 last one will be used",
                self.keyword
            );
            self.report_at(Rule::MultipleInstructionsDisallowed, earlier, detail);
        }
    }

    /// A command of the image: `shell` is what SHELL, here or in a base, has set.
    pub(crate) fn command_form(&self, command: &CommandLine, shell: &[String]) {
        if matches!(command, CommandLine::Shell(_)) && shell.is_empty() {
            let detail = format!(
                "JSON arguments recommended for {} to prevent unintended behavior related to OS \
                 signals",
                self.keyword
            );
            self.report(Rule::JsonArgsRecommended, detail);
        }
    }
}
