//! EXPOSE.

use super::LintScope;
use super::rule::Rule;

impl LintScope<'_> {
    /// One word of EXPOSE, expanded: `[[ip:]host:]port[/protocol]`.
    pub(crate) fn exposed_port(&self, word: &str) {
        let (host, port) = match word.rsplit_once(':') {
            Some((host, port)) => (host, port),
            None => ("", word),
        };
        let protocol = port.split_once('/').map_or("", |(_, protocol)| protocol);
        if protocol
            .chars()
            .any(|character| character.is_ascii_uppercase())
        {
            let detail =
                format!("Defined protocol '{word}' in EXPOSE instruction should be lowercase");
            self.report(Rule::ExposeProtoCasing, detail);
        }
        // `:80` names neither an address nor a port of the host.
        if host.chars().any(|character| character != ':') {
            let detail = format!(
                "EXPOSE instruction should not define an IP address or host-port mapping, found \
                 '{word}'"
            );
            self.report(Rule::ExposeInvalidFormat, detail);
        }
    }
}
