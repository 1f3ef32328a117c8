//! Settings: flag, else environment, else file, else default.
//!
//! All three sources fill the same [`Options`]; [`Settings`] are what comes out, with every default
//! in its place.

pub mod env;
pub mod file;
pub mod value;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ashlar_sharing::address::{CacheSpec, instance_name};
use ashlar_workshop::proof::argument::{SignArg, TrustArg};
use clap::Args;
use serde::Deserialize;

use crate::failure::Failure;
use env::Environment;
use value::{Bytes, Farm, Label, LogFormat, Span};

/// So long work may go on once the worker is told to stop.
const GRACE: Duration = Duration::from_secs(60);
/// So much memory is left to others.
const MEMORY_RESERVE: u64 = 256 << 20;
/// The most that a worker takes at once.
const MOST_SLOTS: u32 = 1024;

/// What can be set. Names in the file have underscores where flags have hyphens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The farm's port for workers: grpc://HOST:PORT, grpcs://HOST:PORT for TLS, or unix:///PATH.
    /// Several servers of one farm: grpcs://HOST:PORT+HOST:PORT
    #[arg(long, value_name = "URL", help_heading = "Farm")]
    pub farm: Option<Farm>,

    /// A file with the token to show, in its first line
    #[arg(long, value_name = "FILE", help_heading = "Farm")]
    pub token_file: Option<PathBuf>,

    /// Certificates of authorities, one of which the farm's has to lead up to, PEM [default: the
    /// system's]
    #[arg(long, value_name = "FILE", help_heading = "Farm")]
    pub ca: Option<PathBuf>,

    /// Certificate to show, PEM
    #[arg(long, value_name = "FILE", help_heading = "Farm")]
    pub cert: Option<PathBuf>,

    /// Its private key, PEM
    #[arg(long, value_name = "FILE", help_heading = "Farm")]
    pub key: Option<PathBuf>,

    /// The key that opens the secrets of builds, as `ashlar-worker keygen` writes it; the workers of
    /// a farm may share one [default: a new one at each start, kept in memory]
    #[arg(long, value_name = "FILE", help_heading = "Farm")]
    pub farm_key: Option<PathBuf>,

    /// Sign the results that are made here with a private key: FILE or env=VARIABLE, as `ashlar cache
    /// keygen` writes it, with ,name=NAME for what the worker is called [default: not]
    #[arg(long, value_name = "KEY[,name=NAME]", help_heading = "Trust")]
    pub cache_sign: Option<SignArg>,

    /// Which results of others steps may stand on: any, signed=FILE+FILE for those that one of these
    /// public keys (files, or directories of them) has signed, with ,signer=NAME and ,instance=NAME; or
    /// policy=FILE [default: any]
    #[arg(long, value_name = "POLICY", help_heading = "Trust")]
    pub cache_trust: Option<TrustArg>,

    /// Namespaces whose work is taken, with all below them; may be repeated [default: all that the
    /// token allows]
    #[arg(long, value_name = "NAME", help_heading = "Work")]
    pub instance: Option<Vec<String>>,

    /// How many segments run at once [default: one for each processor]
    #[arg(long, value_name = "N", help_heading = "Work")]
    pub slots: Option<NonZeroU32>,

    /// Something that this worker has and others have not: NAME=VALUE; may be repeated
    #[arg(long, value_name = "K=V", help_heading = "Work")]
    pub label: Option<Vec<Label>>,

    /// What people see in progress displays [default: host name and process]
    #[arg(long, value_name = "TEXT", help_heading = "Work")]
    pub name: Option<String>,

    /// With less memory left than this, nothing new is begun, or none for no such limit
    /// [default: 256MB]
    #[arg(long, value_name = "SIZE", help_heading = "Work")]
    pub memory_reserve: Option<Bytes>,

    /// A registry (HOST or HOST:PORT) whose certificate is not checked and that may speak plain HTTP;
    /// may be repeated. Those of images that clients push they name themselves
    #[arg(long, value_name = "HOST", help_heading = "Work")]
    pub insecure_registry: Option<Vec<String>>,

    /// Directory of the stores, one for each namespace [default: $XDG_DATA_HOME/ashlar-worker, else
    /// ~/.local/share/ashlar-worker]
    #[arg(long, value_name = "DIR", help_heading = "Store")]
    pub root: Option<PathBuf>,

    /// How much each of them may take: a size such as 50GB, or none for all that the disk has
    /// [default: none]
    #[arg(long, value_name = "SIZE", help_heading = "Store")]
    pub limit: Option<Bytes>,

    /// Address for /metrics, /healthz and /readyz: HOST:PORT [default: none]
    #[arg(long, value_name = "ADDR", help_heading = "Process")]
    pub http: Option<String>,

    /// How long work may go on once the worker is told to stop; what is not done then is handed
    /// back. A second signal hands it back at once [default: 60s]
    #[arg(long, value_name = "TIME", help_heading = "Process")]
    pub grace: Option<Span>,

    /// What is logged: error, warn, info, debug, trace, or such a level for each module
    /// [default: info]
    #[arg(long, value_name = "LEVEL", help_heading = "Process")]
    pub log: Option<String>,

    /// How it is logged [default: text]
    #[arg(long, value_enum, value_name = "FORMAT", help_heading = "Process")]
    pub log_format: Option<LogFormat>,
}

impl Options {
    /// These options, and those of `below` where these say nothing.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Self {
            farm: self.farm.or(below.farm),
            token_file: self.token_file.or(below.token_file),
            ca: self.ca.or(below.ca),
            cert: self.cert.or(below.cert),
            key: self.key.or(below.key),
            farm_key: self.farm_key.or(below.farm_key),
            cache_sign: self.cache_sign.or(below.cache_sign),
            cache_trust: self.cache_trust.or(below.cache_trust),
            instance: self.instance.or(below.instance),
            slots: self.slots.or(below.slots),
            label: self.label.or(below.label),
            name: self.name.or(below.name),
            memory_reserve: self.memory_reserve.or(below.memory_reserve),
            insecure_registry: self.insecure_registry.or(below.insecure_registry),
            root: self.root.or(below.root),
            limit: self.limit.or(below.limit),
            http: self.http.or(below.http),
            grace: self.grace.or(below.grace),
            log: self.log.or(below.log),
            log_format: self.log_format.or(below.log_format),
        }
    }
}

/// What a worker runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "they are documented where they are set: `Options`"
)]
pub struct Settings {
    /// The farm, as a cache for the namespaces of assignments.
    pub farm: CacheSpec,
    pub farm_key: Option<PathBuf>,
    pub cache_sign: Option<SignArg>,
    pub cache_trust: TrustArg,
    pub instances: Vec<String>,
    pub slots: u32,
    pub labels: Vec<Label>,
    pub name: String,
    pub memory_reserve: Option<u64>,
    pub insecure_registries: Vec<String>,
    pub root: PathBuf,
    pub limit: Option<u64>,
    pub http: Option<String>,
    pub grace: Option<Duration>,
    pub log: String,
    pub log_format: LogFormat,
}

impl Settings {
    /// Flags over environment over file. The environment may name the file, too.
    pub fn read(
        file: Option<&Path>,
        flags: Options,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let variables = environment.options().map_err(Failure::usage)?;
        let named = environment.config();
        let file = file.or(named.as_deref());
        let of_file = file.map(file::read).transpose().map_err(Failure::usage)?;
        let options = flags.over(variables).over(of_file.unwrap_or_default());
        Self::resolve(options, environment)
    }

    fn resolve(options: Options, environment: &Environment) -> Result<Self, Failure> {
        let wrong = |what: &str| Failure::new(what).as_usage();
        let Farm(address) = options.farm.ok_or_else(|| {
            wrong("no farm is given")
                .hinted("give --farm grpcs://HOST:PORT, or set ASHLAR_WORKER_FARM")
        })?;
        let mut farm = CacheSpec::new(address);
        farm.token_file = options.token_file;
        farm.ca = options.ca;
        farm.cert = options.cert;
        farm.key = options.key;
        farm.check().map_err(Failure::usage)?;
        let root = options
            .root
            .or_else(|| Some(environment.data_directory()?.join("ashlar-worker")))
            .ok_or_else(|| {
                wrong("cannot tell where the stores are: HOME is not set").hinted("give --root DIR")
            })?;
        // None: the farm knows which ones the token allows.
        let instances = options.instance.unwrap_or_default();
        let instances = instances.iter().map(|name| instance_name(name));
        let slots = options
            .slots
            .map_or_else(processors, NonZeroU32::get)
            .min(MOST_SLOTS);
        Ok(Self {
            farm,
            farm_key: options.farm_key,
            cache_sign: options.cache_sign,
            cache_trust: options.cache_trust.unwrap_or(TrustArg::Any),
            instances: instances
                .collect::<Result<_, _>>()
                .map_err(Failure::usage)?,
            slots,
            labels: options.label.unwrap_or_default(),
            name: options.name.unwrap_or_else(own_name),
            memory_reserve: options
                .memory_reserve
                .map_or(Some(MEMORY_RESERVE), Bytes::given),
            insecure_registries: options.insecure_registry.unwrap_or_default(),
            root: std::path::absolute(&root).unwrap_or(root),
            limit: options.limit.and_then(Bytes::given),
            http: options.http,
            grace: options.grace.map_or(Some(GRACE), Span::given),
            log: options.log.unwrap_or_else(|| "info".to_owned()),
            log_format: options.log_format.unwrap_or_default(),
        })
    }
}

fn processors() -> u32 {
    let number = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    u32::try_from(number).unwrap_or(MOST_SLOTS)
}

/// Host name and process.
fn own_name() -> String {
    let machine = rustix::system::uname();
    let host = machine.nodename().to_string_lossy();
    format!("{host}:{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn farm() -> Options {
        Options {
            farm: "grpc://farm:8981".parse().ok(),
            ..Options::default()
        }
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("worker.toml");
        let text = "farm = 'grpc://file:1'\ngrace = '1s'\nslots = 7\nlabel = ['a=b']\n";
        std::fs::write(&file, text).unwrap();
        let environment = Environment::of_pairs([
            ("ASHLAR_WORKER_GRACE", "2s"),
            ("ASHLAR_WORKER_FARM", "grpc://variable:1"),
            ("HOME", "/home/me"),
        ]);
        let settings = Settings::read(Some(&file), farm(), &environment).unwrap();
        assert_eq!(settings.farm.address.to_string(), "grpc://farm:8981");
        assert_eq!(settings.grace, Some(Duration::from_secs(2)));
        assert_eq!(settings.slots, 7);
        assert_eq!(settings.labels.len(), 1);
        assert_eq!(
            settings.root,
            Path::new("/home/me/.local/share/ashlar-worker")
        );
        assert!(settings.instances.is_empty());
    }

    #[test]
    fn what_is_missing_or_wrong_is_said() {
        let none = Environment::default();
        let read = |options| Settings::read(None, options, &none).unwrap_err();
        assert!(read(Options::default()).render().contains("--farm"));
        assert!(read(farm()).render().contains("--root"));
        let options = Options {
            root: Some("/r".into()),
            instance: Some(vec!["blobs".to_owned()]),
            ..farm()
        };
        assert_eq!(read(options).code, 2);
    }

    #[test]
    fn a_file_with_unknown_names_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("worker.toml");
        std::fs::write(&file, "farms = 'x'").unwrap();
        let error = Settings::read(Some(&file), farm(), &Environment::default());
        assert!(error.unwrap_err().render().contains("farms"));
    }
}
