//! Answering a registry's challenge: basic authentication, or a token from its token server.
//!
//! ```text
//! request ──401, WWW-Authenticate: Bearer realm, service, scope──▶ token server
//!    ▲                                                                │
//!    └───────────── Authorization: Bearer TOKEN ◀── {token, expires_in}
//! ```
//!
//! The challenge of a registry is remembered, so that only the first request of all is turned
//! away; tokens are kept for each set of scopes until they are about to expire. Logins are looked
//! up only when a registry demands one: reading them may run a helper program.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ashlar_http::patience;
use ashlar_http::retry::{Attempts, is_transient, is_transient_error, retry_after};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use serde::Deserialize;

use super::answer::{error_detail, read_limited};
use super::call::Scope;
use super::challenge::{BearerChallenge, Challenge};
use super::credentials::{self, Credentials, Login};
use super::error::RegistryError;
use super::settings::RegistrySettings;

/// Lifetime of a token that names none. Source: Docker token specification, `expires_in`.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
/// A token is not used in its last seconds: the request must still reach the registry.
const MARGIN: Duration = Duration::from_secs(10);
/// Tokens of real registries have some kilobytes.
const MAX_TOKEN_ANSWER: u64 = 1024 * 1024;

/// The login state of one registry.
#[derive(Debug)]
pub(super) struct Authenticator {
    registry: String,
    challenge: Mutex<Option<Challenge>>,
    /// Logins by repository. Held across `.await`, so that a helper program runs once.
    logins: tokio::sync::Mutex<HashMap<String, Login>>,
    /// Tokens by scopes. Held across `.await`, so that requests that start together fetch one
    /// token. Taken before `logins`, never after.
    tokens: tokio::sync::Mutex<HashMap<String, Token>>,
}

struct Token {
    header: HeaderValue,
    expires: Instant,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token(expires {:?})", self.expires)
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Authenticator {
    pub(super) fn new(registry: &str) -> Self {
        Self {
            registry: registry.to_owned(),
            challenge: Mutex::new(None),
            logins: tokio::sync::Mutex::default(),
            tokens: tokio::sync::Mutex::default(),
        }
    }

    fn challenge(&self) -> Option<Challenge> {
        self.challenge
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Remembers what a 401 asked for, and that `rejected` is no good any more.
    pub(super) async fn challenged(&self, challenge: Challenge, rejected: Option<&HeaderValue>) {
        *self
            .challenge
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(challenge);
        if let Some(rejected) = rejected {
            self.tokens
                .lock()
                .await
                .retain(|_, token| token.header != *rejected);
        }
    }

    /// The `Authorization` header for a request; `None` while the registry has not asked, or if
    /// it wants a password and there is none.
    pub(super) async fn authorization(
        &self,
        scope: &Scope,
        client: &Client,
        settings: &RegistrySettings,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        match self.challenge() {
            None => Ok(None),
            Some(Challenge::Basic) => {
                let login = self.login(&scope.repository, settings).await;
                match login.credentials {
                    Some(Credentials::Password { user, password }) => Ok(secret_header(
                        "Basic",
                        &STANDARD.encode(format!("{user}:{password}")),
                    )),
                    _ => Ok(None),
                }
            }
            Some(Challenge::Bearer(challenge)) => self
                .token(&challenge, scope, client, settings)
                .await
                .map(Some),
        }
    }

    /// The login for a repository.
    pub(super) async fn login(&self, repository: &str, settings: &RegistrySettings) -> Login {
        if let Some(given) = &settings.logins {
            return Login {
                credentials: given.of(&self.registry),
                notes: Vec::new(),
            };
        }
        let mut logins = self.logins.lock().await;
        if let Some(login) = logins.get(repository) {
            return login.clone();
        }
        let (registry, name) = (self.registry.clone(), repository.to_owned());
        let environment = settings.environment.clone();
        let login =
            tokio::task::spawn_blocking(move || credentials::find(&registry, &name, &environment))
                .await
                .unwrap_or_default();
        logins.insert(repository.to_owned(), login.clone());
        login
    }

    async fn token(
        &self,
        challenge: &BearerChallenge,
        scope: &Scope,
        client: &Client,
        settings: &RegistrySettings,
    ) -> Result<HeaderValue, RegistryError> {
        let scopes = merged_scopes(scope, challenge.scope.as_deref());
        let key = scopes.join(" ");
        let mut tokens = self.tokens.lock().await;
        if let Some(token) = tokens.get(&key)
            && token.expires > Instant::now()
        {
            return Ok(token.header.clone());
        }
        let login = self.login(&scope.repository, settings).await;
        let request = TokenRequest {
            registry: &self.registry,
            repository: &scope.repository,
            challenge,
            scopes: &scopes,
            login: &login,
        };
        let token = request.fetch(client, settings).await?;
        let header = token.header.clone();
        tokens.insert(key, token);
        Ok(header)
    }
}

/// Our own scopes and the one that the registry named, if it is of another repository: some
/// registries know theirs under another name than we do.
fn merged_scopes(scope: &Scope, challenged: Option<&str>) -> Vec<String> {
    let mut scopes = scope.to_token_scopes();
    for extra in challenged.unwrap_or_default().split(' ') {
        let mut parts = extra.splitn(3, ':');
        let (kind, name) = (parts.next(), parts.next());
        let known = |own: &String| {
            let mut parts = own.splitn(3, ':');
            (parts.next(), parts.next()) == (kind, name)
        };
        // The remembered challenge may be about a repository that this request does not touch.
        if kind.is_some_and(|kind| !kind.is_empty() && kind != "repository")
            && !scopes.iter().any(known)
        {
            scopes.push(extra.to_owned());
        }
    }
    scopes
}

/// A header that `Debug` does not show.
fn secret_header(scheme: &str, secret: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(&format!("{scheme} {secret}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

struct TokenRequest<'a> {
    registry: &'a str,
    repository: &'a str,
    challenge: &'a BearerChallenge,
    scopes: &'a [String],
    login: &'a Login,
}

impl TokenRequest<'_> {
    async fn fetch(
        &self,
        client: &Client,
        settings: &RegistrySettings,
    ) -> Result<Token, RegistryError> {
        let url = self.realm(settings)?;
        let action = format!("the token request to {}", without_query(&url));
        let idle = settings.idle_timeout;
        let mut attempts = Attempts::new(settings.retry);
        loop {
            let (error, pause) =
                match patience::send(self.request(client, url.clone()), None, idle).await {
                    Ok(mut response) if response.status().is_success() => {
                        return match read_limited(&mut response, MAX_TOKEN_ANSWER, idle).await {
                            Ok(body) => self.understand(&body, action),
                            Err(_) => Err(self.protocol(action, "it breaks off")),
                        };
                    }
                    Ok(mut response) => {
                        let status = response.status();
                        let pause = retry_after(response.headers());
                        let detail = error_detail(&mut response, idle).await;
                        let error = self.refused(status, detail, &action);
                        if !is_transient(status) {
                            return Err(error);
                        }
                        (error, pause)
                    }
                    Err(source) => {
                        let transient = is_transient_error(&source);
                        let error = RegistryError::Unreachable {
                            registry: self.registry.to_owned(),
                            action: action.clone(),
                            source,
                        };
                        if !transient {
                            return Err(error);
                        }
                        (error, None)
                    }
                };
            if !attempts.wait(pause).await {
                return Err(error);
            }
        }
    }

    fn realm(&self, settings: &RegistrySettings) -> Result<Url, RegistryError> {
        let action = "the request for access".to_owned();
        let Ok(url) = Url::parse(&self.challenge.realm) else {
            return Err(self.protocol(action, "its token server is no URL"));
        };
        let host = url.host_str().unwrap_or_default();
        let plain_allowed =
            super::endpoint::is_loopback(host) || settings.is_insecure(self.registry);
        match url.scheme() {
            "https" => Ok(url),
            "http" if plain_allowed => Ok(url),
            _ => Err(self.protocol(
                action,
                "its token server does not speak HTTPS; a login would be sent in the clear",
            )),
        }
    }

    fn request(&self, client: &Client, mut url: Url) -> RequestBuilder {
        let service = self.challenge.service.as_deref();
        match &self.login.credentials {
            Some(Credentials::IdentityToken(token)) => {
                let scopes = self.scopes.join(" ");
                let mut form = String::new();
                for (name, value) in [
                    ("grant_type", "refresh_token"),
                    ("client_id", "ashlar"),
                    ("service", service.unwrap_or_default()),
                    ("scope", &scopes),
                    ("refresh_token", token),
                ] {
                    append_form_field(&mut form, name, value);
                }
                client
                    .post(url)
                    .header(
                        reqwest::header::CONTENT_TYPE,
                        "application/x-www-form-urlencoded",
                    )
                    .body(form)
            }
            credentials => {
                {
                    let mut query = url.query_pairs_mut();
                    if let Some(service) = service {
                        query.append_pair("service", service);
                    }
                    for scope in self.scopes {
                        query.append_pair("scope", scope);
                    }
                    if let Some(Credentials::Password { user, .. }) = credentials {
                        query.append_pair("account", user);
                    }
                }
                match credentials {
                    Some(Credentials::Password { user, password }) => {
                        let header =
                            secret_header("Basic", &STANDARD.encode(format!("{user}:{password}")));
                        match header {
                            Some(header) => client.get(url).header(AUTHORIZATION, header),
                            None => client.get(url),
                        }
                    }
                    _ => client.get(url),
                }
            }
        }
    }

    fn understand(&self, body: &[u8], action: String) -> Result<Token, RegistryError> {
        let answer: Option<TokenAnswer> = serde_json::from_slice(body).ok();
        let lifetime = answer
            .as_ref()
            .and_then(|answer| answer.expires_in)
            .filter(|seconds| *seconds > 0)
            .map_or(DEFAULT_LIFETIME, |seconds| {
                // A year is as good as for ever, and cannot overflow the clock.
                Duration::from_secs(seconds.min(365 * 86_400))
            });
        let header = answer
            .and_then(|answer| answer.token.or(answer.access_token))
            .filter(|token| !token.is_empty())
            .and_then(|token| secret_header("Bearer", &token));
        match header {
            Some(header) => Ok(Token {
                header,
                expires: Instant::now() + lifetime.saturating_sub(MARGIN),
            }),
            None => Err(self.protocol(action, "there is no token in it")),
        }
    }

    fn refused(&self, status: StatusCode, detail: String, action: &str) -> RegistryError {
        let registry = self.registry.to_owned();
        let repository = self.repository.to_owned();
        let logged_in = self.login.credentials.is_some();
        match status.as_u16() {
            // Token servers tell a wrong password by 400 and 403, too.
            401 => RegistryError::Unauthorized {
                registry,
                repository,
                detail: with_notes(detail, &self.login.notes),
                logged_in,
            },
            400 | 403 => RegistryError::Denied {
                registry,
                repository,
                detail: with_notes(detail, &self.login.notes),
                logged_in,
            },
            429 => RegistryError::RateLimited { registry, detail },
            status => RegistryError::Status {
                registry,
                status,
                action: action.to_owned(),
                detail,
            },
        }
    }

    fn protocol(&self, action: String, problem: &str) -> RegistryError {
        RegistryError::Protocol {
            registry: self.registry.to_owned(),
            action,
            problem: problem.to_owned(),
        }
    }
}

/// The registry's words, and what went wrong where logins are kept.
pub(super) fn with_notes(detail: String, notes: &[String]) -> String {
    std::iter::once(detail)
        .filter(|detail| !detail.is_empty())
        .chain(notes.iter().cloned())
        .collect::<Vec<_>>()
        .join("; ")
}

/// A URL without its query, which may hold secrets.
pub(super) fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    // Fails only for URLs that cannot have a password.
    let _ignored = url.set_password(None);
    url.into()
}

fn append_form_field(form: &mut String, name: &str, value: &str) {
    if !form.is_empty() {
        form.push('&');
    }
    form.push_str(name);
    form.push('=');
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            form.push(char::from(byte));
        } else {
            // Writing into a string cannot fail.
            let _infallible = write!(form, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_of_other_kinds_are_added_and_of_other_repositories_are_not() {
        let scope = Scope {
            repository: "a".into(),
            push: true,
            mount_from: vec![],
        };
        assert_eq!(
            merged_scopes(&scope, Some("repository:b:pull registry:catalog:*")),
            ["repository:a:pull,push", "registry:catalog:*"]
        );
        assert_eq!(merged_scopes(&scope, None), ["repository:a:pull,push"]);
    }

    #[test]
    fn forms_are_encoded() {
        let mut form = String::new();
        append_form_field(&mut form, "a", "x y/&=é~");
        append_form_field(&mut form, "b", "");
        assert_eq!(form, "a=x%20y%2F%26%3D%C3%A9~&b=");
    }

    #[test]
    fn queries_and_passwords_are_not_shown() {
        let url = Url::parse("https://u:p@host/path?token=secret").unwrap();
        assert_eq!(without_query(&url), "https://u@host/path");
    }
}
