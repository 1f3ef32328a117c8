//! What servers are told so that they answer.
//!
//! | secret | what it is |
//! |---|---|
//! | `HTTP_AUTH_HEADER_<host>` | value of `Authorization` for files of that host |
//! | `HTTP_AUTH_TOKEN_<host>` | bearer token for files of that host |
//! | `GIT_AUTH_HEADER.<host>`, `GIT_AUTH_HEADER` | value of `Authorization` for repositories |
//! | `GIT_AUTH_TOKEN.<host>`, `GIT_AUTH_TOKEN` | token for repositories, as forges give them out |
//!
//! Source: BuildKit's `source/http/source.go` and `source/git/source.go`. Secrets are in no key, no
//! record, no message and on no command line.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Gives secrets by their ids.
pub trait Secrets: fmt::Debug + Send + Sync {
    /// A secret; `None` if there is none with this id.
    fn secret(&self, id: &str) -> Option<Vec<u8>>;
}

/// There are no secrets.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSecrets;

impl Secrets for NoSecrets {
    fn secret(&self, _id: &str) -> Option<Vec<u8>> {
        None
    }
}

/// The value of `Authorization` for a file of a host.
pub(crate) fn http_authorization(secrets: &dyn Secrets, host: &str) -> Option<String> {
    let text = |id: String| text_of(secrets.secret(&id)?);
    // A token beats a header, as in BuildKit.
    if let Some(token) = text(format!("HTTP_AUTH_TOKEN_{host}")) {
        return Some(format!("Bearer {token}"));
    }
    text(format!("HTTP_AUTH_HEADER_{host}"))
}

/// The value of `Authorization` for repositories of a host.
pub(crate) fn git_authorization(secrets: &dyn Secrets, host: &str) -> Option<String> {
    let ids = [
        (format!("GIT_AUTH_HEADER.{host}"), false),
        (format!("GIT_AUTH_TOKEN.{host}"), true),
        ("GIT_AUTH_HEADER".to_owned(), false),
        ("GIT_AUTH_TOKEN".to_owned(), true),
    ];
    ids.into_iter().find_map(|(id, is_token)| {
        let value = text_of(secrets.secret(&id)?)?;
        Some(if is_token {
            let login = STANDARD.encode(format!("x-access-token:{value}"));
            format!("basic {login}")
        } else {
            value
        })
    })
}

/// A secret as one line: files that people write end in a newline.
fn text_of(secret: Vec<u8>) -> Option<String> {
    let text = String::from_utf8(secret).ok()?;
    let line = text.trim_end_matches(['\n', '\r']);
    (!line.is_empty() && !line.contains(['\n', '\r', '\0'])).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[derive(Debug)]
    struct Known(HashMap<&'static str, &'static str>);

    impl Secrets for Known {
        fn secret(&self, id: &str) -> Option<Vec<u8>> {
            self.0.get(id).map(|value| value.as_bytes().to_vec())
        }
    }

    #[test]
    fn files_take_the_secret_of_their_host() {
        let known = Known(HashMap::from([
            ("HTTP_AUTH_HEADER_a", "Basic x"),
            ("HTTP_AUTH_HEADER_b", "Basic x"),
            ("HTTP_AUTH_TOKEN_b", "t\n"),
            ("HTTP_AUTH_TOKEN_c", "two\nlines"),
        ]));
        let of = |host| http_authorization(&known, host);
        assert_eq!(of("a").as_deref(), Some("Basic x"));
        assert_eq!(of("b").as_deref(), Some("Bearer t"));
        assert_eq!(of("c"), None);
        assert_eq!(of("d"), None);
    }

    #[test]
    fn repositories_take_their_hosts_secret_before_the_general_one() {
        let known = Known(HashMap::from([
            ("GIT_AUTH_TOKEN", "general"),
            ("GIT_AUTH_HEADER.a", "own"),
        ]));
        assert_eq!(git_authorization(&known, "a").as_deref(), Some("own"));
        // x-access-token:general
        assert_eq!(
            git_authorization(&known, "b").as_deref(),
            Some("basic eC1hY2Nlc3MtdG9rZW46Z2VuZXJhbA==")
        );
        assert_eq!(git_authorization(&NoSecrets, "b"), None);
    }
}
