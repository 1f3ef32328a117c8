//! Settings: flag, else environment, else file, else default.
//!
//! All three sources fill the same [`Options`]; [`Settings`] are what comes out, with every default
//! in its place. Values of any source are checked in the same way and are written in the same way.

pub mod env;
pub mod file;
pub mod value;

use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;
use ashlar_telemetry::Collector;
use value::{Bytes, Listen, LogFormat, Mode, Percent, Ratio, Span};

/// What can be set. Names in the file have underscores where flags have hyphens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Directory of the store
    #[arg(long, value_name = "DIR", help_heading = "Store")]
    pub root: Option<PathBuf>,

    /// How much the store may take on disk: a size such as 50GB, or none for all that the disk
    /// has. What was used least recently goes first [default: none]
    #[arg(long, value_name = "SIZE", help_heading = "Store")]
    pub limit: Option<Bytes>,

    /// Fuller than this, the store is cleaned in the background [default: 95%]
    #[arg(long, value_name = "PERCENT", help_heading = "Store")]
    pub high_watermark: Option<Percent>,

    /// So full the store is left by cleaning [default: 85%]
    #[arg(long, value_name = "PERCENT", help_heading = "Store")]
    pub low_watermark: Option<Percent>,

    /// What nobody used for so long is removed, however much room there is: 30d, 12h, or none
    /// [default: none]
    #[arg(long, value_name = "TIME", help_heading = "Store")]
    pub unused_for: Option<Span>,

    /// Bytes a second at which everything is read in the background to find damage, or none
    /// [default: 1MB]
    #[arg(long, value_name = "SIZE", help_heading = "Store")]
    pub scrub: Option<Bytes>,

    /// The largest blob that is taken, or none for any [default: none]
    #[arg(long, value_name = "SIZE", help_heading = "Store")]
    pub max_blob: Option<Bytes>,

    /// Where clients come in: HOST:PORT, or unix:PATH [default: 127.0.0.1:8980]
    #[arg(long, value_name = "ADDR", help_heading = "Connections")]
    pub listen: Option<Listen>,

    /// Another address for /metrics, /healthz and /readyz, without token and TLS. They are on the
    /// main address as well, with TLS over HTTP/2 only [default: none]
    #[arg(long, value_name = "ADDR", help_heading = "Connections")]
    pub http: Option<Listen>,

    /// Permissions of a Unix socket, in octal [default: 600]
    #[arg(long, value_name = "MODE", help_heading = "Connections")]
    pub socket_mode: Option<Mode>,

    /// Connections at once; more wait [default: 1000]
    #[arg(long, value_name = "N", help_heading = "Connections")]
    pub max_connections: Option<u32>,

    /// What uploads may hold in memory on their way to the disk [default: 256MB]
    #[arg(long, value_name = "SIZE", help_heading = "Connections")]
    pub upload_memory: Option<Bytes>,

    /// How long requests may go on once the server is told to stop. A second signal ends them at
    /// once [default: 30s]
    #[arg(long, value_name = "TIME", help_heading = "Connections")]
    pub grace: Option<Span>,

    /// Certificate chain for TLS, PEM
    #[arg(long, value_name = "FILE", help_heading = "Security")]
    pub tls_cert: Option<PathBuf>,

    /// Private key for TLS, PEM
    #[arg(long, value_name = "FILE", help_heading = "Security")]
    pub tls_key: Option<PathBuf>,

    /// Tokens of those who may write and read, one on each line. Needed unless the server listens
    /// on a loopback address or a Unix socket, where everyone may write without it
    #[arg(long, value_name = "FILE", help_heading = "Security")]
    pub write_token_file: Option<PathBuf>,

    /// Tokens of those who may read. Without it, everyone who reaches the server reads
    #[arg(long, value_name = "FILE", help_heading = "Security")]
    pub read_token_file: Option<PathBuf>,

    /// Nobody may write
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Security"
    )]
    pub read_only: Option<bool>,

    /// What is logged: error, warn, info, debug, trace, or such a level for each module
    /// [default: info]
    #[arg(long, value_name = "LEVEL", help_heading = "Log")]
    pub log: Option<String>,

    /// How it is logged [default: text]
    #[arg(long, value_enum, value_name = "FORMAT", help_heading = "Log")]
    pub log_format: Option<LogFormat>,

    /// Send traces to this collector of OpenTelemetry (OTLP over gRPC): http://HOST:PORT,
    /// https://HOST:PORT, or env for that in OTEL_EXPORTER_OTLP_ENDPOINT [default: none]
    #[arg(long, value_name = "URL", help_heading = "Log")]
    pub trace: Option<Collector>,

    /// Which part of the requests is traced that are not part of a client's trace: from 0 to 1
    /// [default: 1]
    #[arg(long, value_name = "RATIO", help_heading = "Log")]
    pub trace_sample: Option<Ratio>,
}

impl Options {
    /// These options, and those of `below` where these say nothing.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Self {
            root: self.root.or(below.root),
            limit: self.limit.or(below.limit),
            high_watermark: self.high_watermark.or(below.high_watermark),
            low_watermark: self.low_watermark.or(below.low_watermark),
            unused_for: self.unused_for.or(below.unused_for),
            scrub: self.scrub.or(below.scrub),
            max_blob: self.max_blob.or(below.max_blob),
            listen: self.listen.or(below.listen),
            http: self.http.or(below.http),
            socket_mode: self.socket_mode.or(below.socket_mode),
            max_connections: self.max_connections.or(below.max_connections),
            upload_memory: self.upload_memory.or(below.upload_memory),
            grace: self.grace.or(below.grace),
            tls_cert: self.tls_cert.or(below.tls_cert),
            tls_key: self.tls_key.or(below.tls_key),
            write_token_file: self.write_token_file.or(below.write_token_file),
            read_token_file: self.read_token_file.or(below.read_token_file),
            read_only: self.read_only.or(below.read_only),
            log: self.log.or(below.log),
            log_format: self.log_format.or(below.log_format),
            trace: self.trace.or(below.trace),
            trace_sample: self.trace_sample.or(below.trace_sample),
        }
    }
}

/// What a server runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "they are documented where they are set: `Options`"
)]
pub struct Settings {
    pub root: PathBuf,
    pub limit: Bytes,
    pub high_watermark: Percent,
    pub low_watermark: Percent,
    pub unused_for: Span,
    pub scrub: Bytes,
    pub max_blob: Bytes,
    pub listen: Listen,
    pub http: Option<Listen>,
    pub socket_mode: Mode,
    pub max_connections: u32,
    pub upload_memory: Bytes,
    pub grace: Span,
    pub tls: Option<TlsFiles>,
    pub write_token_file: Option<PathBuf>,
    pub read_token_file: Option<PathBuf>,
    pub read_only: bool,
    pub log: String,
    pub log_format: LogFormat,
    pub trace: Option<Collector>,
    pub trace_sample: Ratio,
}

/// What TLS needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Settings that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// There is no store.
    #[error("no directory for the store is set: give --root DIR, or set root in the file")]
    NoRoot,
    /// Half of what TLS needs.
    #[error("TLS needs both --tls-cert and --tls-key")]
    HalfTls,
    /// Cleaning would not end.
    #[error("the low watermark, {low}, is not below the high one, {high}")]
    Watermarks {
        /// The low one.
        low: Percent,
        /// The high one.
        high: Percent,
    },
    /// A number that stops everything.
    #[error("{0} has to be more than 0")]
    Zero(&'static str),
    /// Two answers to one question.
    #[error("a server that is read-only has no use for --write-token-file")]
    ReadOnlyWithWriters,
    /// Nothing can be stored.
    #[error("a limit of {0} is too small for a store: give 16MB or more")]
    SmallLimit(Bytes),
}

impl Settings {
    /// The settings that options make.
    pub fn resolve(options: Options) -> Result<Self, SettingsError> {
        let high_watermark = options.high_watermark.unwrap_or(Percent(95));
        let low_watermark = options.low_watermark.unwrap_or(Percent(85));
        if low_watermark >= high_watermark {
            return Err(SettingsError::Watermarks {
                low: low_watermark,
                high: high_watermark,
            });
        }
        let tls = match (options.tls_cert, options.tls_key) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            (None, None) => None,
            _ => return Err(SettingsError::HalfTls),
        };
        let limit = options.limit.unwrap_or(Bytes::NONE);
        if limit.given().is_some_and(|limit| limit < 16 << 20) {
            return Err(SettingsError::SmallLimit(limit));
        }
        let read_only = options.read_only.unwrap_or(false);
        if read_only && options.write_token_file.is_some() {
            return Err(SettingsError::ReadOnlyWithWriters);
        }
        let max_connections = options.max_connections.unwrap_or(1000);
        if max_connections == 0 {
            return Err(SettingsError::Zero("max_connections"));
        }
        Ok(Self {
            root: options.root.ok_or(SettingsError::NoRoot)?,
            limit,
            high_watermark,
            low_watermark,
            unused_for: options.unused_for.unwrap_or(Span::NONE),
            scrub: options.scrub.unwrap_or(Bytes::of(1 << 20)),
            max_blob: options.max_blob.unwrap_or(Bytes::NONE),
            listen: options.listen.unwrap_or_default(),
            http: options.http,
            socket_mode: options.socket_mode.unwrap_or_default(),
            max_connections,
            upload_memory: options.upload_memory.unwrap_or(Bytes::of(256 << 20)),
            grace: options.grace.unwrap_or(Span::of(30)),
            tls,
            write_token_file: options.write_token_file,
            read_token_file: options.read_token_file,
            read_only,
            log: options.log.unwrap_or_else(|| "info".to_owned()),
            log_format: options.log_format.unwrap_or_default(),
            trace: options.trace,
            trace_sample: options.trace_sample.unwrap_or_default(),
        })
    }

    /// What is in force, as a file would say it.
    pub fn as_file(&self) -> String {
        let mut lines = Vec::new();
        let mut text = |name: &str, value: String| {
            // A TOML string, with what it escapes escaped.
            lines.push(format!("{name} = {}", toml::Value::String(value)));
        };
        let path = |path: &PathBuf| path.display().to_string();
        text("root", path(&self.root));
        text("limit", self.limit.to_string());
        text("high_watermark", self.high_watermark.to_string());
        text("low_watermark", self.low_watermark.to_string());
        text("unused_for", self.unused_for.to_string());
        text("scrub", self.scrub.to_string());
        text("max_blob", self.max_blob.to_string());
        text("listen", self.listen.to_string());
        if let Some(http) = &self.http {
            text("http", http.to_string());
        }
        text("socket_mode", self.socket_mode.to_string());
        text("upload_memory", self.upload_memory.to_string());
        text("grace", self.grace.to_string());
        if let Some(tls) = &self.tls {
            text("tls_cert", path(&tls.certificate));
            text("tls_key", path(&tls.key));
        }
        if let Some(file) = &self.write_token_file {
            text("write_token_file", path(file));
        }
        if let Some(file) = &self.read_token_file {
            text("read_token_file", path(file));
        }
        text("log", self.log.clone());
        text("log_format", self.log_format.to_string());
        if let Some(trace) = &self.trace {
            text("trace", trace.to_string());
        }
        text("trace_sample", self.trace_sample.to_string());
        lines.push(format!("max_connections = {}", self.max_connections));
        lines.push(format!("read_only = {}", self.read_only));
        lines.push(String::new());
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn what_is_above_wins() {
        let flags = parse("limit = '1GB'").expect("options");
        let environment = parse("limit = '2GB'\nlog = 'debug'").expect("options");
        let file = parse("limit = '3GB'\nlog = 'warn'\nroot = '/c'").expect("options");
        let settings = Settings::resolve(flags.over(environment).over(file)).expect("settings");
        assert_eq!(settings.limit, Bytes::of(1 << 30));
        assert_eq!(settings.log, "debug");
        assert_eq!(settings.root, PathBuf::from("/c"));
        assert_eq!(settings.listen.to_string(), "127.0.0.1:8980");
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let refused = |text: &str| {
            let options = parse(text).expect("options");
            Settings::resolve(options).expect_err("refused")
        };
        assert_eq!(refused(""), SettingsError::NoRoot);
        assert_eq!(
            refused("root = '/c'\ntls_cert = 'a'"),
            SettingsError::HalfTls
        );
        assert_eq!(
            refused("root = '/c'\nhigh_watermark = '50%'\nlow_watermark = '50%'").to_string(),
            "the low watermark, 50%, is not below the high one, 50%"
        );
        assert_eq!(
            refused("root = '/c'\nread_only = true\nwrite_token_file = 't'"),
            SettingsError::ReadOnlyWithWriters
        );
        assert_eq!(
            refused("root = '/c'\nlimit = '1MB'").to_string(),
            "a limit of 1MB is too small for a store: give 16MB or more"
        );
        assert_eq!(
            refused("root = '/c'\nmax_connections = 0"),
            SettingsError::Zero("max_connections")
        );
    }

    #[test]
    fn what_is_in_force_can_be_read_again() {
        let text = "root = '/a \"b\"'\nlisten = 'unix:/run/c'\nlimit = '20GB'\nhttp = '[::1]:9'\n\
                    unused_for = '30d'\ntls_cert = 'c'\ntls_key = 'k'\nread_only = true\n\
                    socket_mode = '660'\nlog_format = 'json'\nread_token_file = 'r'\n\
                    trace = 'http://t:4317'\ntrace_sample = '0.25'\n";
        let settings = Settings::resolve(parse(text).expect("options")).expect("settings");
        let again = parse(&settings.as_file()).expect("options");
        assert_eq!(Settings::resolve(again), Ok(settings));
    }

    #[test]
    fn unknown_names_are_refused() {
        let error = parse("limits = '1GB'").expect_err("unknown");
        assert!(
            error.to_string().contains("unknown field `limits`"),
            "{error}"
        );
    }
}
