//! Pushing blobs.
//!
//! Cheapest first: a blob that is there is not sent; one that another repository of the registry
//! holds is mounted from there; else it is streamed in one request. A registry that does not take
//! that gets chunks, and a broken chunked upload goes on where the registry says it stands.

use std::sync::Arc;

use ashlar_http::retry::{Attempts, is_transient_error};
use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::BlobDigest;
use ashlar_model::reference::Reference;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, LOCATION, RANGE};
use reqwest::{Method, StatusCode, Url};

use super::Progress;
use super::blob::blob_path;
use super::call::{Call, CallBody, Scope, Subject, Target};
use super::client::{Connection, RegistryClient};
use super::error::RegistryError;
use super::exchange::Exchange;
use super::upload_body::UploadBody;
use crate::blob_source::BlobSource;

/// How a blob came into a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushedBlob {
    /// It was there already.
    Present,
    /// It was mounted from another repository of the same registry.
    Mounted,
    /// Its bytes were sent.
    Uploaded,
}

/// Size of a chunk, unless the registry wants larger ones. Some registries limit a request to
/// 100 MB (Cloudflare in front of them), and object stores behind a registry want 5 MB or more.
const CHUNK_SIZE: u64 = 32 * 1024 * 1024;

impl RegistryClient {
    /// Makes a repository hold a blob that another repository of the same registry holds. False
    /// if the registry would not.
    pub async fn mount_blob(
        &self,
        repository: &Reference,
        digest: &BlobDigest,
        from: &Reference,
    ) -> Result<bool, RegistryError> {
        let connection = self.connection(repository.registry())?;
        let push = Push {
            connection: &connection,
            repository,
            digest: *digest,
        };
        Ok(matches!(push.mount(from).await?, Mount::Mounted))
    }

    /// Makes a repository hold a blob. `known` are repositories that may hold it already; those of
    /// other registries do not matter.
    pub async fn push_blob(
        &self,
        repository: &Reference,
        descriptor: &Descriptor,
        source: &Arc<dyn BlobSource>,
        known: &[Reference],
        progress: Option<&Progress>,
    ) -> Result<PushedBlob, RegistryError> {
        let connection = self.connection(repository.registry())?;
        let push = Push {
            connection: &connection,
            repository,
            digest: descriptor.digest,
        };
        if push.exists().await? {
            return Ok(PushedBlob::Present);
        }
        let candidates = known.iter().filter(|known| {
            known.registry() == repository.registry()
                && known.repository() != repository.repository()
        });
        let mut session = None;
        for from in candidates.take(MAX_MOUNTS) {
            match push.mount(from).await? {
                Mount::Mounted => return Ok(PushedBlob::Mounted),
                // A refused mount has begun an upload instead. It is used or left to expire.
                Mount::Session(location) => session = Some(location),
                Mount::Refused => {}
            }
        }
        source
            .prepare()
            .await
            .map_err(|source| RegistryError::PrepareBlob {
                digest: descriptor.digest,
                source,
            })?;
        let upload = Upload {
            push: &push,
            size: descriptor.size,
            source,
            progress,
        };
        upload.run(session).await?;
        Ok(PushedBlob::Uploaded)
    }
}

/// Repositories that a mount is tried from. A miss costs a request.
const MAX_MOUNTS: usize = 3;

struct Push<'a> {
    connection: &'a Connection,
    repository: &'a Reference,
    digest: BlobDigest,
}

enum Mount {
    Mounted,
    Session(Url),
    Refused,
}

impl Push<'_> {
    fn call(&self, method: Method, path: String) -> Call {
        Call::new(
            method,
            path,
            Subject::Blob(self.digest),
            Scope::push(self.repository),
        )
    }

    fn url_call(&self, method: Method, url: Url) -> Call {
        Call {
            target: Target::Url(url),
            ..self.call(method, String::new())
        }
    }

    async fn exists(&self) -> Result<bool, RegistryError> {
        let call = self.call(Method::HEAD, blob_path(self.repository, &self.digest));
        let exchange = self.connection.send(&call).await?;
        match exchange.response.status() {
            status if status.is_success() => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.connection.failure(&call, exchange).await),
        }
    }

    async fn mount(&self, from: &Reference) -> Result<Mount, RegistryError> {
        let path = format!(
            "{}/blobs/uploads/?mount={}&from={}",
            self.repository.repository(),
            self.digest,
            from.repository()
        );
        let mut call = self.call(Method::POST, path);
        call.scope.mount_from = vec![from.repository().to_owned()];
        let exchange = match self.connection.send(&call).await {
            Ok(exchange) => exchange,
            // The account may push here but not read there, and a token server may say so at
            // once. That is no reason not to upload.
            Err(RegistryError::Unauthorized { .. } | RegistryError::Denied { .. }) => {
                return Ok(Mount::Refused);
            }
            Err(error) => return Err(error),
        };
        match exchange.response.status() {
            StatusCode::CREATED => Ok(Mount::Mounted),
            StatusCode::ACCEPTED => Ok(self
                .location(&exchange)
                .map_or(Mount::Refused, Mount::Session)),
            _ => Ok(Mount::Refused),
        }
    }

    /// Begins an upload: where to send it, and the answer's headers.
    async fn begin(&self) -> Result<(Url, HeaderMap), RegistryError> {
        let path = format!("{}/blobs/uploads/", self.repository.repository());
        let call = self.call(Method::POST, path);
        let exchange = self.connection.send(&call).await?;
        if exchange.response.status() != StatusCode::ACCEPTED {
            return Err(self.connection.failure(&call, exchange).await);
        }
        match self.location(&exchange) {
            Some(url) => Ok((url, exchange.response.headers().clone())),
            None => Err(RegistryError::Protocol {
                registry: self.connection.registry.clone(),
                action: self.connection.action(&call).await,
                problem: "it does not say where to upload to".to_owned(),
            }),
        }
    }

    /// Where the registry wants the next request of an upload.
    fn location(&self, exchange: &Exchange) -> Option<Url> {
        let response = &exchange.response;
        let text = response.headers().get(LOCATION)?.to_str().ok()?;
        let url = response.url().join(text).ok()?;
        // A registry behind a proxy that ends TLS often says `http`. It means itself.
        let asked = response.url();
        if url.scheme() == "http" && asked.scheme() == "https" && url.host() == asked.host() {
            let mut url = url;
            url.set_scheme("https").ok()?;
            if url.port() == Some(80) {
                url.set_port(asked.port()).ok()?;
            }
            return Some(url);
        }
        matches!(url.scheme(), "http" | "https").then_some(url)
    }
}

struct Upload<'a> {
    push: &'a Push<'a>,
    size: u64,
    source: &'a Arc<dyn BlobSource>,
    progress: Option<&'a Progress>,
}

/// Whether the registry took the blob in one request.
enum Monolithic {
    Taken,
    /// It wants another way.
    Refused(RegistryError),
}

impl Upload<'_> {
    async fn run(&self, mut session: Option<Url>) -> Result<(), RegistryError> {
        let connection = self.push.connection;
        let mut attempts = Attempts::new(connection.settings.retry);
        while connection.uploads.chunks_only.get().is_none() {
            let location = match session.take() {
                Some(location) => location,
                None => self.push.begin().await?.0,
            };
            match self.monolithic(location).await {
                Ok(Monolithic::Taken) => return Ok(()),
                Ok(Monolithic::Refused(error)) if self.size == 0 => return Err(error),
                Ok(Monolithic::Refused(_)) => break,
                // A second break of a large blob may be a proxy's limit on the size of a request:
                // chunks will tell.
                Err(RegistryError::Unreachable { .. })
                    if attempts.made() > 1 && self.size > CHUNK_SIZE =>
                {
                    break;
                }
                // The session may hold a part of the blob: the next attempt gets a new one.
                Err(error) if may_pass(&error) => {
                    if !attempts.wait(None).await {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.chunked().await?;
        // It works in chunks where it did not in one piece: no need to try that again.
        let _already = connection.uploads.chunks_only.set(());
        Ok(())
    }

    fn body(&self, offset: u64, length: u64) -> CallBody {
        CallBody::Upload(UploadBody::new(
            self.push.digest,
            Arc::clone(self.source),
            (offset, length),
            self.progress.cloned(),
        ))
    }

    fn put(&self, location: Url) -> Call {
        let mut url = location;
        // The location's own query must stay as it is: registries sign it.
        url.query_pairs_mut()
            .append_pair("digest", &self.push.digest.to_string());
        self.push
            .url_call(Method::PUT, url)
            .header(CONTENT_TYPE, "application/octet-stream")
    }

    async fn monolithic(&self, location: Url) -> Result<Monolithic, RegistryError> {
        let call = self.put(location).body(self.body(0, self.size));
        let call = Call {
            repeatable: false,
            ..call
        };
        let exchange = self.push.connection.send(&call).await?;
        match exchange.response.status().as_u16() {
            200..=299 => Ok(Monolithic::Taken),
            400 | 405 | 411 | 413 | 501 => Ok(Monolithic::Refused(
                self.push.connection.failure(&call, exchange).await,
            )),
            _ => Err(self.push.connection.failure(&call, exchange).await),
        }
    }

    async fn chunked(&self) -> Result<(), RegistryError> {
        let (mut location, headers) = self.push.begin().await?;
        let chunk_size = minimum_chunk(&headers).max(CHUNK_SIZE);
        let mut offset = 0;
        let mut attempts = Attempts::new(self.push.connection.settings.retry);
        while offset < self.size {
            let length = chunk_size.min(self.size - offset);
            match self.chunk(location.clone(), offset, length).await {
                Ok(next) => {
                    offset += length;
                    location = next;
                    attempts.restart();
                }
                Err(error) => {
                    if !may_pass(&error) || !attempts.wait(None).await {
                        return Err(error);
                    }
                    (location, offset) = self.standing(location, error).await?;
                }
            }
        }
        let call = self.put(location);
        let call = call.header(CONTENT_LENGTH, "0");
        let exchange = self.push.connection.send(&call).await?;
        if exchange.response.status().is_success() {
            Ok(())
        } else {
            Err(self.push.connection.failure(&call, exchange).await)
        }
    }

    async fn chunk(&self, location: Url, offset: u64, length: u64) -> Result<Url, RegistryError> {
        let last = offset + length - 1;
        let call = self
            .push
            .url_call(Method::PATCH, location.clone())
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_RANGE, &format!("{offset}-{last}"))
            .body(self.body(offset, length));
        let call = Call {
            repeatable: false,
            ..call
        };
        let exchange = self.push.connection.send(&call).await?;
        match exchange.response.status() {
            status if status.is_success() => Ok(self.push.location(&exchange).unwrap_or(location)),
            _ => Err(self.push.connection.failure(&call, exchange).await),
        }
    }

    /// Asks where an upload stands after a chunk has failed for `reason`.
    async fn standing(
        &self,
        location: Url,
        reason: RegistryError,
    ) -> Result<(Url, u64), RegistryError> {
        let call = self.push.url_call(Method::GET, location.clone());
        let Ok(exchange) = self.push.connection.send(&call).await else {
            return Err(reason);
        };
        if !exchange.response.status().is_success() {
            return Err(reason);
        }
        let offset = received_bytes(exchange.response.headers());
        match offset {
            Some(offset) if offset <= self.size => {
                let location = self.push.location(&exchange).unwrap_or(location);
                Ok((location, offset))
            }
            _ => Err(reason),
        }
    }
}

/// Whether a failed upload is worth another attempt.
fn may_pass(error: &RegistryError) -> bool {
    match error {
        RegistryError::Unreachable { source, .. } => is_transient_error(source),
        RegistryError::RateLimited { .. } => true,
        RegistryError::Status { status, .. } => matches!(*status, 408 | 416 | 425 | 500 | 502..),
        _ => false,
    }
}

/// `OCI-Chunk-Min-Length`: all chunks but the last must be at least so long.
fn minimum_chunk(headers: &HeaderMap) -> u64 {
    headers
        .get("oci-chunk-min-length")
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or(0)
}

/// Bytes that the registry has, by `Range: 0-LAST`. `0-0` means none or one: registries of
/// Docker's code say it for an empty upload, and sending the first byte again is an error there.
fn received_bytes(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(RANGE)?.to_str().ok()?;
    let (_, last) = value.trim_start_matches("bytes=").split_once('-')?;
    let last: u64 = last.trim().parse().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_registry_has_is_read_from_its_range() {
        for (value, bytes) in [("0-0", 0), ("0-99", 100), ("bytes=0-99", 100)] {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, value.parse().unwrap());
            assert_eq!(received_bytes(&headers), Some(bytes), "{value}");
        }
        assert_eq!(received_bytes(&HeaderMap::new()), None);
    }
}
