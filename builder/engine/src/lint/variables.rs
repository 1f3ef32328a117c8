//! Variables that nothing defines.

use std::collections::BTreeSet;

use super::LintScope;
use super::rule::Rule;
use crate::dockerfile::suggest::suggest_variable;

impl LintScope<'_> {
    /// `undefined` are the names in one word that have no value; `declared` those of ARG, with a
    /// value or without; `known` all that have one.
    pub(crate) fn undefined_variables<'a>(
        &self,
        undefined: &BTreeSet<String>,
        declared: impl Fn(&str) -> bool,
        known: impl Fn() -> Vec<&'a str>,
    ) {
        for name in undefined {
            if declared(name) {
                continue;
            }
            let mut detail = format!("Usage of undefined variable '${name}'");
            if let Some(near) = suggest_variable(name, known()) {
                detail.push_str(&format!(" (did you mean ${near}?)"));
            }
            self.report(Rule::UndefinedVar, detail);
        }
    }
}
