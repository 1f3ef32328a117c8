//! The environment: the only place of this crate that reads it.
//!
//! | variable | meaning |
//! |---|---|
//! | `ASHLAR_HOME` | the local store |
//! | `ASHLAR_STORE_QUOTA` | how much the local store may take |
//! | `ASHLAR_JOBS` | how many steps run at once |
//! | `ASHLAR_PROGRESS`, `BUILDKIT_PROGRESS` | how progress is shown; the second is Docker's name |
//! | `ASHLAR_CACHE` | shared caches, separated by spaces |
//! | `ASHLAR_CACHE_TOKEN_FILE` | a file with the token for them |
//! | `ASHLAR_CACHE_SIGN`, `ASHLAR_CACHE_TRUST` | how results are signed, and which are taken |
//! | `ASHLAR_REMOTE` | the farm that builds run on |
//! | `ASHLAR_TRACE` | where traces of builds are sent |
//! | `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` | the same, if it is `env` |
//! | `TRACEPARENT` | the trace that a build is part of: W3C Trace Context |
//! | `ASHLAR_CONFIG`, `XDG_CONFIG_HOME` | where the configuration file is |
//! | `XDG_DATA_HOME`, `HOME` | where the local store is by default |
//! | `DOCKER_CONFIG`, `REGISTRY_AUTH_FILE`, `XDG_RUNTIME_DIR`, `XDG_CONFIG_HOME`, `PATH` | where registry credentials and their helpers are |
//! | `SSL_CERT_FILE`, `SSL_CERT_DIR` | certificates to trust instead of the system's |
//! | `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `FTP_PROXY`, `NO_PROXY` and in lower case | proxies, for registries and for RUN |
//! | `SOURCE_DATE_EPOCH` | time of everything that the build makes |
//! | `NO_COLOR`, `TERM` | what the terminal shows |
//!
//! An empty variable counts as unset. Any variable may be read by `--build-arg NAME` and
//! `-e NAME`: [`Environment::lookup`].

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use ashlar_http::HttpEnvironment;
use ashlar_image::registry::RegistryEnvironment;
use ashlar_workshop::Variables;

/// Names of proxy variables; those that Docker passes to RUN without being asked.
pub const PROXY_VARIABLES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// The environment as it was when the process started.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
}

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
        }
    }

    /// An environment with these variables only.
    pub fn of_pairs<K: Into<OsString>, V: Into<OsString>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        Self {
            variables: pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        }
    }

    /// Any variable, as it is; `None` if it is unset.
    pub fn lookup(&self, name: &str) -> Option<&OsStr> {
        self.variables
            .get(OsStr::new(name))
            .map(OsString::as_os_str)
    }

    /// Any variable as text; `None` if it is unset, empty or not UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.lookup(name)
            .and_then(OsStr::to_str)
            .filter(|value| !value.is_empty())
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.lookup(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    }

    /// `$ASHLAR_HOME`.
    pub fn ashlar_home(&self) -> Option<PathBuf> {
        self.path("ASHLAR_HOME")
    }

    /// `$XDG_DATA_HOME`. A relative path is ignored, as the XDG specification says.
    pub fn xdg_data_home(&self) -> Option<PathBuf> {
        self.path("XDG_DATA_HOME").filter(|path| path.is_absolute())
    }

    /// `$ASHLAR_CONFIG`.
    pub fn ashlar_config(&self) -> Option<PathBuf> {
        self.path("ASHLAR_CONFIG")
    }

    /// `$XDG_CONFIG_HOME`. A relative path is ignored, as the XDG specification says.
    pub fn xdg_config_home(&self) -> Option<PathBuf> {
        self.path("XDG_CONFIG_HOME")
            .filter(|path| path.is_absolute())
    }

    /// `$ASHLAR_CACHE`.
    pub fn cache(&self) -> Option<&str> {
        self.text("ASHLAR_CACHE")
    }

    /// `$ASHLAR_REMOTE`.
    pub fn remote(&self) -> Option<&str> {
        self.text("ASHLAR_REMOTE")
    }

    /// `$ASHLAR_TRACE`.
    pub fn trace(&self) -> Option<&str> {
        self.text("ASHLAR_TRACE")
    }

    /// `$TRACEPARENT`.
    pub fn traceparent(&self) -> Option<&str> {
        self.text("TRACEPARENT")
    }

    /// `$ASHLAR_CACHE_TOKEN_FILE`.
    pub fn cache_token_file(&self) -> Option<PathBuf> {
        self.path("ASHLAR_CACHE_TOKEN_FILE")
    }

    /// `$ASHLAR_CACHE_SIGN`.
    pub fn cache_sign(&self) -> Option<&str> {
        self.text("ASHLAR_CACHE_SIGN")
    }

    /// `$ASHLAR_CACHE_TRUST`.
    pub fn cache_trust(&self) -> Option<&str> {
        self.text("ASHLAR_CACHE_TRUST")
    }

    /// What clients of HTTP go by: certificates, proxies.
    pub fn http(&self) -> HttpEnvironment {
        HttpEnvironment::from_lookup(|name| self.lookup(name).map(OsStr::to_owned))
    }

    /// The same for those who know nothing of this program.
    pub fn variables(&self) -> Variables {
        let environment = self.clone();
        Variables::new(move |name| environment.lookup(name).map(OsStr::to_owned))
    }

    /// `$HOME`.
    pub fn home(&self) -> Option<PathBuf> {
        self.path("HOME")
    }

    /// What a registry client goes by: logins, certificates, proxies.
    pub fn registry(&self) -> RegistryEnvironment {
        RegistryEnvironment::from_lookup(|name| self.lookup(name).map(OsStr::to_owned))
    }

    /// `$ASHLAR_STORE_QUOTA`.
    pub fn store_quota(&self) -> Option<&str> {
        self.text("ASHLAR_STORE_QUOTA")
    }

    /// `$ASHLAR_JOBS`.
    pub fn jobs(&self) -> Option<&str> {
        self.text("ASHLAR_JOBS")
    }

    /// `$ASHLAR_PROGRESS`.
    pub fn progress(&self) -> Option<&str> {
        self.text("ASHLAR_PROGRESS")
    }

    /// `$BUILDKIT_PROGRESS`.
    pub fn buildkit_progress(&self) -> Option<&str> {
        self.text("BUILDKIT_PROGRESS")
    }

    /// `$SOURCE_DATE_EPOCH`.
    pub fn source_date_epoch(&self) -> Option<&str> {
        self.text("SOURCE_DATE_EPOCH")
    }

    /// Whether `$NO_COLOR` asks for text without colour: <https://no-color.org>.
    pub fn no_color(&self) -> bool {
        self.lookup("NO_COLOR")
            .is_some_and(|value| !value.is_empty())
    }

    /// Whether `$TERM` names a terminal that can move its cursor.
    pub fn terminal_is_capable(&self) -> bool {
        self.text("TERM").is_some_and(|term| term != "dumb")
    }

    /// The proxy variables that are set, in a fixed order.
    pub fn proxies(&self) -> Vec<(String, String)> {
        PROXY_VARIABLES
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), self.text(name)?.to_owned())))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let environment = Environment::of_pairs([("ASHLAR_HOME", ""), ("ASHLAR_JOBS", "")]);
        assert_eq!(environment.ashlar_home(), None);
        assert_eq!(environment.jobs(), None);
        assert_eq!(environment.lookup("ASHLAR_HOME"), Some(OsStr::new("")));
    }

    #[test]
    fn relative_xdg_directories_are_ignored() {
        let environment = Environment::of_pairs([("XDG_DATA_HOME", "data")]);
        assert_eq!(environment.xdg_data_home(), None);
    }

    #[test]
    fn the_registry_client_gets_its_variables() {
        let environment = Environment::of_pairs([("REGISTRY_AUTH_FILE", "/auth"), ("HOME", "/h")]);
        let registry = environment.registry();
        assert_eq!(registry.registry_auth_file, Some("/auth".into()));
        assert_eq!(registry.home, Some("/h".into()));
        assert_eq!(registry.docker_config, None);
    }

    #[test]
    fn terminals() {
        for (term, capable) in [("xterm", true), ("dumb", false), ("", false)] {
            let environment = Environment::of_pairs([("TERM", term)]);
            assert_eq!(environment.terminal_is_capable(), capable, "{term}");
        }
        assert!(!Environment::default().no_color());
        assert!(Environment::of_pairs([("NO_COLOR", "1")]).no_color());
    }

    #[test]
    fn proxies_come_in_a_fixed_order() {
        let environment = Environment::of_pairs([
            ("no_proxy", "localhost"),
            ("HTTP_PROXY", "http://p:1"),
            ("https_proxy", ""),
        ]);
        assert_eq!(
            environment.proxies(),
            [
                ("HTTP_PROXY".to_owned(), "http://p:1".to_owned()),
                ("no_proxy".to_owned(), "localhost".to_owned()),
            ]
        );
    }
}
