//! `config.json` and `auth.json`: the files with logins.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{Credentials, server_name};

/// The part of such a file that says how to log in.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuthFile {
    auths: Option<BTreeMap<String, Option<Entry>>>,
    creds_store: Option<String>,
    cred_helpers: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// A file or an entry is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuthFileError {
    #[error("cannot be read: {0}")]
    Read(std::io::Error),
    #[error("is not valid JSON: {0}")]
    Json(serde_json::Error),
    #[error("the entry for {0} is not the base64 form of `user:password`")]
    Entry(String),
}

impl AuthFile {
    /// Reads a file; `None` if it is not there.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, AuthFileError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(AuthFileError::Read(error)),
        };
        if text.trim_ascii().is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(AuthFileError::Json)
    }

    /// The helper to ask about a registry: its own, else the one for all.
    pub(super) fn helper_for(&self, registry: &str) -> Option<&str> {
        let helpers = self.cred_helpers.as_ref();
        helpers
            .and_then(|helpers| {
                helpers
                    .get(registry)
                    .or_else(|| helpers.get(server_name(registry)))
            })
            .or(self.creds_store.as_ref())
            .map(String::as_str)
            .filter(|name| !name.is_empty())
    }

    /// The login written in the file itself. The entry with the longest path that the repository
    /// lies in wins: `auth.json` may have logins for parts of a registry.
    pub(super) fn entry_for(
        &self,
        registry: &str,
        repository: &str,
    ) -> Option<Result<Credentials, AuthFileError>> {
        let full = format!("{registry}/{repository}");
        self.auths
            .as_ref()?
            .iter()
            .filter(|(key, _)| covers(key, registry, &full))
            .filter_map(|(key, entry)| Some((key, entry.as_ref()?)))
            .filter_map(|(key, entry)| Some((key.len(), entry.credentials(key)?)))
            .max_by_key(|(length, _)| *length)
            .map(|(_, credentials)| credentials)
    }
}

/// Whether an entry's key stands for a repository. Docker has written keys as bare hosts, as URLs,
/// and with the path of an API that is long gone.
fn covers(key: &str, registry: &str, full: &str) -> bool {
    if key == server_name(registry) {
        return true;
    }
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key)
        .trim_end_matches('/');
    let key = ["/v1", "/v2"]
        .iter()
        .find_map(|path| key.strip_suffix(path))
        .unwrap_or(key);
    // Other names of Docker Hub.
    let key = match key {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    };
    full.strip_prefix(key)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Entry {
    /// `None` for an entry without content, as `docker login` leaves beside a credential store.
    fn credentials(&self, key: &str) -> Option<Result<Credentials, AuthFileError>> {
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = filled(&self.identitytoken) {
            return Some(Ok(Credentials::IdentityToken(token)));
        }
        if let (Some(user), Some(password)) = (filled(&self.username), filled(&self.password)) {
            return Some(Ok(Credentials::Password { user, password }));
        }
        let auth = filled(&self.auth)?;
        let decoded = STANDARD
            .decode(auth.trim())
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let split = decoded
            .as_deref()
            .and_then(|text| text.split_once(':'))
            .map(|(user, password)| Credentials::Password {
                user: user.to_owned(),
                // Old versions of Docker padded with NUL bytes.
                password: password.trim_end_matches('\0').to_owned(),
            });
        Some(split.ok_or_else(|| AuthFileError::Entry(key.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> AuthFile {
        serde_json::from_str(text).unwrap()
    }

    fn user(file: &AuthFile, registry: &str, repository: &str) -> Option<String> {
        match file.entry_for(registry, repository)?.unwrap() {
            Credentials::Password { user, .. } => Some(user),
            Credentials::IdentityToken(token) => Some(token),
        }
    }

    #[test]
    fn keys_have_many_spellings() {
        for key in [
            "q.io",
            "https://q.io",
            "http://q.io/",
            "https://q.io/v1/",
            "q.io/v2",
        ] {
            let file = file(&format!(
                r#"{{"auths":{{"{key}":{{"username":"me","password":"p"}}}}}}"#
            ));
            assert_eq!(user(&file, "q.io", "a").as_deref(), Some("me"), "{key}");
            assert_eq!(user(&file, "q.io:5000", "a"), None, "{key}");
            assert_eq!(user(&file, "xq.io", "a"), None, "{key}");
        }
    }

    #[test]
    fn docker_hub_has_many_names() {
        for key in [
            "docker.io",
            "index.docker.io",
            "https://index.docker.io/v1/",
        ] {
            let file = file(&format!(
                r#"{{"auths":{{"{key}":{{"identitytoken":"t"}}}}}}"#
            ));
            assert_eq!(user(&file, "docker.io", "library/a").as_deref(), Some("t"));
            assert_eq!(user(&file, "q.io", "library/a"), None);
        }
    }

    #[test]
    fn the_longest_path_wins() {
        let file = file(
            r#"{"auths":{"q.io":{"identitytoken":"all"},"q.io/team":{"identitytoken":"team"},
                "q.io/team/app":{"identitytoken":"app"},"q.io/empty":{}, "q.io/null":null}}"#,
        );
        for (repository, login) in [
            ("x", "all"),
            ("team/other", "team"),
            ("teamwork", "all"),
            ("team/app", "app"),
            ("empty", "all"),
            ("null/x", "all"),
        ] {
            assert_eq!(user(&file, "q.io", repository).as_deref(), Some(login));
        }
    }

    #[test]
    fn rubbish_in_an_entry_is_told() {
        let file = file(r#"{"auths":{"q.io":{"auth":"%%%"}}}"#);
        let error = file.entry_for("q.io", "a").unwrap().unwrap_err();
        assert!(error.to_string().contains("q.io"), "{error}");
    }

    #[test]
    fn an_empty_file_is_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        fs::write(&path, "\n").unwrap();
        assert!(AuthFile::read(&path).unwrap().is_none());
        fs::write(&path, "{").unwrap();
        AuthFile::read(&path).unwrap_err();
    }
}
