//! The environment: the only place of this crate that reads it.
//!
//! | variable | meaning |
//! |---|---|
//! | `ASHLAR_CACHE_SERVER_CONFIG` | the settings file |
//! | `ASHLAR_CACHE_SERVER_` and the name of a setting in capitals, such as `ASHLAR_CACHE_SERVER_LIMIT` | that setting |
//! | `NOTIFY_SOCKET` | where the service manager wants to hear that the server is ready |
//! | `AWS_`…, `GOOGLE_`…, `AZURE_`… | the object store's keys, region, endpoint |
//! | `NO_COLOR` | the log has no colours |
//! | `SSL_CERT_FILE`, `SSL_CERT_DIR`, `https_proxy` and the like | how the keys of issuers of tokens are fetched |
//! | `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` | where traces go, if `trace` is `env` |
//!
//! An empty variable counts as unset.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::str::FromStr;

use ashlar_http::HttpEnvironment;
use clap::ValueEnum as _;

use super::Options;
use super::value::LogFormat;

const PREFIX: &str = "ASHLAR_CACHE_SERVER_";

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

    fn parsed<T>(&self, name: &str) -> Result<Option<T>, VariableError>
    where
        T: FromStr,
        T::Err: ToString,
    {
        self.text_as(name, |text| {
            text.parse().map_err(|error: T::Err| error.to_string())
        })
    }

    fn text_as<T>(
        &self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, VariableError> {
        let name = format!("{PREFIX}{name}");
        let Some(value) = self.get(&name) else {
            return Ok(None);
        };
        let text = value.to_str().ok_or_else(|| "it is no UTF-8".to_owned());
        match text.and_then(read) {
            Ok(value) => Ok(Some(value)),
            Err(reason) => Err(VariableError { name, reason }),
        }
    }

    /// The settings file.
    pub fn config(&self) -> Option<PathBuf> {
        self.path("CONFIG")
    }

    /// Where the service manager listens.
    pub fn notify_socket(&self) -> Option<&OsStr> {
        self.get("NOTIFY_SOCKET")
    }

    /// A variable that others than us have named.
    pub fn variable(&self, name: &str) -> Option<String> {
        self.get(name)?.to_str().map(ToOwned::to_owned)
    }

    /// The variables that object stores are set by: those of their own clients.
    pub fn of_object_stores(&self) -> impl Iterator<Item = (&str, &str)> {
        let variables = self.variables.iter();
        let texts = variables.filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)));
        texts.filter(|(name, _)| {
            let mut prefixes = ["AWS_", "GOOGLE_", "AZURE_"].iter();
            prefixes.any(|prefix| name.starts_with(prefix))
        })
    }

    /// Proxies and certificate authorities for HTTP.
    pub fn http(&self) -> HttpEnvironment {
        HttpEnvironment::from_lookup(|name| self.get(name).map(OsStr::to_owned))
    }

    /// Whether colours are unwanted.
    pub fn no_color(&self) -> bool {
        self.get("NO_COLOR").is_some()
    }

    /// What the environment sets.
    pub fn options(&self) -> Result<Options, VariableError> {
        Ok(Options {
            root: self.path("ROOT"),
            limit: self.parsed("LIMIT")?,
            high_watermark: self.parsed("HIGH_WATERMARK")?,
            low_watermark: self.parsed("LOW_WATERMARK")?,
            unused_for: self.parsed("UNUSED_FOR")?,
            scrub: self.parsed("SCRUB")?,
            max_blob: self.parsed("MAX_BLOB")?,
            redis: self.parsed("REDIS")?,
            redis_prefix: self.parsed("REDIS_PREFIX")?,
            redis_replicas: self.parsed("REDIS_REPLICAS")?,
            redis_password_file: self.path("REDIS_PASSWORD_FILE"),
            redis_ca: self.path("REDIS_CA"),
            objects: self.parsed("OBJECTS")?,
            objects_limit: self.parsed("OBJECTS_LIMIT")?,
            object_options: None,
            peer: self.text_as("PEER", |text| {
                Ok(text.split_whitespace().map(str::to_owned).collect())
            })?,
            peer_listen: self.parsed("PEER_LISTEN")?,
            peer_address: self.parsed("PEER_ADDRESS")?,
            peer_token_file: self.path("PEER_TOKEN_FILE"),
            listen: self.parsed("LISTEN")?,
            http: self.parsed("HTTP")?,
            socket_mode: self.parsed("SOCKET_MODE")?,
            max_connections: self.parsed("MAX_CONNECTIONS")?,
            upload_memory: self.parsed("UPLOAD_MEMORY")?,
            grace: self.parsed("GRACE")?,
            tls_cert: self.path("TLS_CERT"),
            tls_key: self.path("TLS_KEY"),
            tls_client_ca: self.path("TLS_CLIENT_CA"),
            tls_client_required: self.parsed("TLS_CLIENT_REQUIRED")?,
            write_token_file: self.path("WRITE_TOKEN_FILE"),
            read_token_file: self.path("READ_TOKEN_FILE"),
            worker_listen: self.parsed("WORKER_LISTEN")?,
            worker_token_file: self.path("WORKER_TOKEN_FILE"),
            queue_token_file: self.path("QUEUE_TOKEN_FILE"),
            client_grace: self.parsed("CLIENT_GRACE")?,
            worker_lease: self.parsed("WORKER_LEASE")?,
            read_only: self.parsed("READ_ONLY")?,
            audit: self.parsed("AUDIT")?,
            jwt: Vec::new(),
            rule: Vec::new(),
            namespace: Vec::new(),
            log: self.parsed("LOG")?,
            log_format: self.text_as("LOG_FORMAT", |text| LogFormat::from_str(text, true))?,
            trace: self.parsed("TRACE")?,
            trace_sample: self.parsed("TRACE_SAMPLE")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::value::Bytes;

    #[test]
    fn every_setting_has_a_variable() {
        let environment = Environment::of_pairs([
            ("ASHLAR_CACHE_SERVER_ROOT", "/c"),
            ("ASHLAR_CACHE_SERVER_LIMIT", "2GB"),
            ("ASHLAR_CACHE_SERVER_READ_ONLY", "true"),
            ("ASHLAR_CACHE_SERVER_LOG_FORMAT", "json"),
            ("ASHLAR_CACHE_SERVER_SCRUB", ""),
            ("LIMIT", "1GB"),
        ]);
        let options = environment.options().expect("options");
        assert_eq!(
            options,
            Options {
                root: Some("/c".into()),
                limit: Some(Bytes::of(2 << 30)),
                read_only: Some(true),
                log_format: Some(LogFormat::Json),
                ..Options::default()
            }
        );
    }

    #[test]
    fn a_variable_that_is_wrong_is_named() {
        let environment = Environment::of_pairs([("ASHLAR_CACHE_SERVER_LIMIT", "much")]);
        assert_eq!(
            environment.options().expect_err("wrong").to_string(),
            "the environment variable ASHLAR_CACHE_SERVER_LIMIT is wrong: `much` is no size: \
             write a number with a unit, such as 500MB or 20GB, or none"
        );
    }
}
