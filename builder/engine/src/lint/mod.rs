//! The linter: what a Dockerfile may do but should not.
//!
//! The rules, their names, words and places are BuildKit's (`frontend/dockerfile/linter`), so that
//! what people have learned of them, and tools that read them, serve here too.
//!
//! | module | rules about |
//! |---|---|
//! | [`rule`] | all of them: names, descriptions, addresses |
//! | [`config`] | which are on: `# check=`, per file and per instruction |
//! | [`finding`] | what a rule has found, and where |
//! | `tree` | what parsing alone shows: stage names, casing, comments |
//! | `base` | FROM: its arguments and platforms |
//! | `variables` | variables that nothing defines |
//! | `pairs` | ENV, LABEL and ARG |
//! | `command` | CMD, ENTRYPOINT and HEALTHCHECK |
//! | `port` | EXPOSE |
//! | `path` | WORKDIR, and sources of COPY and ADD |
//!
//! Where a rule needs the state of a build (what is defined, which shell there is), planning tells
//! it: [`Linter`] is for a file, [`LintScope`] for one instruction of it. A rule that is about the
//! file as a whole goes by the file's settings alone, as BuildKit has it.
//!
//! A finding leaves as [`BuildEvent::Finding`]. It fails a build only with `error=true`.

mod base;
mod command;
pub mod config;
pub mod finding;
mod pairs;
mod path;
mod port;
pub mod rule;
mod tree;
mod variables;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use command::Given;
pub use config::{CheckOptionError, LintConfig};
pub use finding::Finding;
pub use rule::Rule;

use crate::dockerfile::source::SourceRange;
use crate::dockerfile::{Instruction, Source};
use crate::event::{BuildEvent, EventSink};

/// Takes what rules find in one Dockerfile.
pub struct Linter {
    source: Source,
    config: LintConfig,
    events: Arc<dyn EventSink>,
    broken: Mutex<BTreeSet<Rule>>,
}

impl fmt::Debug for Linter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Linter")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Linter {
    /// A linter of this text. Findings go to `events`.
    pub fn new(source: &Source, config: LintConfig, events: Arc<dyn EventSink>) -> Self {
        Self {
            source: source.clone(),
            config,
            events,
            broken: Mutex::default(),
        }
    }

    /// Reports by the file's settings.
    pub(crate) fn report(&self, rule: Rule, range: SourceRange, detail: String) {
        self.report_by(&self.config, rule, range, detail);
    }

    /// What rules about one instruction report to.
    pub(crate) fn scope<K>(&self, instruction: &Instruction<K>) -> LintScope<'_> {
        let config = match LintConfig::of_comments(&instruction.comments) {
            Some(own) => Cow::Owned(self.config.merged(&own)),
            None => Cow::Borrowed(&self.config),
        };
        LintScope {
            linter: self,
            config,
            range: instruction.range,
            keyword: instruction.keyword.clone(),
        }
    }

    /// The rules that were broken, where that is to fail the build (`error=true`).
    pub(crate) fn violated(&self) -> Option<Vec<Rule>> {
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        (self.config.error && !broken.is_empty()).then(|| broken.iter().copied().collect())
    }

    fn report_by(&self, config: &LintConfig, rule: Rule, range: SourceRange, detail: String) {
        if !config.allows(rule) {
            return;
        }
        self.broken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(rule);
        self.events.emit(BuildEvent::Finding(Arc::new(Finding {
            rule,
            detail,
            source: self.source.clone(),
            range,
        })));
    }
}

/// Takes what rules find in one instruction, by the file's settings and those in the comment above
/// it.
#[derive(Debug, Clone)]
pub(crate) struct LintScope<'a> {
    linter: &'a Linter,
    config: Cow<'a, LintConfig>,
    range: SourceRange,
    /// As it is written.
    keyword: String,
}

impl LintScope<'_> {
    fn report(&self, rule: Rule, detail: String) {
        self.report_at(rule, self.range, detail);
    }

    /// Reports what another instruction's lines show.
    fn report_at(&self, rule: Rule, range: SourceRange, detail: String) {
        self.linter.report_by(&self.config, rule, range, detail);
    }
}

#[cfg(test)]
mod tests;
