//! The environment: the only place of this crate that reads it.
//!
//! | variable | meaning |
//! |---|---|
//! | `ASHLAR_WORKER_CONFIG` | the settings file |
//! | `ASHLAR_WORKER_` and the name of a setting in capitals, such as `ASHLAR_WORKER_FARM` | that setting; lists are separated by spaces |
//! | one that `--cache-sign env=VARIABLE` names | a key to sign with |
//! | `NOTIFY_SOCKET` | where the service manager wants to hear that the worker is ready |
//! | `XDG_DATA_HOME`, `HOME` | where the stores are by default |
//! | `NO_COLOR` | the log has no colours |
//! | `SSL_CERT_FILE`, `SSL_CERT_DIR` | certificates to trust instead of the system's |
//! | `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY` and in lower case | proxies for registries |
//!
//! An empty variable counts as unset. Registry logins of this machine are not looked for: those of
//! a build come with it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::str::FromStr;

use ashlar_workshop::Variables;
use clap::ValueEnum as _;

use super::Options;
use super::value::LogFormat;

const PREFIX: &str = "ASHLAR_WORKER_";

/// What those who fetch may see: nothing that names logins of this machine.
const HANDED_ON: [&str; 10] = [
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];

/// A variable that does not say what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the environment variable {name} is wrong: {reason}")]
pub struct VariableError {
    name: String,
    reason: String,
}

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
    pub fn of_pairs<const N: usize>(pairs: [(&str, &str); N]) -> Self {
        Self {
            variables: pairs
                .iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        }
    }

    fn get(&self, name: &str) -> Option<&OsStr> {
        let value = self.variables.get(OsStr::new(name))?;
        (!value.is_empty()).then_some(value)
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(&format!("{PREFIX}{name}")).map(PathBuf::from)
    }

    fn text(&self, name: &str) -> Result<Option<String>, VariableError> {
        let name = format!("{PREFIX}{name}");
        let Some(value) = self.get(&name) else {
            return Ok(None);
        };
        match value.to_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(VariableError {
                name,
                reason: "it is no text".to_owned(),
            }),
        }
    }

    fn text_as<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, VariableError> {
        let text = self.text(name)?;
        let parsed = text.map(|text| {
            parse(&text).map_err(|reason| VariableError {
                name: format!("{PREFIX}{name}"),
                reason,
            })
        });
        parsed.transpose()
    }

    fn parsed<T>(&self, name: &str) -> Result<Option<T>, VariableError>
    where
        T: FromStr,
        T::Err: ToString,
    {
        self.text_as(name, |text| {
            text.parse().map_err(|error: T::Err| error.to_string())
        })
    }

    /// A list, whose items are separated by spaces.
    fn list<T>(&self, name: &str) -> Result<Option<Vec<T>>, VariableError>
    where
        T: FromStr,
        T::Err: ToString,
    {
        self.text_as(name, |text| {
            let items = text.split_whitespace().map(str::parse);
            let items: Result<Vec<T>, T::Err> = items.collect();
            items.map_err(|error| error.to_string())
        })
    }

    /// `$ASHLAR_WORKER_CONFIG`.
    pub fn config(&self) -> Option<PathBuf> {
        self.path("CONFIG")
    }

    /// `$NOTIFY_SOCKET`.
    pub fn notify_socket(&self) -> Option<&OsStr> {
        self.get("NOTIFY_SOCKET")
    }

    /// Whether `$NO_COLOR` asks for text without colour: <https://no-color.org>.
    pub fn no_color(&self) -> bool {
        self.get("NO_COLOR").is_some()
    }

    /// Where this user's programs keep their data. A relative `$XDG_DATA_HOME` is ignored, as the
    /// XDG specification says.
    pub fn data_directory(&self) -> Option<PathBuf> {
        let data = self.get("XDG_DATA_HOME").map(PathBuf::from);
        let data = data.filter(|path| path.is_absolute());
        data.or_else(|| Some(PathBuf::from(self.get("HOME")?).join(".local/share")))
    }

    /// A variable that a setting names.
    pub fn named(&self, name: &str) -> Option<String> {
        self.get(name)?.to_str().map(ToOwned::to_owned)
    }

    /// What those see who fetch for a build.
    pub fn handed_on(&self) -> Variables {
        let environment = self.clone();
        Variables::new(move |name| {
            let wanted = HANDED_ON.contains(&name).then_some(name)?;
            environment.get(wanted).map(OsStr::to_owned)
        })
    }

    /// What the variables set.
    pub fn options(&self) -> Result<Options, VariableError> {
        Ok(Options {
            farm: self.parsed("FARM")?,
            slots: self.parsed("SLOTS")?,
            root: self.path("ROOT"),
            limit: self.parsed("LIMIT")?,
            label: self.list("LABEL")?,
            instance: self.list("INSTANCE")?,
            name: self.text("NAME")?,
            memory_reserve: self.parsed("MEMORY_RESERVE")?,
            insecure_registry: self.list("INSECURE_REGISTRY")?,
            token_file: self.path("TOKEN_FILE"),
            ca: self.path("CA"),
            cert: self.path("CERT"),
            key: self.path("KEY"),
            farm_key: self.path("FARM_KEY"),
            cache_sign: self.parsed("CACHE_SIGN")?,
            cache_trust: self.parsed("CACHE_TRUST")?,
            http: self.text("HTTP")?,
            grace: self.parsed("GRACE")?,
            log: self.text("LOG")?,
            log_format: self.text_as("LOG_FORMAT", |text| LogFormat::from_str(text, true))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::value::Span;

    #[test]
    fn every_setting_has_a_variable() {
        let environment = Environment::of_pairs([
            ("ASHLAR_WORKER_FARM", "grpc://farm:8981"),
            ("ASHLAR_WORKER_LABEL", "disk=fast  zone=a"),
            ("ASHLAR_WORKER_INSTANCE", "acme"),
            ("ASHLAR_WORKER_GRACE", "5m"),
            ("ASHLAR_WORKER_LOG_FORMAT", "json"),
            ("ASHLAR_WORKER_SLOTS", ""),
            ("GRACE", "1s"),
        ]);
        let options = environment.options().unwrap();
        assert_eq!(
            options,
            Options {
                farm: "grpc://farm:8981".parse().ok(),
                label: Some(vec![
                    "disk=fast".parse().unwrap(),
                    "zone=a".parse().unwrap()
                ]),
                instance: Some(vec!["acme".to_owned()]),
                grace: Some(Span::of(300)),
                log_format: Some(LogFormat::Json),
                ..Options::default()
            }
        );
    }

    #[test]
    fn a_variable_that_is_wrong_is_named() {
        let environment = Environment::of_pairs([("ASHLAR_WORKER_LABEL", "a=b c")]);
        let error = environment.options().unwrap_err().to_string();
        assert!(error.starts_with("the environment variable ASHLAR_WORKER_LABEL is wrong: `c`"));
    }

    #[test]
    fn logins_of_this_machine_are_not_handed_on() {
        let environment = Environment::of_pairs([
            ("HOME", "/home/me"),
            ("DOCKER_CONFIG", "/secret"),
            ("HTTPS_PROXY", "http://proxy"),
        ]);
        let seen = environment.handed_on();
        assert_eq!(seen.get("HTTPS_PROXY"), Some("http://proxy".into()));
        assert_eq!(seen.get("HOME"), None);
        assert_eq!(seen.get("DOCKER_CONFIG"), None);
    }
}
