//! Sending a request until there is an answer that counts.
//!
//! Three loops in one: an answer of 401 is met with a login, once; what may pass is waited for, as
//! [`ashlar_http::retry`] has it, unless the call says that it cannot simply be repeated; anything else
//! is the answer.

use ashlar_http::patience::{self, ConnectionError, UploadProgress};
use ashlar_http::retry::{Attempts, is_transient, is_transient_error, retry_after};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderValue};
use reqwest::{Response, StatusCode, Url};
use tokio::sync::OwnedSemaphorePermit;

use super::answer::error_detail;
use super::auth::{with_notes, without_query};
use super::call::{Call, CallBody, Target};
use super::challenge;
use super::client::Connection;
use super::error::RegistryError;

/// An answer, and the permit that counts its connection.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) response: Response,
    _permit: OwnedSemaphorePermit,
}

/// What one attempt gave.
enum Sent {
    Answer(Exchange),
    /// The connection failed or broke.
    Broken(ConnectionError),
    /// The answer is 401.
    Unauthorized(Exchange, Option<HeaderValue>),
}

impl Connection {
    /// Sends a request. The answer may be an error of the registry's, but none that may pass.
    pub(super) async fn send(&self, call: &Call) -> Result<Exchange, RegistryError> {
        let mut attempts = if call.repeatable {
            Attempts::new(self.settings.retry)
        } else {
            Attempts::none_left()
        };
        loop {
            match self.send_with_login(call).await? {
                Ok(exchange) if is_transient(exchange.response.status()) => {
                    let pause = retry_after(exchange.response.headers());
                    // The permit is not held while waiting.
                    let error = self.failure(call, exchange).await;
                    if !attempts.wait(pause).await {
                        return Err(error);
                    }
                }
                Ok(exchange) => return Ok(exchange),
                Err(source) => {
                    if let CallBody::Upload(body) = &call.body
                        && let Some(source) = body.take_failure()
                    {
                        return Err(RegistryError::ReadBlob {
                            digest: body.digest,
                            source,
                        });
                    }
                    if !is_transient_error(&source) || !attempts.wait(None).await {
                        return Err(RegistryError::Unreachable {
                            registry: self.registry.clone(),
                            action: self.action(call).await,
                            source,
                        });
                    }
                }
            }
        }
    }

    /// Sends a request and, if the registry demands a login, sends it again with one. The inner
    /// error is of the connection.
    async fn send_with_login(
        &self,
        call: &Call,
    ) -> Result<Result<Exchange, ConnectionError>, RegistryError> {
        let (refused, used) = match self.send_once(call).await? {
            Sent::Answer(exchange) => return Ok(Ok(exchange)),
            Sent::Broken(error) => return Ok(Err(error)),
            Sent::Unauthorized(exchange, used) => (exchange, used),
        };
        let Some(challenge) = challenge::of_headers(refused.response.headers()) else {
            return Err(self.failure(call, refused).await);
        };
        // Read first: it frees the connection for the second request.
        let error = self.failure(call, refused).await;
        self.authenticator
            .challenged(challenge, used.as_ref())
            .await;
        if self.authorization(call).await?.is_none() {
            return Err(error);
        }
        match self.send_once(call).await? {
            Sent::Answer(exchange) => Ok(Ok(exchange)),
            Sent::Broken(error) => Ok(Err(error)),
            Sent::Unauthorized(exchange, _) => Err(self.failure(call, exchange).await),
        }
    }

    async fn authorization(&self, call: &Call) -> Result<Option<HeaderValue>, RegistryError> {
        self.authenticator
            .authorization(&call.scope, &self.client, &self.settings)
            .await
    }

    async fn url(&self, call: &Call) -> Result<Url, RegistryError> {
        match &call.target {
            Target::Url(url) => Ok(url.clone()),
            Target::Path(path) => {
                let text = format!("{}/v2/{path}", self.base().await?);
                Url::parse(&text).map_err(|_| RegistryError::Protocol {
                    registry: self.registry.clone(),
                    action: text,
                    problem: "that is no URL".to_owned(),
                })
            }
        }
    }

    async fn send_once(&self, call: &Call) -> Result<Sent, RegistryError> {
        let url = self.url(call).await?;
        // A URL that the registry gave may lead elsewhere: logins do not go there.
        let is_registry = match &call.target {
            Target::Path(_) => true,
            Target::Url(url) => {
                let base = Url::parse(self.base().await?).ok();
                base.is_some_and(|base| base.origin() == url.origin())
            }
        };
        let authorization = if is_registry {
            self.authorization(call).await?
        } else {
            None
        };
        // Closed only when the connection is dropped, which nobody does who is using it.
        let Ok(permit) = self.permits.clone().acquire_owned().await else {
            return Err(RegistryError::Protocol {
                registry: self.registry.clone(),
                action: self.action(call).await,
                problem: "the client is shutting down".to_owned(),
            });
        };
        let mut request = self.client.request(call.method.clone(), url);
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        if let Some(value) = &authorization {
            request = request.header(AUTHORIZATION, value);
        }
        request = match &call.body {
            CallBody::Empty if call.method == reqwest::Method::POST => {
                request.header(CONTENT_LENGTH, 0)
            }
            CallBody::Empty => request,
            CallBody::Bytes(bytes) => request.body(bytes.clone()),
            CallBody::Upload(upload) => {
                let body = upload
                    .to_request_body()
                    .map_err(|source| RegistryError::Thread {
                        digest: upload.digest,
                        source: Some(source),
                    })?;
                request.header(CONTENT_LENGTH, upload.length).body(body)
            }
        };
        let upload = match &call.body {
            CallBody::Upload(upload) => Some(&**upload as &dyn UploadProgress),
            _ => None,
        };
        let idle = self.settings.idle_timeout;
        let response = match patience::send(request, upload, idle).await {
            Ok(response) => response,
            Err(error) => return Ok(Sent::Broken(error)),
        };
        let exchange = Exchange {
            response,
            _permit: permit,
        };
        Ok(match exchange.response.status() {
            StatusCode::UNAUTHORIZED if is_registry => Sent::Unauthorized(exchange, authorization),
            _ => Sent::Answer(exchange),
        })
    }

    /// The request as an error message names it.
    pub(super) async fn action(&self, call: &Call) -> String {
        match self.url(call).await {
            Ok(url) => format!("{} {}", call.method, without_query(&url)),
            Err(_) => format!("{} {}", call.method, self.host()),
        }
    }

    /// An answer that is an error, as one of ours.
    pub(super) async fn failure(&self, call: &Call, mut exchange: Exchange) -> RegistryError {
        let status = exchange.response.status();
        let detail = error_detail(&mut exchange.response, self.settings.idle_timeout).await;
        drop(exchange);
        let registry = self.registry.clone();
        let repository = call.scope.repository.clone();
        match status.as_u16() {
            401 | 403 => {
                let login = self.authenticator.login(&repository, &self.settings).await;
                let logged_in = login.credentials.is_some();
                let detail = with_notes(detail, &login.notes);
                if status == StatusCode::UNAUTHORIZED {
                    RegistryError::Unauthorized {
                        registry,
                        repository,
                        detail,
                        logged_in,
                    }
                } else {
                    RegistryError::Denied {
                        registry,
                        repository,
                        detail,
                        logged_in,
                    }
                }
            }
            404 => RegistryError::NotFound {
                registry,
                repository,
                what: call.subject.to_string(),
                detail,
            },
            429 => RegistryError::RateLimited { registry, detail },
            status => RegistryError::Status {
                registry,
                status,
                action: self.action(call).await,
                detail,
            },
        }
    }
}
