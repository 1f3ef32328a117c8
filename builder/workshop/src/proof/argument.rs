//! What `--cache-sign` and `--cache-trust` get.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use ashlar_sharing::signature::statement::is_name;
use serde::Deserialize;

/// Where a private key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPlace {
    /// In a file.
    File(PathBuf),
    /// In an environment variable.
    Variable(String),
}

/// How results are signed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum SignArg {
    /// Not at all, whatever the environment and the configuration say.
    None,
    /// With a key.
    Key {
        /// Where it is.
        key: KeyPlace,
        /// What the builder is called; `None` to take it from the key's file.
        name: Option<String>,
    },
}

/// Which results are taken from caches.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum TrustArg {
    /// All.
    Any,
    /// Those that are signed.
    Signed {
        /// By keys in these files, or in the files of these directories.
        keys: Vec<PathBuf>,
        /// By builders of these names; empty: any.
        signers: Vec<String>,
        /// For these instances too.
        instances: Vec<String>,
    },
    /// As a file says for each cache.
    Policy(PathBuf),
}

/// A builder's name.
///
/// # Errors
///
/// Why it is none.
pub fn builder_name(text: &str) -> Result<String, String> {
    if is_name(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "`{}` is no builder's name: it has at most 100 letters, digits and characters of `-_.@:/`",
        shown(text)
    ))
}

impl FromStr for SignArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::None);
        }
        let (key, options) = match text.split_once(',') {
            Some((key, options)) => (key, Some(options)),
            None => (text, None),
        };
        let key = match key.strip_prefix("env=") {
            Some("") => return Err("env=VARIABLE needs the name of a variable".to_owned()),
            Some(variable) => KeyPlace::Variable(variable.to_owned()),
            None if key.is_empty() => {
                return Err("there is no key: name a file, or env=VARIABLE".to_owned());
            }
            None if key.contains("-----BEGIN") => {
                return Err(
                    "a key must not stand on a command line: name a file that holds it, \
                            or env=VARIABLE"
                        .to_owned(),
                );
            }
            None => KeyPlace::File(key.into()),
        };
        let name = match options {
            None => None,
            Some(option) => match option.split_once('=') {
                Some(("name", name)) => Some(builder_name(name)?),
                _ => return Err(format!("`{}` is no option: it is name=NAME", shown(option))),
            },
        };
        Ok(Self::Key { key, name })
    }
}

impl TryFrom<String> for SignArg {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl SignArg {
    /// The same with files relative to a directory.
    #[must_use]
    pub fn below(self, directory: &Path) -> Self {
        match self {
            Self::Key {
                key: KeyPlace::File(path),
                name,
            } => Self::Key {
                key: KeyPlace::File(directory.join(path)),
                name,
            },
            other => other,
        }
    }
}

impl FromStr for TrustArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "`{}` says not whom to trust: write any, signed=FILE[+FILE] with \
                 ,signer=NAME[+NAME] and ,instance=NAME[+NAME], or policy=FILE",
                shown(text)
            )
        };
        if text == "any" {
            return Ok(Self::Any);
        }
        if let Some(path) = text.strip_prefix("policy=") {
            return if path.is_empty() {
                Err(bad())
            } else {
                Ok(Self::Policy(path.into()))
            };
        }
        let rest = text.strip_prefix("signed=").ok_or_else(bad)?;
        let mut parts = rest.split(',');
        let keys = parts.next().unwrap_or_default().split('+');
        let keys: Vec<PathBuf> = keys.map(PathBuf::from).collect();
        if keys.iter().any(|key| key.as_os_str().is_empty()) {
            return Err(bad());
        }
        let (mut signers, mut instances) = (Vec::new(), Vec::new());
        for part in parts {
            match part.split_once('=') {
                Some(("signer", names)) => {
                    let names = names.split('+').map(builder_name);
                    signers.extend(names.collect::<Result<Vec<_>, _>>()?);
                }
                Some(("instance", names)) => {
                    instances.extend(names.split('+').map(ToOwned::to_owned));
                }
                _ => return Err(bad()),
            }
        }
        Ok(Self::Signed {
            keys,
            signers,
            instances,
        })
    }
}

impl TryFrom<String> for TrustArg {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TrustArg {
    /// The same with files relative to a directory.
    #[must_use]
    pub fn below(self, directory: &Path) -> Self {
        match self {
            Self::Any => Self::Any,
            Self::Signed {
                keys,
                signers,
                instances,
            } => Self::Signed {
                keys: keys.into_iter().map(|key| directory.join(key)).collect(),
                signers,
                instances,
            },
            Self::Policy(path) => Self::Policy(directory.join(path)),
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_files_or_variables() {
        let sign = |text: &str| text.parse::<SignArg>();
        let file = KeyPlace::File("ci.pem".into());
        let name = None;
        assert_eq!(
            sign("ci.pem"),
            Ok(SignArg::Key {
                key: file.clone(),
                name
            })
        );
        let name = Some("ci/main".to_owned());
        assert_eq!(
            sign("ci.pem,name=ci/main"),
            Ok(SignArg::Key { key: file, name })
        );
        let key = KeyPlace::Variable("KEY".to_owned());
        assert_eq!(sign("env=KEY"), Ok(SignArg::Key { key, name: None }));
        assert_eq!(sign("none"), Ok(SignArg::None));
        for wrong in [
            "",
            "env=",
            "a,b",
            "a,name=",
            "a,name=b c",
            "a,name=b,more=1",
        ] {
            assert!(sign(wrong).is_err(), "{wrong}");
        }
        let told = sign("-----BEGIN PRIVATE KEY----- MC4C").unwrap_err();
        assert!(!told.contains("MC4C"), "{told}");
        let below = sign("ci.pem").unwrap().below(Path::new("/etc"));
        assert_eq!(below, sign("/etc/ci.pem").unwrap());
    }

    #[test]
    fn trust_names_keys_builders_and_instances() {
        let trust = |text: &str| text.parse::<TrustArg>();
        assert_eq!(trust("any"), Ok(TrustArg::Any));
        assert_eq!(
            trust("policy=p.toml"),
            Ok(TrustArg::Policy("p.toml".into()))
        );
        assert_eq!(
            trust("signed=a.pub+/keys,signer=ci+cd,instance=org/main+org/pr/*"),
            Ok(TrustArg::Signed {
                keys: vec!["a.pub".into(), "/keys".into()],
                signers: vec!["ci".into(), "cd".into()],
                instances: vec!["org/main".into(), "org/pr/*".into()],
            })
        );
        for wrong in [
            "",
            "all",
            "signed",
            "signed=",
            "signed=a+",
            "signed=a,b=c",
            "policy=",
        ] {
            assert!(trust(wrong).is_err(), "{wrong}");
        }
        let below = trust("signed=a+/b").unwrap().below(Path::new("/etc"));
        assert_eq!(below, trust("signed=/etc/a+/b").unwrap());
    }
}
