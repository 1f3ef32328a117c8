//! The user's configuration file: TOML, fields that are not known refused.
//!
//! ```toml
//! cache_wait = 30               # seconds
//! cache_sign = "ci.pem,name=ci" # as --cache-sign; files relative to this one
//! cache_trust = "signed=ci.pub" # as --cache-trust
//! trace = "http://otel:4317"
//!
//! [[cache]]
//! url = "grpcs://cache.example.com:443"
//! instance = "main"
//! mode = "read"                 # or write, or readwrite
//! token_file = "cache-token"    # relative to this file; or token_env = "VARIABLE"
//! ca = "/etc/ssl/our-ca.pem"
//! cert = "builder.pem"          # shown to servers that ask for one
//! key = "builder.key"
//! mounts = ["apt", "cargo"]
//!
//! [remote]                      # the farm that builds run on
//! url = "grpcs://farm.example.com:443"
//! instance = "main"             # and token_file, token_env, ca, cert, key as above
//! farm_keys = ["farm.pub"]      # whom secrets are sealed to: keys, or files with them
//! labels = ["gpu=yes"]          # what its workers must have
//! priority = 10                 # larger numbers are less urgent
//! ```

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ashlar_remote::address::{FarmSpec, KeySource, label};
use ashlar_sharing::address::{CacheSpec, instance_name};
use ashlar_telemetry::Collector;
use serde::Deserialize;

use crate::cli::value::{SignArg, TrustArg};
use crate::diagnostics::CliError;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// Caches, in the order in which they are asked.
    pub caches: Vec<CacheSpec>,
    /// How many seconds a build waits at its end until its results are sent.
    pub cache_wait: Option<u64>,
    /// Whether and how results are signed.
    pub sign: Option<SignArg>,
    /// Which results are taken from caches.
    pub trust: Option<TrustArg>,
    /// Where traces of builds go.
    pub trace: Option<Collector>,
    /// The farm that builds run on.
    pub remote: Option<FarmSpec>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cache_wait: Option<u64>,
    cache_sign: Option<String>,
    cache_trust: Option<String>,
    trace: Option<Collector>,
    #[serde(default)]
    cache: Vec<Cache>,
    remote: Option<Remote>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Remote {
    url: String,
    #[serde(default)]
    instance: String,
    token_file: Option<PathBuf>,
    token_env: Option<String>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    #[serde(default)]
    farm_keys: Vec<String>,
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    priority: i32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cache {
    url: String,
    #[serde(default)]
    instance: String,
    mode: Option<String>,
    token_file: Option<PathBuf>,
    token_env: Option<String>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    #[serde(default)]
    mounts: Vec<String>,
}

impl Config {
    /// Reads a file. One that is not there says nothing.
    pub fn read(path: &Path) -> Result<Self, CliError> {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let directory = path.parent().unwrap_or(Path::new("/"));
                Self::parse(&text, directory)
                    .map_err(|why| CliError::usage(format!("{} is wrong: {why}", path.display())))
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(Self::default())
            }
            Err(error) => Err(
                CliError::environment(format!("cannot read {}", path.display())).caused_by(error),
            ),
        }
    }

    fn parse(text: &str, directory: &Path) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let caches = file.cache.into_iter().map(|cache| cache.spec(directory));
        Ok(Self {
            caches: caches.collect::<Result<_, _>>()?,
            cache_wait: file.cache_wait,
            sign: argument("cache_sign", file.cache_sign)?.map(|one: SignArg| one.below(directory)),
            trust: argument("cache_trust", file.cache_trust)?
                .map(|one: TrustArg| one.below(directory)),
            trace: file.trace,
            remote: file
                .remote
                .map(|remote| remote.spec(directory))
                .transpose()
                .map_err(|error| format!("remote: {error}"))?,
        })
    }
}

/// A value that is written as the flag's.
fn argument<T: FromStr<Err = String>>(
    name: &str,
    text: Option<String>,
) -> Result<Option<T>, String> {
    let parsed = text.map(|text| text.parse());
    parsed.transpose().map_err(|why| format!("{name}: {why}"))
}

impl Remote {
    fn spec(self, directory: &Path) -> Result<FarmSpec, String> {
        let server = Cache {
            url: self.url,
            instance: self.instance,
            mode: Some("read".to_owned()),
            token_file: self.token_file,
            token_env: self.token_env,
            ca: self.ca,
            cert: self.cert,
            key: self.key,
            mounts: Vec::new(),
        };
        let keys = self.farm_keys.iter().map(|text| {
            let source = text.parse().map_err(|error| format!("farm_keys: {error}"));
            Ok::<_, String>(match source? {
                KeySource::File(path) => KeySource::File(directory.join(path)),
                key @ KeySource::Key(_) => key,
            })
        });
        let labels = self.labels.iter().map(|text| label(text));
        Ok(FarmSpec {
            keys: keys.collect::<Result<_, _>>()?,
            labels: labels
                .collect::<Result<_, _>>()
                .map_err(|error| format!("labels: {error}"))?,
            server: server.spec(directory)?,
            priority: self.priority,
        })
    }
}

impl Cache {
    fn spec(self, directory: &Path) -> Result<CacheSpec, String> {
        let address = self.url.parse().map_err(|error| format!("url: {error}"))?;
        let mut spec = CacheSpec::new(address);
        spec.instance = instance_name(&self.instance).map_err(|error| error.to_string())?;
        if let Some(mode) = self.mode {
            spec.mode = mode.parse().map_err(|error| format!("mode: {error}"))?;
        }
        spec.token_file = self.token_file.map(|path| directory.join(path));
        spec.token_env = self.token_env;
        spec.ca = self.ca.map(|path| directory.join(path));
        spec.cert = self.cert.map(|path| directory.join(path));
        spec.key = self.key.map(|path| directory.join(path));
        spec.mounts = self.mounts;
        spec.check().map_err(|error| error.to_string())?;
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/etc/ashlar"))
    }

    #[test]
    fn caches_are_read_in_order() {
        let config = parse(
            r#"
            cache_wait = 5
            cache_sign = "ci.pem"
            cache_trust = "signed=/etc/keys+our.pub"
            [[cache]]
            url = "unix:///run/cache.sock"
            [[cache]]
            url = "grpcs://cache.example.com"
            instance = "main"
            mode = "read"
            token_file = "token"
            ca = "/ca.pem"
            mounts = ["apt"]
            "#,
        )
        .unwrap();
        assert_eq!(config.cache_wait, Some(5));
        let names: Vec<String> = config.caches.iter().map(CacheSpec::name).collect();
        assert_eq!(
            names,
            [
                "unix:///run/cache.sock",
                "grpcs://cache.example.com:8980,instance=main"
            ]
        );
        assert_eq!(config.sign, "/etc/ashlar/ci.pem".parse().ok());
        let trust = "signed=/etc/keys+/etc/ashlar/our.pub".parse();
        assert_eq!(config.trust, trust.ok());
        let second = &config.caches[1];
        assert!(!second.mode.writes());
        assert_eq!(second.token_file, Some("/etc/ashlar/token".into()));
        assert_eq!(second.ca, Some("/ca.pem".into()));
        assert_eq!(second.mounts, ["apt"]);
    }

    #[test]
    fn a_farm_is_read() {
        let key = "ashlar-farm-key-v1-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let text = format!(
            "[remote]\nurl = 'grpc://farm:1'\ninstance = 'x'\ntoken_file = 't'\n\
             farm_keys = ['farm.pub', '{key}']\nlabels = ['gpu=yes']\npriority = 7"
        );
        let farm = parse(&text).unwrap().remote.unwrap();
        assert_eq!(farm.server.name(), "grpc://farm:1,instance=x");
        assert!(!farm.server.mode.writes());
        assert_eq!(farm.server.token_file, Some("/etc/ashlar/t".into()));
        let file = KeySource::File("/etc/ashlar/farm.pub".into());
        assert_eq!(farm.keys, [file, key.parse().unwrap()]);
        assert_eq!(farm.labels.get("gpu").map(String::as_str), Some("yes"));
        assert_eq!(farm.priority, 7);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, message) in [
            ("caches = []", "caches"),
            ("[[cache]]\nurl = 'http://x'", "http://x"),
            ("[[cache]]\nurl = 'grpc://x'\nmode = 'rw'", "rw"),
            ("[remote]\nurl = 'grpc://x'\nlabels = ['gpu']", "labels"),
            ("[[cache]]\nurl = 'grpc://x'\ntoken = 's'", "token"),
            ("[[cache]]\ninstance = 'x'", "url"),
            ("[[cache]]\nurl = 'grpc://x'\ninstance = 'blobs'", "blobs"),
            ("[remote]\ninstance = 'x'", "url"),
            ("[remote]\nurl = 'grpc://x'\nmode = 'read'", "mode"),
            ("[remote]\nurl = 'http://x'", "remote: url"),
            ("cache_wait = -1", "line 1"),
            ("cache_trust = 'all'", "cache_trust"),
            ("[[cache]]\nurl = 'grpcs://x'\ncert = 'c'", "key"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_says_nothing() {
        let config = Config::read(Path::new("/nowhere/config.toml")).unwrap();
        assert_eq!(config, Config::default());
    }
}
