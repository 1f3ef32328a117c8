//! ENV, LABEL and ARG: how pairs are written, and names that promise secrets.

use super::LintScope;
use super::rule::Rule;

/// Words of names that promise a secret, if they stand between `_`.
const SECRET: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];

/// Words that take the promise back: `PUBLIC_KEY`, `TOKEN_FILE`.
const HARMLESS: [&str; 3] = ["public", "file", "version"];

impl LintScope<'_> {
    /// ENV and LABEL in the old form, `ENV name value`.
    pub(crate) fn legacy_pair(&self) {
        let keyword = &self.keyword;
        let detail = format!(
            "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" \
             format"
        );
        self.report(Rule::LegacyKeyValueFormat, detail);
    }

    /// A name that ARG or ENV sets.
    pub(crate) fn secret_name(&self, instruction: &str, name: &str) {
        let has = |words: &[&str]| {
            name.split('_')
                .any(|part| words.iter().any(|word| part.eq_ignore_ascii_case(word)))
        };
        if has(&SECRET) && !has(&HARMLESS) {
            let detail = format!(
                "Do not use ARG or ENV instructions for sensitive data ({instruction} {name:?})"
            );
            self.report(Rule::SecretsUsedInArgOrEnv, detail);
        }
    }
}
