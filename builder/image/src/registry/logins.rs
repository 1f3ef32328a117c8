//! Logins as somebody hands them over: a client to the worker that pulls and pushes for it.
//!
//! They travel as text: `user:password`, or `:identity token`.

use std::collections::BTreeMap;

use ashlar_model::secret::SecretValue;

use super::credentials::{self, Credentials};
use super::settings::RegistryEnvironment;

/// Logins by registry (`host` or `host:port`).
#[derive(Debug, Clone, Default)]
pub struct Logins(BTreeMap<String, SecretValue>);

impl FromIterator<(String, SecretValue)> for Logins {
    fn from_iter<T: IntoIterator<Item = (String, SecretValue)>>(logins: T) -> Self {
        Self(logins.into_iter().collect())
    }
}

impl Logins {
    /// The login for a registry; `None` to be anonymous, also where the text is none.
    pub(super) fn of(&self, registry: &str) -> Option<Credentials> {
        let text = std::str::from_utf8(self.0.get(registry)?.reveal()).ok()?;
        match text.split_once(':')? {
            ("", token) => Some(Credentials::IdentityToken(token.to_owned())),
            (user, password) => Some(Credentials::Password {
                user: user.to_owned(),
                password: password.to_owned(),
            }),
        }
    }
}

/// The login that this machine has for a repository of a registry, as text that [`Logins`] take.
/// Reads files and may run helper programs, so it blocks.
pub fn login_text(
    registry: &str,
    repository: &str,
    environment: &RegistryEnvironment,
) -> Option<SecretValue> {
    let login = credentials::find(registry, repository, environment);
    let text = match login.credentials? {
        Credentials::Password { user, password } => format!("{user}:{password}"),
        Credentials::IdentityToken(token) => format!(":{token}"),
    };
    Some(SecretValue::new(text.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_read_as_they_are_written() {
        let value = |text: &str| SecretValue::new(text.as_bytes().to_vec());
        let logins: Logins = [
            ("a.io".to_owned(), value("me:pass:word")),
            ("b.io:5000".to_owned(), value(":refresh")),
            ("c.io".to_owned(), value("nothing")),
        ]
        .into_iter()
        .collect();
        let expected = Credentials::Password {
            user: "me".into(),
            password: "pass:word".into(),
        };
        assert_eq!(logins.of("a.io"), Some(expected));
        let expected = Credentials::IdentityToken("refresh".into());
        assert_eq!(logins.of("b.io:5000"), Some(expected));
        assert_eq!(logins.of("c.io"), None);
        assert_eq!(logins.of("d.io"), None);
        assert!(!format!("{logins:?}").contains("pass"));
    }

    #[test]
    fn a_login_of_this_machine_becomes_text() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("auth.json");
        // me:pass
        std::fs::write(&file, r#"{"auths":{"a.io":{"auth":"bWU6cGFzcw=="}}}"#).unwrap();
        let environment = RegistryEnvironment {
            registry_auth_file: Some(file),
            ..RegistryEnvironment::default()
        };
        let text = login_text("a.io", "x/y", &environment).unwrap();
        assert_eq!(text.reveal(), b"me:pass");
        assert!(login_text("b.io", "x/y", &environment).is_none());
    }
}
