//! Tokens for servers.
//!
//! Those of a CI run out within minutes and are written anew into their file: it is read again when
//! it has changed.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ashlar_model::secret::SecretValue;
use ashlar_store::grpc::TokenSource;

use crate::error::WorkshopError;
use crate::variables::Variables;

/// The longest token that is read, in bytes.
const LONGEST_TOKEN: u64 = 64 << 10;
/// How often a file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The token in a file: its first line.
pub(super) fn of_file(path: &Path) -> Result<Arc<dyn TokenSource>, WorkshopError> {
    let (token, version) = read(path).map_err(|error| {
        let what = format!("cannot read the token of the cache in {}", path.display());
        WorkshopError::environment(what).caused_by(error)
    })?;
    let Some(token) = token else {
        let what = format!("the file {} holds no token", path.display());
        return Err(WorkshopError::usage(what).hint("write the token into its first line"));
    };
    Ok(Arc::new(TokenFile {
        path: path.to_owned(),
        known: Mutex::new(Known {
            token,
            version,
            looked: Instant::now(),
        }),
    }))
}

/// The token in an environment variable.
pub(super) fn of_variable(
    variables: &Variables,
    name: &str,
) -> Result<Arc<dyn TokenSource>, WorkshopError> {
    let value = variables
        .text(name)
        .and_then(|text| first_line(text.as_bytes()));
    let token = value.ok_or_else(|| {
        WorkshopError::usage(format!("the variable {name} holds no token for the cache"))
            .hint(format!("set {name}, or take token-env out"))
    })?;
    Ok(Arc::new(token))
}

/// What tells one version of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version(u64, u64, i64, i64);

impl Version {
    fn of(file: &Metadata) -> Self {
        Self(file.ino(), file.size(), file.mtime(), file.mtime_nsec())
    }
}

/// A file with a token.
#[derive(Debug)]
struct TokenFile {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    token: SecretValue,
    version: Version,
    looked: Instant,
}

fn first_line(bytes: &[u8]) -> Option<SecretValue> {
    let line = bytes.split(|byte| *byte == b'\n').next()?.trim_ascii();
    (!line.is_empty()).then(|| SecretValue::new(line.to_vec()))
}

fn read(path: &Path) -> std::io::Result<(Option<SecretValue>, Version)> {
    let file = File::open(path)?;
    let version = Version::of(&file.metadata()?);
    let mut bytes = Vec::new();
    file.take(LONGEST_TOKEN).read_to_end(&mut bytes)?;
    Ok((first_line(&bytes), version))
}

impl TokenSource for TokenFile {
    /// The newest token. While the file is being replaced, the last one.
    fn token(&self) -> Option<SecretValue> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.looked.elapsed() >= LOOK {
            known.looked = Instant::now();
            let changed =
                std::fs::metadata(&self.path).is_ok_and(|file| Version::of(&file) != known.version);
            if changed && let Ok((Some(token), version)) = read(&self.path) {
                known.token = token;
                known.version = version;
            }
        }
        Some(known.token.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_written_anew_is_read_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, " one \nmore\n").unwrap();
        let (token, version) = read(&path).unwrap();
        let looked = Instant::now().checked_sub(LOOK).unwrap();
        let file = TokenFile {
            path: path.clone(),
            known: Mutex::new(Known {
                token: token.unwrap(),
                version,
                looked,
            }),
        };
        let again = || file.known.lock().unwrap().looked = looked;
        let token = || file.token().unwrap().reveal().to_vec();
        assert_eq!(token(), b"one");
        std::fs::write(&path, "another\n").unwrap();
        assert_eq!(token(), b"one", "it was looked at just now");
        again();
        assert_eq!(token(), b"another");
        for gone in [true, false] {
            if gone {
                std::fs::remove_file(&path).unwrap();
            } else {
                std::fs::write(&path, "\n").unwrap();
            }
            again();
            assert_eq!(token(), b"another");
        }
    }

    #[test]
    fn tokens_come_from_variables_too() {
        let variables = Variables::new(|name| match name {
            "T" => Some("token\n".into()),
            "E" => Some("".into()),
            _ => None,
        });
        let token = of_variable(&variables, "T").unwrap().token().unwrap();
        assert_eq!(token.reveal(), b"token");
        for name in ["E", "U"] {
            of_variable(&variables, name).unwrap_err();
        }
    }
}
