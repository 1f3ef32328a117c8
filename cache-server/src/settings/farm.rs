//! The stores of a server of a farm: Redis, an object store, other servers.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use super::value::{Bytes, Listen};
use super::{Options, SettingsError};

/// The prefix of the keys in Redis unless another is set.
const PREFIX: &str = ashlar_store::redis::keys::DEFAULT_PREFIX;

/// An option of the object store, as TOML has it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum OptionValue {
    /// A text.
    Text(String),
    /// Yes or no.
    Switch(bool),
    /// A number.
    Number(i64),
}

impl OptionValue {
    /// As a text.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Switch(switch) => switch.to_string(),
            Self::Number(number) => number.to_string(),
        }
    }
}

impl fmt::Debug for OptionValue {
    /// It may be a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Options of the object store by their names.
pub type ObjectOptions = BTreeMap<String, OptionValue>;

/// Where the stores of a farm are.
#[derive(Clone, PartialEq, Eq)]
pub struct FarmSettings {
    /// The address of Redis. It may have a password.
    pub redis: String,
    /// What all keys begin with.
    pub redis_prefix: String,
    /// How many replicas have to have a write before it is acknowledged.
    pub redis_replicas: u32,
    /// A file with the password.
    pub redis_password_file: Option<PathBuf>,
    /// Certificates that that of Redis has to lead up to.
    pub redis_ca: Option<PathBuf>,
    /// The address of the object store.
    pub objects: String,
    /// What its objects may have; none for any.
    pub objects_limit: Bytes,
    /// Its options.
    pub object_options: ObjectOptions,
    /// The other servers.
    pub peers: Option<PeerOptions>,
}

impl fmt::Debug for FarmSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FarmSettings")
            .field("redis", &without_password(&self.redis))
            .field("objects", &self.objects)
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}

/// How servers share what they have near.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerOptions {
    /// Names that lead to the servers, this one included or not.
    pub names: Vec<String>,
    /// Where this one serves the others.
    pub listen: Listen,
    /// Where the others see this one.
    pub address: String,
    /// What they show each other.
    pub token_file: PathBuf,
}

/// The names of those settings that make sense for a farm alone, which are set.
fn of_a_farm(options: &Options) -> Option<&'static str> {
    let set = [
        ("--redis-prefix", options.redis_prefix.is_some()),
        ("--redis-replicas", options.redis_replicas.is_some()),
        (
            "--redis-password-file",
            options.redis_password_file.is_some(),
        ),
        ("--redis-ca", options.redis_ca.is_some()),
        ("--objects-limit", options.objects_limit.is_some()),
        ("[object-options]", options.object_options.is_some()),
        ("--peer", options.peer.is_some()),
        ("--peer-listen", options.peer_listen.is_some()),
        ("--peer-address", options.peer_address.is_some()),
        ("--peer-token-file", options.peer_token_file.is_some()),
    ];
    set.into_iter().find(|(_, set)| *set).map(|(name, _)| name)
}

/// Settings as lines of a file.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Names with texts.
    pub(super) texts: Vec<(&'static str, String)>,
    /// Lines with other values.
    pub(super) others: Vec<String>,
    /// The table at the end.
    pub(super) table: String,
}

impl FarmSettings {
    /// The settings that options make; `None` for a server that has its store on disk.
    pub fn resolve(options: &mut Options) -> Result<Option<Self>, SettingsError> {
        let (redis, objects) = match (options.redis.take(), options.objects.take()) {
            (Some(redis), Some(objects)) => (redis, objects),
            (None, None) => {
                return match of_a_farm(options) {
                    Some(name) => Err(SettingsError::NoFarm(name)),
                    None => Ok(None),
                };
            }
            _ => return Err(SettingsError::HalfFarm),
        };
        if options.limit.and_then(Bytes::given).is_some() && options.root.is_none() {
            return Err(SettingsError::LimitOfNothing);
        }
        let objects_limit = options.objects_limit.unwrap_or(Bytes::NONE);
        if objects_limit.given().is_some_and(|limit| limit < 64 << 20) {
            return Err(SettingsError::SmallObjectsLimit(objects_limit));
        }
        Ok(Some(Self {
            peers: PeerOptions::resolve(options)?,
            redis,
            redis_prefix: options
                .redis_prefix
                .take()
                .unwrap_or_else(|| PREFIX.to_owned()),
            redis_replicas: options.redis_replicas.unwrap_or(0),
            redis_password_file: options.redis_password_file.take(),
            redis_ca: options.redis_ca.take(),
            objects,
            objects_limit,
            object_options: options.object_options.take().unwrap_or_default(),
        }))
    }

    /// What is in force, as a file would say it. What opens doors is left out.
    pub(super) fn as_file(&self) -> Lines {
        let path = |path: &PathBuf| path.display().to_string();
        let mut texts = vec![
            ("redis", without_password(&self.redis)),
            ("redis_prefix", self.redis_prefix.clone()),
            ("objects", self.objects.clone()),
            ("objects_limit", self.objects_limit.to_string()),
        ];
        let files = [
            ("redis_password_file", self.redis_password_file.as_ref()),
            ("redis_ca", self.redis_ca.as_ref()),
        ];
        texts.extend(
            files
                .into_iter()
                .filter_map(|(name, file)| Some((name, path(file?)))),
        );
        let mut others = vec![format!("redis_replicas = {}", self.redis_replicas)];
        if let Some(peers) = &self.peers {
            texts.push(("peer_listen", peers.listen.to_string()));
            texts.push(("peer_address", peers.address.clone()));
            texts.push(("peer_token_file", path(&peers.token_file)));
            let names = peers.names.iter().cloned().map(toml::Value::String);
            others.push(format!("peer = {}", toml::Value::Array(names.collect())));
        }
        let mut table = String::new();
        for (name, value) in &self.object_options {
            let line = if is_secret(name) {
                format!("# {name} is set, and not shown\n")
            } else {
                format!("{name} = {}\n", toml::Value::String(value.text()))
            };
            table.push_str(&line);
        }
        if !table.is_empty() {
            table.insert_str(0, "\n[object-options]\n");
        }
        Lines {
            texts,
            others,
            table,
        }
    }
}

impl PeerOptions {
    fn resolve(options: &mut Options) -> Result<Option<Self>, SettingsError> {
        let names = options.peer.take().unwrap_or_default();
        let parts = (
            options.peer_listen.take(),
            options.peer_address.take(),
            options.peer_token_file.take(),
        );
        let (listen, address, token_file) = match parts {
            (None, None, None) if names.is_empty() => return Ok(None),
            (Some(listen), Some(address), Some(token_file)) if !names.is_empty() => {
                (listen, address, token_file)
            }
            _ => return Err(SettingsError::HalfPeers),
        };
        if options.root.is_none() {
            return Err(SettingsError::PeersWithoutRoot);
        }
        for name in names.iter().chain([&address]) {
            // The same form as an address to listen on.
            if !matches!(name.parse(), Ok(Listen::Tcp(_))) {
                return Err(SettingsError::Peer(name.clone()));
            }
        }
        Ok(Some(Self {
            names,
            listen,
            address,
            token_file,
        }))
    }
}

/// Whether an option is not for everybody's eyes.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_open = name.ends_with("access_key_id") || name.ends_with("_file");
    !is_open
        && ["key", "secret", "token", "password"]
            .iter()
            .any(|word| name.contains(word))
}

/// An address without what stands before its last `@` but a user's name.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let Some((who, place)) = rest.rsplit_once('@') else {
        return url.to_owned();
    };
    match who.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:…@{place}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    const FARM: &str = "redis = 'redis://:pass@r:6379'\nobjects = 's3://b/p'\n";

    fn options(text: &str) -> Options {
        toml::from_str(text).expect("options")
    }

    fn resolve(text: &str) -> Result<Settings, SettingsError> {
        Settings::resolve(options(text))
    }

    #[test]
    fn redis_and_objects_make_a_farm_and_need_no_directory() {
        let settings = resolve(FARM).expect("settings");
        assert_eq!(settings.root, None);
        let farm = settings.farm.expect("a farm");
        assert_eq!(
            (farm.redis_prefix.as_str(), farm.redis_replicas),
            ("farm", 0)
        );
        assert_eq!(farm.objects_limit, Bytes::NONE);
        assert!(farm.peers.is_none());
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let refused = |text: &str| resolve(text).expect_err(text);
        assert_eq!(refused("redis = 'redis://r'"), SettingsError::HalfFarm);
        assert_eq!(refused("objects = 's3://b'"), SettingsError::HalfFarm);
        assert_eq!(
            refused("root = '/c'\nredis_replicas = 1").to_string(),
            "--redis-replicas is for a server with --redis and --objects"
        );
        let with = |more: &str| refused(&format!("{FARM}{more}"));
        assert_eq!(with("limit = '1GB'"), SettingsError::LimitOfNothing);
        assert_eq!(
            with("root = '/c'\npeer = ['a:1']"),
            SettingsError::HalfPeers
        );
        let peers = "peer = ['a:1']\npeer_listen = '[::]:2'\npeer_token_file = 't'\n";
        assert_eq!(
            with(&format!("{peers}peer_address = 'b:2'")),
            SettingsError::PeersWithoutRoot
        );
        assert_eq!(
            with(&format!("root = '/c'\n{peers}peer_address = 'b'")),
            SettingsError::Peer("b".to_owned())
        );
        assert!(matches!(
            with("objects_limit = '1MB'"),
            SettingsError::SmallObjectsLimit(_)
        ));
    }

    #[test]
    fn what_is_in_force_is_shown_without_what_opens_doors() {
        let text = format!(
            "{FARM}root = '/c'\npeer = ['a:1', 'c:1']\npeer_listen = '[::]:2'\n\
             peer_token_file = 't'\npeer_address = 'b:2'\n[object-options]\n\
             endpoint = 'http://h:9000'\nallow_http = true\naccess_key_id = 'mason'\n\
             secret_access_key = 'chisel'\n"
        );
        let shown = resolve(&text).expect("settings").as_file();
        assert!(
            !shown.contains("pass@") && !shown.contains("chisel"),
            "{shown}"
        );
        let again = resolve(&shown).expect("settings").farm.expect("a farm");
        let peers = again.peers.as_ref().expect("peers");
        assert_eq!(peers.names, ["a:1", "c:1"]);
        assert_eq!(again.object_options["allow_http"].text(), "true");
        assert_eq!(again.object_options["access_key_id"].text(), "mason");
        assert!(!format!("{again:?}").contains("mason"));
    }
}
