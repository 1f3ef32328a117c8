//! The `WWW-Authenticate` header: which login a registry wants.
//!
//! Grammar: RFC 9110 section 11.6.1. One header may hold several challenges, separated by the same
//! commas that separate a challenge's parameters.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// A way to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User name and password with every request.
    Basic,
    /// A token from a token server.
    Bearer(BearerChallenge),
}

/// Where to get a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BearerChallenge {
    /// The token server's URL.
    pub(super) realm: String,
    /// What the token server calls the registry.
    pub(super) service: Option<String>,
    /// What the token must allow.
    pub(super) scope: Option<String>,
}

/// The challenge to answer among those of a 401: a token if there is that choice, for it is the
/// more narrow right.
pub(super) fn of_headers(headers: &HeaderMap) -> Option<Challenge> {
    let mut basic = None;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let Ok(text) = value.to_str() else { continue };
        for (scheme, parameters) in parse(text) {
            let find = |name: &str| {
                parameters
                    .iter()
                    .find(|(key, _)| key.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.clone())
                    .filter(|value| !value.is_empty())
            };
            if scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = find("realm")
            {
                return Some(Challenge::Bearer(BearerChallenge {
                    realm,
                    service: find("service"),
                    scope: find("scope"),
                }));
            }
            if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
    }
    basic
}

type Parameters = Vec<(String, String)>;

/// The challenges of one header. What does not follow the grammar ends the reading; what came
/// before it counts.
fn parse(text: &str) -> Vec<(String, Parameters)> {
    let mut challenges: Vec<(String, Parameters)> = Vec::new();
    let mut rest = text.trim_start_matches([',', ' ', '\t']);
    while !rest.is_empty() {
        let (word, after) = token(rest);
        if word.is_empty() {
            break;
        }
        let trimmed = after.trim_start();
        match (trimmed.strip_prefix('='), challenges.last_mut()) {
            // `key = value` belongs to the challenge before it.
            (Some(after_equals), Some((_, parameters))) if !trimmed.starts_with("==") => {
                let Some((value, after_value)) = parameter_value(after_equals.trim_start()) else {
                    break;
                };
                parameters.push((word.to_owned(), value));
                rest = after_value;
            }
            // A word alone is a scheme. A token68 behind it (`Negotiate abc==`) has no meaning
            // for the schemes that are known here.
            _ => {
                challenges.push((word.to_owned(), Vec::new()));
                rest = trimmed.trim_start_matches('=');
            }
        }
        rest = rest.trim_start_matches([',', ' ', '\t']);
    }
    challenges
}

/// RFC 9110 `token`.
fn token(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c)))
        .unwrap_or(text.len());
    text.split_at(end)
}

/// A token or a quoted string.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = token(text);
        // Some servers forget the quotes around a URL.
        let more = rest.find([',', ' ']).unwrap_or(rest.len());
        return Some((format!("{value}{}", &rest[..more]), &rest[more..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn challenge(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        of_headers(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer(BearerChallenge {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
        }))
    }

    #[test]
    fn the_usual_token_challenge_is_read() {
        assert_eq!(
            challenge(&[
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#
            ]),
            bearer(
                "https://auth.docker.io/token",
                Some("registry.docker.io"),
                Some("repository:a/b:pull,push")
            )
        );
    }

    #[test]
    fn odd_but_allowed_forms_are_read() {
        assert_eq!(
            challenge(&[r#"bearer  REALM = "https://a/\"t" , Service=x"#]),
            bearer("https://a/\"t", Some("x"), None)
        );
        assert_eq!(
            challenge(&["Bearer realm=https://a/t?x=1,service=s"]),
            bearer("https://a/t?x=1", Some("s"), None)
        );
        assert_eq!(
            challenge(&[r#"Basic realm="x, y""#]),
            Some(Challenge::Basic)
        );
        assert_eq!(challenge(&["BASIC"]), Some(Challenge::Basic));
    }

    #[test]
    fn a_token_is_preferred_among_several() {
        let expected = bearer("https://a", None, None);
        assert_eq!(
            challenge(&[r#"Negotiate abc==, Basic realm="x", Bearer realm="https://a""#]),
            expected
        );
        assert_eq!(
            challenge(&[r#"Basic realm="x""#, r#"Bearer realm="https://a""#]),
            expected
        );
    }

    #[test]
    fn what_cannot_be_answered_is_none() {
        for value in [
            "",
            "Digest realm=\"x\"",
            "Bearer service=\"x\"",
            "=",
            "Bearer realm=\"x",
        ] {
            assert_eq!(challenge(&[value]), None, "{value}");
        }
        assert_eq!(challenge(&[]), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in r#"[ -~]{0,80}"#) {
            let _whatever = parse(&text);
        }

        #[test]
        fn quoted_values_come_back(realm in "[!-~]{1,30}") {
            let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
            prop_assert_eq!(
                challenge(&[&format!("Bearer service=s,realm=\"{quoted}\"")]),
                bearer(&realm, Some("s"), None)
            );
        }
    }
}
