//! How a farm is named: as a cache is (`grpc://HOST:PORT,instance=NAME,token-file=FILE,…`), and with
//! `,farm-key=KEY` for the public keys that secrets are sealed to, instead of those that the farm
//! names itself: the key, or a file that has it. `,label=NAME=VALUE` asks for workers that have that
//! label, `,priority=N` for its turn earlier (below 0) or later, as REAPI counts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use ashlar_sharing::address::{AddressError, CacheSpec, Mode};

use crate::seal::{KeyError, Recipient};

/// A farm, and how it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FarmSpec {
    /// Where it is. Its cache is read; what is in it comes from workers.
    pub server: CacheSpec,
    /// Whom secrets are sealed to; whoever the farm says if there is none.
    pub keys: Vec<KeySource>,
    /// What its workers must have beyond platform and isolation.
    pub labels: BTreeMap<String, String>,
    /// Larger numbers are less urgent.
    pub priority: i32,
}

/// What workers find out themselves, and builds ask for by themselves.
const NO_LABELS: [&str; 4] = ["os", "arch", "variant", "isolation"];

/// A label: `NAME=VALUE`, as workers have it.
pub fn label(text: &str) -> Result<(String, String), FarmAddressError> {
    let label = text
        .split_once('=')
        .filter(|(name, value)| !name.is_empty() && !value.is_empty() && !NO_LABELS.contains(name));
    let (name, value) = label.ok_or_else(|| FarmAddressError::Label(text.to_owned()))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Where a public key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// Here.
    Key(Recipient),
    /// In a file.
    File(PathBuf),
}

/// Why a text names no farm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FarmAddressError {
    /// Its address is none.
    #[error(transparent)]
    Address(AddressError),
    /// It begins with no scheme that is known.
    #[error(
        "`{0}` is no address of a farm: write grpc://HOST:PORT, grpcs://HOST:PORT or unix:///PATH"
    )]
    Scheme(String),
    /// An option that is not known, or without value.
    #[error(
        "`{0}` is no option of a farm: they are instance=NAME, token-file=FILE, token-env=VAR, \
         ca=FILE, cert=FILE with key=FILE, label=NAME=VALUE, priority=N, and farm-key=KEY or FILE"
    )]
    Option(String),
    /// A label is none.
    #[error(
        "`{0}` is no label of workers: write label=NAME=VALUE; platforms are asked for with --platform"
    )]
    Label(String),
    /// A priority is none.
    #[error(
        "`{0}` is no priority: write a whole number, below 0 for what is more urgent than usual"
    )]
    Priority(String),
    /// A key is none.
    #[error("farm-key: {0}")]
    Key(#[from] KeyError),
    /// An option that only a cache has.
    #[error("`{0}` says something of a cache: a farm has no such option")]
    OfCache(&'static str),
}

impl From<AddressError> for FarmAddressError {
    fn from(error: AddressError) -> Self {
        match error {
            AddressError::Scheme(text) => Self::Scheme(text),
            AddressError::Option(text) => Self::Option(text),
            error => Self::Address(error),
        }
    }
}

impl FromStr for KeySource {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        // A private key is no file's name, and must not be taken for one and shown.
        if text.trim_start().starts_with("ashlar-farm-") {
            text.parse().map(Self::Key)
        } else {
            Ok(Self::File(text.into()))
        }
    }
}

impl FromStr for FarmSpec {
    type Err = FarmAddressError;

    fn from_str(text: &str) -> Result<Self, FarmAddressError> {
        let mut keys = Vec::new();
        let mut labels = BTreeMap::new();
        let mut priority = 0;
        let mut rest = Vec::new();
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("farm-key", key)) if !key.is_empty() => keys.push(key.parse()?),
                Some(("label", text)) => {
                    let (name, value) = label(text)?;
                    labels.insert(name, value);
                }
                Some(("priority", text)) => {
                    let number = text.parse();
                    priority = number.map_err(|_| FarmAddressError::Priority(text.to_owned()))?;
                }
                Some(("mode", _)) => return Err(FarmAddressError::OfCache("mode")),
                Some(("mounts", _)) => return Err(FarmAddressError::OfCache("mounts")),
                _ => rest.push(part),
            }
        }
        let mut server: CacheSpec = rest.join(",").parse()?;
        server.mode = Mode::Read;
        Ok(Self {
            server,
            keys,
            labels,
            priority,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::FarmKey;

    #[test]
    fn a_farm_is_named_as_a_cache_is() {
        let key = FarmKey::generate().unwrap().recipient();
        let text =
            format!("grpc://a+b:1,instance=team,farm-key={key},token-file=/t,farm-key=/k.pub");
        let spec: FarmSpec = text.parse().unwrap();
        assert_eq!(spec.server.name(), "grpc://a:8980+b:1,instance=team");
        assert_eq!(spec.server.mode, Mode::Read);
        assert_eq!(spec.server.token_file, Some("/t".into()));
        assert_eq!(
            spec.keys,
            [KeySource::Key(key), KeySource::File("/k.pub".into())]
        );
        let spec: FarmSpec = "grpc://a,label=gpu=yes,label=disk=a=b".parse().unwrap();
        let labels = [("disk", "a=b"), ("gpu", "yes")];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(spec.labels, BTreeMap::from(labels));
        let priority = |text: &str| text.parse::<FarmSpec>().map(|spec| spec.priority);
        assert_eq!(priority("grpc://a"), Ok(0));
        assert_eq!(priority("grpc://a,priority=-7"), Ok(-7));
        let wrong = FarmAddressError::Priority("soon".to_owned());
        assert_eq!(priority("grpc://a,priority=soon"), Err(wrong));
    }

    #[test]
    fn what_names_no_farm_says_why() {
        for (text, message) in [
            ("farm:80", "grpc://"),
            ("grpc://a,mode=write", "`mode`"),
            ("grpc://a,mounts=x", "`mounts`"),
            ("grpc://a,colour=red", "`colour=red` is no option of a farm"),
            ("grpc://a,farm-key=", "farm-key=KEY"),
            ("grpc://a,label=gpu", "`gpu` is no label"),
            ("grpc://a,label=arch=arm64", "--platform"),
            ("grpc://a,farm-key=ashlar-farm-key-v1-x", "farm-key"),
        ] {
            let error = text.parse::<FarmSpec>().unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let key = FarmKey::generate().unwrap().to_text();
        let key = std::str::from_utf8(key.reveal()).unwrap().trim();
        let error = format!("grpc://a,farm-key={key}")
            .parse::<FarmSpec>()
            .unwrap_err();
        assert!(error.to_string().contains("private key"));
        assert!(!error.to_string().contains(key));
    }
}
