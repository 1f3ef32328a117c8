//! Keys that sign results, and whom a build trusts.

pub mod argument;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_model::secret::SecretValue;
use ashlar_sharing::sharing::Proof;
use ashlar_sharing::signature::keys::Now;
use ashlar_sharing::signature::statement::is_name;
use ashlar_sharing::signature::{KeyRing, Policy, Rule, Signed, Signer, Trust};
use serde::Deserialize;

use crate::error::WorkshopError;
use crate::workshop::WarningSink;
use argument::{KeyPlace, SignArg, TrustArg};

/// What stands before the builder's name, in a line before the key.
pub const NAME_LINE: &str = "builder: ";
/// The longest file of keys that is read, in bytes.
const LONGEST_FILE: u64 = 1 << 20;

/// What keys are read with.
pub struct Around<'a> {
    /// Looks a variable of the environment up that holds a key.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The time at which something is signed.
    pub now: Now,
    /// Receives what is odd about keys.
    pub warnings: &'a WarningSink,
}

impl std::fmt::Debug for Around<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Around").finish_non_exhaustive()
    }
}

/// Reads the keys that are named.
///
/// # Errors
///
/// A key or a policy cannot be read, or is none.
pub fn read(
    sign: Option<&SignArg>,
    trust: &TrustArg,
    around: &Around<'_>,
) -> Result<Proof, WorkshopError> {
    let warnings = around.warnings;
    let signer = match sign {
        Some(SignArg::Key { key, name }) => Some(Arc::new(signer(key, name.clone(), around)?)),
        Some(SignArg::None) | None => None,
    };
    let policy = match trust {
        TrustArg::Any => Policy::default(),
        TrustArg::Signed {
            keys,
            signers,
            instances,
        } => Policy::of_all(Trust::Signed(Signed {
            keys: key_ring(keys)?,
            signers: signers.clone(),
            instances: instances.clone(),
        })),
        TrustArg::Policy(path) => policy(path)?,
    };
    if signer.is_some() && !policy.demands_anything() {
        warnings(
            "--cache-sign without --cache-trust: what stands on results of others is not signed",
        );
    }
    Ok(Proof {
        policy: Arc::new(policy),
        signer,
    })
}

fn signer(
    place: &KeyPlace,
    name: Option<String>,
    around: &Around<'_>,
) -> Result<Signer, WorkshopError> {
    let (text, shown, default) = match place {
        KeyPlace::File(path) => {
            let text = text_of(path, "the key")?;
            let others = std::fs::metadata(path).is_ok_and(|file| file.mode() & 0o077 != 0);
            if others {
                (around.warnings)(&format!(
                    "others may read the private key {}: chmod 600 it, or make a new one",
                    path.display()
                ));
            }
            (text, path.display().to_string(), name_of_path(path))
        }
        KeyPlace::Variable(name) => {
            let text = (around.variable)(name).ok_or_else(|| {
                WorkshopError::usage(format!("the variable {name} holds no key to sign with"))
            })?;
            (text, format!("${name}"), "builder".to_owned())
        }
    };
    let name = name.or_else(|| name_in(&text)).unwrap_or(default);
    let pem = text.find("-----BEGIN").map_or("", |begin| &text[begin..]);
    let pem = SecretValue::new(pem.as_bytes().to_vec());
    let signer = Signer::of_pem(&pem, &name, Arc::clone(&around.now));
    signer.map_err(|error| {
        WorkshopError::usage(format!("cannot sign with the key in {shown}"))
            .hint("make one with `ashlar cache keygen FILE`")
            .caused_by(error)
    })
}

/// The builder's name in a key's file.
fn name_in(text: &str) -> Option<String> {
    let line = text.lines().next()?.strip_prefix(NAME_LINE)?.trim();
    is_name(line).then(|| line.to_owned())
}

/// A builder's name made of that of a file.
pub fn name_of_path(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name: String = stem
        .chars()
        .filter(|c| is_name(c.encode_utf8(&mut [0; 4])))
        .take(100)
        .collect();
    if name.is_empty() {
        "builder".to_owned()
    } else {
        name
    }
}

fn text_of(path: &Path, what: &str) -> Result<String, WorkshopError> {
    use std::io::Read as _;
    let read = || {
        let mut text = String::new();
        let file = std::fs::File::open(path)?;
        file.take(LONGEST_FILE).read_to_string(&mut text)?;
        Ok(text)
    };
    read().map_err(|error: std::io::Error| {
        WorkshopError::environment(format!("cannot read {what} in {}", path.display()))
            .caused_by(error)
    })
}

/// The public keys in files, and in the files `*.pub` and `*.pem` of directories.
fn key_ring(paths: &[PathBuf]) -> Result<KeyRing, WorkshopError> {
    let mut keys = KeyRing::default();
    for path in paths {
        let files = if path.is_dir() {
            files_of(path)?
        } else {
            vec![path.clone()]
        };
        for file in &files {
            keys.add_pem(&text_of(file, "the public key")?)
                .map_err(|error| {
                    WorkshopError::usage(format!("cannot trust the key in {}", file.display()))
                        .hint("`ashlar cache keygen` and `openssl pkey -pubout` write public keys")
                        .caused_by(error)
                })?;
        }
        if files.is_empty() {
            let what = format!("the directory {} has no public keys", path.display());
            return Err(WorkshopError::usage(what).hint("their files are named *.pub or *.pem"));
        }
    }
    Ok(keys)
}

fn files_of(directory: &Path) -> Result<Vec<PathBuf>, WorkshopError> {
    let list = || -> std::io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|end| end == "pub" || end == "pem")
            {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    };
    list().map_err(|error| {
        let what = format!("cannot read the public keys in {}", directory.display());
        WorkshopError::environment(what).caused_by(error)
    })
}

/// A policy file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    trust: Vec<Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    cache: Option<String>,
    instance: Option<String>,
    require: Require,
    #[serde(default)]
    keys: Vec<PathBuf>,
    #[serde(default)]
    signers: Vec<String>,
    #[serde(default)]
    instances: Vec<String>,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Require {
    None,
    Signed,
}

fn policy(path: &Path) -> Result<Policy, WorkshopError> {
    let text = text_of(path, "the policy")?;
    let wrong = |why: String| WorkshopError::usage(format!("{} is wrong: {why}", path.display()));
    let file: File = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let directory = path.parent().unwrap_or(Path::new("."));
    let rules = file.trust.into_iter().map(|table| {
        table
            .rule(directory)
            .map_err(|error| error.unwrap_or_else(wrong))
    });
    Ok(Policy::new(rules.collect::<Result<_, _>>()?))
}

/// What is wrong with a table, or with the keys that it names.
enum TableError {
    Text(String),
    Keys(WorkshopError),
}

impl TableError {
    fn unwrap_or_else(self, wrong: impl FnOnce(String) -> WorkshopError) -> WorkshopError {
        match self {
            Self::Text(text) => wrong(text),
            Self::Keys(error) => error,
        }
    }
}

impl Table {
    fn rule(self, directory: &Path) -> Result<Rule, TableError> {
        let text = |text: &str| TableError::Text(text.to_owned());
        let cache = match self.cache {
            None => None,
            // As it is remembered: with its port.
            Some(name) if name.contains("://") => {
                let address: ashlar_sharing::address::Address =
                    name.parse()
                        .map_err(|error: ashlar_sharing::address::AddressError| {
                            TableError::Text(error.to_string())
                        })?;
                Some(address.to_string())
            }
            Some(name) => Some(name),
        };
        let trust = match self.require {
            Require::None if self.keys.is_empty() => Trust::Any,
            Require::None => return Err(text("require = \"none\" takes no keys")),
            Require::Signed if self.keys.is_empty() => {
                return Err(text("require = \"signed\" needs keys = [FILE]"));
            }
            Require::Signed => {
                let keys: Vec<PathBuf> =
                    self.keys.iter().map(|path| directory.join(path)).collect();
                Trust::Signed(Signed {
                    keys: key_ring(&keys).map_err(TableError::Keys)?,
                    signers: self.signers,
                    instances: self.instances,
                })
            }
        };
        Ok(Rule {
            cache,
            instance: self.instance,
            trust: Arc::new(trust),
        })
    }
}

#[cfg(test)]
mod tests {
    use ashlar_sharing::signature::keys::NewKey;

    use super::*;

    fn keys(directory: &Path) -> NewKey {
        let key = NewKey::of_seed([1; 32]).unwrap();
        std::fs::write(directory.join("one.pub"), &key.public).unwrap();
        std::fs::write(directory.join("other.txt"), "no key").unwrap();
        key
    }

    #[test]
    fn a_directory_stands_for_the_keys_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let key = keys(directory.path());
        for path in [
            directory.path().to_owned(),
            directory.path().join("one.pub"),
        ] {
            let ring = key_ring(&[path]).unwrap();
            assert!(ring.get(&key.id).is_some() && ring.len() == 1);
        }
        let empty = directory.path().join("empty");
        std::fs::create_dir(&empty).unwrap();
        for wrong in [empty, directory.path().join("other.txt"), "/nowhere".into()] {
            key_ring(&[wrong]).unwrap_err();
        }
    }

    #[test]
    fn a_policy_says_it_for_each_cache() {
        let directory = tempfile::tempdir().unwrap();
        keys(directory.path());
        let path = directory.path().join("policy.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            policy(&path)
        };
        let policy = read(
            r#"
            [[trust]]
            cache = "grpc://near"
            require = "none"
            [[trust]]
            instance = "org/*"
            require = "signed"
            keys = ["one.pub"]
            signers = ["ci"]
            instances = ["org/main"]
            "#,
        );
        let policy = policy.unwrap();
        assert!(!policy.of("grpc://near:8980", "x").demands());
        let Trust::Signed(signed) = policy.of("grpc://far:1", "org/pr/1").as_ref() else {
            panic!("nothing is demanded");
        };
        assert_eq!((signed.keys.len(), signed.signers.len()), (1, 1));
        assert_eq!(signed.instances, ["org/main"]);
        for wrong in [
            "[[trust]]\nrequire = 'all'",
            "[[trust]]\nrequire = 'signed'",
            "[[trust]]\nrequire = 'none'\nkeys = ['one.pub']",
            "[[trust]]\nrequire = 'signed'\nkeys = ['gone.pub']",
            "[[trust]]\nrequire = 'none'\ncache = 'http://x'",
            "[[trust]]\nrequire = 'none'\nmore = 1",
            "more = 1",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn builders_are_called_as_their_files_say() {
        let path = |text: &str| name_of_path(Path::new(text));
        assert_eq!(path("/etc/ci.pem"), "ci");
        assert_eq!(path("/etc/our builder.pem"), "ourbuilder");
        assert_eq!(path("/etc/ü"), "builder");
        assert_eq!(
            name_in("builder: org/ci\n-----BEGIN"),
            Some("org/ci".to_owned())
        );
        assert_eq!(name_in("builder: a b\n"), None);
        assert_eq!(name_in("-----BEGIN"), None);
    }
}
