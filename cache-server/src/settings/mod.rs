//! Settings: flag, else environment, else file, else default.
//!
//! All three sources fill the same [`Options`]; [`Settings`] are what comes out, with every default
//! in its place. Values of any source are checked in the same way and are written in the same way.

pub mod env;
pub mod farm;
pub mod file;
pub mod namespaces;
pub mod source;
pub mod trust;
pub mod value;

use std::path::PathBuf;
use std::time::Duration;

use crate::audit::AuditFile;
use crate::namespaces::Namespaces;
use ashlar_telemetry::Collector;
use clap::Args;
use namespaces::{NamespaceError, NamespaceTable, NamespaceTables};
use serde::Deserialize;
use trust::{JwtTable, RuleTable, Trust, TrustError};
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

    /// Share results with other servers in Redis or Valkey: redis://HOST:PORT/DB, rediss:// for
    /// TLS, redis+cluster:// or redis+sentinel:// with several hosts. Goes with --objects [default:
    /// none]
    #[arg(long, value_name = "URL", help_heading = "Farm")]
    pub redis: Option<String>,

    /// What all keys in Redis begin with: servers with the same one share results [default: farm]
    #[arg(long, value_name = "TEXT", help_heading = "Farm")]
    pub redis_prefix: Option<String>,

    /// So many replicas of Redis have to have a write before it is acknowledged, so that it
    /// outlives a failover [default: 0]
    #[arg(long, value_name = "N", help_heading = "Farm")]
    pub redis_replicas: Option<u32>,

    /// A file with the password for Redis
    #[arg(long, value_name = "FILE", help_heading = "Farm")]
    pub redis_password_file: Option<PathBuf>,

    /// Certificates to trust for Redis instead of the system's, PEM
    #[arg(long, value_name = "FILE", help_heading = "Farm")]
    pub redis_ca: Option<PathBuf>,

    /// Keep blobs in an object store: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX,
    /// az://CONTAINER/PREFIX or file:///DIR. Its options are in the usual environment variables
    /// (AWS_ENDPOINT, AWS_ACCESS_KEY_ID...) or in the table object-options of the file. Goes with
    /// --redis; --root is a near tier then [default: none]
    #[arg(long, value_name = "URL", help_heading = "Farm")]
    pub objects: Option<String>,

    /// How much the object store may hold, or none for any [default: none]
    #[arg(long, value_name = "SIZE", help_heading = "Farm")]
    pub objects_limit: Option<Bytes>,

    /// Options of the object store.
    #[arg(skip)]
    #[serde(rename = "object-options", alias = "object_options")]
    pub object_options: Option<farm::ObjectOptions>,

    /// HOST:PORT of other servers, which share what they have near; may be repeated. A name with
    /// several addresses stands for as many servers, and is looked up again and again
    #[arg(long, value_name = "ADDR", help_heading = "Farm")]
    pub peer: Option<Vec<String>>,

    /// Where other servers come in: HOST:PORT
    #[arg(long, value_name = "ADDR", help_heading = "Farm")]
    pub peer_listen: Option<Listen>,

    /// HOST:PORT under which the other servers see this one
    #[arg(long, value_name = "ADDR", help_heading = "Farm")]
    pub peer_address: Option<String>,

    /// Tokens that servers show each other: the first is shown, all are taken
    #[arg(long, value_name = "FILE", help_heading = "Farm")]
    pub peer_token_file: Option<PathBuf>,

    /// Where clients come in: HOST:PORT, or unix:PATH [default: 127.0.0.1:8980]
    #[arg(long, value_name = "ADDR", help_heading = "Connections")]
    pub listen: Option<Listen>,

    /// Another address for /metrics, /healthz and /readyz, without token and TLS. They are on the
    /// main address as well [default: none]
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

    /// Authorities for certificates of clients, PEM. Rules say what such a client may do
    #[arg(long, value_name = "FILE", help_heading = "Security")]
    pub tls_client_ca: Option<PathBuf>,

    /// Only clients with a certificate come in at all
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Security"
    )]
    pub tls_client_required: Option<bool>,

    /// Tokens of those who may write and read, one on each line. Needed unless the server listens
    /// on a loopback address or a Unix socket, where everyone may write without it
    #[arg(long, value_name = "FILE", help_heading = "Security")]
    pub write_token_file: Option<PathBuf>,

    /// Where workers come in: HOST:PORT, or unix:PATH. With it, the server has a queue of work for
    /// `ashlar-worker` [default: none]
    #[arg(long, value_name = "ADDR", help_heading = "Workers")]
    pub worker_listen: Option<Listen>,

    /// Tokens of workers, one on each line. They count where workers come in and nowhere else.
    /// Needed with --worker-listen unless everyone may write, or a rule grants `work`
    #[arg(long, value_name = "FILE", help_heading = "Workers")]
    pub worker_token_file: Option<PathBuf>,

    /// Tokens of those who may have work done by workers, read, and upload what the work needs, but
    /// store no results. Those of --write-token-file may, too
    #[arg(long, value_name = "FILE", help_heading = "Workers")]
    pub queue_token_file: Option<PathBuf>,

    /// Work of a client that is away for so long is cancelled, unless somebody else waits for it
    /// [default: 1m]
    #[arg(long, value_name = "TIME", help_heading = "Workers")]
    pub client_grace: Option<Span>,

    /// A worker that is not heard of for so long is taken for lost, and its work is given to
    /// another [default: 30s]
    #[arg(long, value_name = "TIME", help_heading = "Workers")]
    pub worker_lease: Option<Span>,

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

    /// Where it is written who changed what and who was refused, as JSON lines: a file, or - for
    /// standard error [default: none]
    #[arg(long, value_name = "FILE", help_heading = "Security")]
    pub audit: Option<AuditFile>,

    /// Issuers of JSON Web Tokens: in the file only.
    #[arg(skip)]
    pub jwt: Vec<JwtTable>,

    /// Who may do what: in the file only.
    #[arg(skip)]
    pub rule: Vec<RuleTable>,

    /// How namespaces are set up: in the file only.
    #[arg(skip)]
    pub namespace: Vec<NamespaceTable>,

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
            redis: self.redis.or(below.redis),
            redis_prefix: self.redis_prefix.or(below.redis_prefix),
            redis_replicas: self.redis_replicas.or(below.redis_replicas),
            redis_password_file: self.redis_password_file.or(below.redis_password_file),
            redis_ca: self.redis_ca.or(below.redis_ca),
            objects: self.objects.or(below.objects),
            objects_limit: self.objects_limit.or(below.objects_limit),
            object_options: self.object_options.or(below.object_options),
            peer: self.peer.or(below.peer),
            peer_listen: self.peer_listen.or(below.peer_listen),
            peer_address: self.peer_address.or(below.peer_address),
            peer_token_file: self.peer_token_file.or(below.peer_token_file),
            listen: self.listen.or(below.listen),
            http: self.http.or(below.http),
            socket_mode: self.socket_mode.or(below.socket_mode),
            max_connections: self.max_connections.or(below.max_connections),
            upload_memory: self.upload_memory.or(below.upload_memory),
            grace: self.grace.or(below.grace),
            tls_cert: self.tls_cert.or(below.tls_cert),
            tls_key: self.tls_key.or(below.tls_key),
            tls_client_ca: self.tls_client_ca.or(below.tls_client_ca),
            tls_client_required: self.tls_client_required.or(below.tls_client_required),
            write_token_file: self.write_token_file.or(below.write_token_file),
            worker_listen: self.worker_listen.or(below.worker_listen),
            worker_token_file: self.worker_token_file.or(below.worker_token_file),
            queue_token_file: self.queue_token_file.or(below.queue_token_file),
            client_grace: self.client_grace.or(below.client_grace),
            worker_lease: self.worker_lease.or(below.worker_lease),
            read_token_file: self.read_token_file.or(below.read_token_file),
            read_only: self.read_only.or(below.read_only),
            audit: self.audit.or(below.audit),
            jwt: [self.jwt, below.jwt].concat(),
            rule: [self.rule, below.rule].concat(),
            namespace: [self.namespace, below.namespace].concat(),
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
    pub root: Option<PathBuf>,
    pub farm: Option<farm::FarmSettings>,
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
    pub worker_listen: Option<Listen>,
    pub worker_token_file: Option<PathBuf>,
    pub queue_token_file: Option<PathBuf>,
    pub client_grace: Duration,
    pub worker_lease: Duration,
    pub read_only: bool,
    pub audit: Option<AuditFile>,
    pub trust: Trust,
    /// What `namespace_tables` mean.
    pub namespaces: Namespaces,
    pub namespace_tables: NamespaceTables,
    pub log: String,
    pub log_format: LogFormat,
    pub trace: Option<Collector>,
    pub trace_sample: Ratio,
}

/// A time in seconds, which has to be within bounds.
fn within(
    name: &'static str,
    given: Option<Span>,
    default: u64,
    shortest: u64,
    longest: u64,
) -> Result<Duration, SettingsError> {
    let time = given.map_or(Some(Duration::from_secs(default)), Span::given);
    time.filter(|time| (shortest..=longest).contains(&time.as_secs()))
        .ok_or(SettingsError::OutOfBounds(name, shortest, longest))
}

/// What TLS needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// Authorities for certificates of clients.
    pub client_ca: Option<PathBuf>,
    /// Whether clients have to have one.
    pub client_required: bool,
}

impl TlsFiles {
    /// All of them.
    pub fn all(&self) -> Vec<PathBuf> {
        let files = [&self.certificate, &self.key].into_iter();
        files.chain(&self.client_ca).cloned().collect()
    }
}

/// Settings that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// There is no store.
    #[error("no directory for the store is set: give --root DIR, or set root in the file")]
    NoRoot,
    /// Half of a farm.
    #[error("--redis and --objects go together: results in the one, blobs in the other")]
    HalfFarm,
    /// A setting of a farm without one.
    #[error("{0} is for a server with --redis and --objects")]
    NoFarm(&'static str),
    /// A limit of a directory that is not there.
    #[error(
        "--limit is for the directory of --root, which is not set; --objects-limit is for --objects"
    )]
    LimitOfNothing,
    /// Less than a handful of packs.
    #[error("a limit of {0} is too small for an object store: give 64MB or more")]
    SmallObjectsLimit(Bytes),
    /// Half of what peers need.
    #[error("--peer, --peer-listen, --peer-address and --peer-token-file go together")]
    HalfPeers,
    /// Nothing is near.
    #[error("--peer shares what servers have near: set --root DIR as well")]
    PeersWithoutRoot,
    /// A peer that is no address.
    #[error("`{0}` is no address of a server: write HOST:PORT")]
    Peer(String),
    /// Half of what TLS needs.
    #[error("TLS needs both --tls-cert and --tls-key")]
    HalfTls,
    /// Certificates of clients without TLS.
    #[error("--tls-client-ca needs TLS: give --tls-cert and --tls-key, too")]
    ClientsWithoutTls,
    /// Certificates that nobody stands for.
    #[error("--tls-client-required needs --tls-client-ca")]
    NoClientAuthority,
    /// Tables that cannot be meant.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Tables of namespaces that cannot be meant.
    #[error(transparent)]
    Namespaces(#[from] NamespaceError),
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
    /// Nothing that workers make could be stored.
    #[error("a server that is read-only has no use for {0}: workers store what they make")]
    ReadOnlyWithWorkers(&'static str),
    /// Servers that cannot pass work on to each other.
    #[error(
        "--worker-listen on a server with --redis needs --peer, --peer-listen, --peer-address, \
         --peer-token-file and --root: one of the servers has the queue of work, and the others \
         pass on to it what they are asked"
    )]
    QueueWithoutPeers,
    /// Workers without a place.
    #[error("{0} is for a server with workers: set --worker-listen, where they come in")]
    NoWorkers(&'static str),
    /// A time that no worker or client can keep.
    #[error("{0} has to be between {1}s and {2}s")]
    OutOfBounds(&'static str, u64, u64),
    /// Nothing can be stored.
    #[error("a limit of {0} is too small for a store: give 16MB or more")]
    SmallLimit(Bytes),
}

impl Settings {
    /// The settings that options make.
    pub fn resolve(mut options: Options) -> Result<Self, SettingsError> {
        let farm = farm::FarmSettings::resolve(&mut options)?;
        if farm.is_none() && options.root.is_none() {
            return Err(SettingsError::NoRoot);
        }
        let high_watermark = options.high_watermark.unwrap_or(Percent(95));
        let low_watermark = options.low_watermark.unwrap_or(Percent(85));
        if low_watermark >= high_watermark {
            return Err(SettingsError::Watermarks {
                low: low_watermark,
                high: high_watermark,
            });
        }
        let client_required = options.tls_client_required.unwrap_or(false);
        if client_required && options.tls_client_ca.is_none() {
            return Err(SettingsError::NoClientAuthority);
        }
        let tls = match (options.tls_cert, options.tls_key) {
            (Some(certificate), Some(key)) => Some(TlsFiles {
                certificate,
                key,
                client_ca: options.tls_client_ca,
                client_required,
            }),
            (None, None) if options.tls_client_ca.is_some() => {
                return Err(SettingsError::ClientsWithoutTls);
            }
            (None, None) => None,
            _ => return Err(SettingsError::HalfTls),
        };
        let trust = Trust {
            issuers: options.jwt,
            rules: options.rule,
        };
        trust.check(tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()))?;
        let namespace_tables = NamespaceTables {
            tables: options.namespace,
        };
        let namespaces = namespaces::resolve(&namespace_tables.tables)?;
        let limit = options.limit.unwrap_or(Bytes::NONE);
        if limit.given().is_some_and(|limit| limit < 16 << 20) {
            return Err(SettingsError::SmallLimit(limit));
        }
        let read_only = options.read_only.unwrap_or(false);
        if read_only && options.write_token_file.is_some() {
            return Err(SettingsError::ReadOnlyWithWriters);
        }
        let workers = [
            ("--worker-token-file", options.worker_token_file.is_some()),
            ("--queue-token-file", options.queue_token_file.is_some()),
            ("--client-grace", options.client_grace.is_some()),
            ("--worker-lease", options.worker_lease.is_some()),
        ];
        let first = workers.into_iter().find(|(_, set)| *set);
        match (&options.worker_listen, first) {
            (None, Some((name, _))) => return Err(SettingsError::NoWorkers(name)),
            (Some(_), _) if farm.as_ref().is_some_and(|farm| farm.peers.is_none()) => {
                return Err(SettingsError::QueueWithoutPeers);
            }
            (Some(_), _) if read_only => {
                return Err(SettingsError::ReadOnlyWithWorkers("--worker-listen"));
            }
            _ => {}
        }
        let max_connections = options.max_connections.unwrap_or(1000);
        if max_connections == 0 {
            return Err(SettingsError::Zero("max_connections"));
        }
        Ok(Self {
            root: options.root,
            farm,
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
            worker_listen: options.worker_listen,
            worker_token_file: options.worker_token_file,
            queue_token_file: options.queue_token_file,
            client_grace: within("--client-grace", options.client_grace, 60, 1, 86_400)?,
            worker_lease: within("--worker-lease", options.worker_lease, 30, 2, 600)?,
            read_only,
            audit: options.audit,
            trust,
            namespaces,
            namespace_tables,
            log: options.log.unwrap_or_else(|| "info".to_owned()),
            log_format: options.log_format.unwrap_or_default(),
            trace: options.trace,
            trace_sample: options.trace_sample.unwrap_or_default(),
        })
    }

    /// Whether there are tables by which blobs are seen by those only who hold them.
    pub fn has_tables(&self) -> bool {
        !self.trust.rules.is_empty() || !self.namespaces.0.is_empty()
    }

    /// The same without what can change while the server runs.
    #[must_use]
    pub fn without_tables(&self) -> Self {
        Self {
            trust: Trust::default(),
            namespaces: Namespaces::default(),
            namespace_tables: NamespaceTables::default(),
            ..self.clone()
        }
    }

    /// The same with what can change while the server runs as others have it.
    #[must_use]
    pub fn with_tables_of(&self, others: Self) -> Self {
        Self {
            trust: others.trust,
            namespaces: others.namespaces,
            namespace_tables: others.namespace_tables,
            ..self.clone()
        }
    }

    /// What is in force, as a file would say it.
    pub fn as_file(&self) -> String {
        let mut lines = Vec::new();
        let mut text = |name: &str, value: String| {
            // A TOML string, with what it escapes escaped.
            lines.push(format!("{name} = {}", toml::Value::String(value)));
        };
        let path = |path: &PathBuf| path.display().to_string();
        if let Some(root) = &self.root {
            text("root", path(root));
        }
        text("limit", self.limit.to_string());
        text("high_watermark", self.high_watermark.to_string());
        text("low_watermark", self.low_watermark.to_string());
        text("unused_for", self.unused_for.to_string());
        text("scrub", self.scrub.to_string());
        text("max_blob", self.max_blob.to_string());
        let farm = self.farm.as_ref().map(farm::FarmSettings::as_file);
        let farm = farm.unwrap_or_default();
        for (name, value) in farm.texts {
            text(name, value);
        }
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
            if let Some(authorities) = &tls.client_ca {
                text("tls_client_ca", path(authorities));
            }
        }
        if let Some(file) = &self.write_token_file {
            text("write_token_file", path(file));
        }
        if let Some(file) = &self.read_token_file {
            text("read_token_file", path(file));
        }
        if let Some(listen) = &self.worker_listen {
            text("worker_listen", listen.to_string());
            text("client_grace", format!("{}s", self.client_grace.as_secs()));
            text("worker_lease", format!("{}s", self.worker_lease.as_secs()));
        }
        for (name, file) in [
            ("worker_token_file", &self.worker_token_file),
            ("queue_token_file", &self.queue_token_file),
        ] {
            if let Some(file) = file {
                text(name, path(file));
            }
        }
        if let Some(file) = &self.audit {
            text("audit", file.to_string());
        }
        text("log", self.log.clone());
        text("log_format", self.log_format.to_string());
        if let Some(trace) = &self.trace {
            text("trace", trace.to_string());
        }
        text("trace_sample", self.trace_sample.to_string());
        lines.extend(farm.others);
        lines.push(format!("max_connections = {}", self.max_connections));
        lines.push(format!("read_only = {}", self.read_only));
        if let Some(tls) = &self.tls {
            lines.push(format!("tls_client_required = {}", tls.client_required));
        }
        lines.push(farm.table);
        // Tables come last. What was read from a file can be written into one.
        lines.push(toml::to_string(&self.trust).unwrap_or_default());
        lines.push(toml::to_string(&self.namespace_tables).unwrap_or_default());
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
        assert_eq!(settings.root, Some(PathBuf::from("/c")));
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
