//! Manifests: finding out what a tag points to, fetching, pushing.

use ashlar_http::retry::Attempts;
use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::BlobDigest;
use ashlar_model::reference::Reference;
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName};

use super::answer::{BodyError, read_limited};
use super::call::{Call, CallBody, Scope, Subject};
use super::client::{Connection, RegistryClient};
use super::error::RegistryError;
use crate::manifest::{
    ACCEPTED_MEDIA_TYPES, MAX_MANIFEST_SIZE, Manifest, ReadManifestError, describe,
};

/// The digest that a registry says a manifest has.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A manifest as a registry sent it, digest checked.
#[derive(Debug, Clone)]
pub struct FetchedManifest {
    /// Points to it.
    pub descriptor: Descriptor,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What they say.
    pub manifest: Manifest,
}

impl RegistryClient {
    /// What a reference points to now. One small request; the manifest itself is not fetched
    /// unless the registry cannot do without.
    ///
    /// The digest is the registry's word until the manifest is fetched by it.
    pub async fn resolve(&self, reference: &Reference) -> Result<Descriptor, RegistryError> {
        let connection = self.connection(reference.registry())?;
        let call = call(Method::HEAD, reference);
        let exchange = connection.send(&call).await?;
        let status = exchange.response.status();
        if status.is_success()
            && let Some(descriptor) = described_by(exchange.response.headers(), reference)
        {
            return Ok(descriptor);
        }
        // An answer to HEAD has no body, so that GET says more about what is wrong; and there are
        // registries without HEAD.
        drop(exchange);
        let fetched = self.fetch_manifest(reference).await?;
        Ok(fetched.descriptor)
    }

    /// Fetches a manifest or index, by digest if the reference has one, else by tag.
    pub async fn fetch_manifest(
        &self,
        reference: &Reference,
    ) -> Result<FetchedManifest, RegistryError> {
        let connection = self.connection(reference.registry())?;
        let call = call(Method::GET, reference);
        let (bytes, headers) = connection.fetch_small(&call, MAX_MANIFEST_SIZE).await?;
        let unusable = |source| RegistryError::Manifest {
            reference: reference.to_string(),
            source,
        };
        let sent_as = text(&headers, &CONTENT_TYPE).unwrap_or_default();
        let actual = BlobDigest::of(&bytes);
        // The registry's own claim is checked, too: a proxy that answers with a login page must
        // not become an image.
        let claimed = text(&headers, &CONTENT_DIGEST).and_then(|digest| digest.parse().ok());
        if let Some(expected) = reference.digest().or(claimed)
            && expected != actual
        {
            return Err(RegistryError::WrongDigest {
                registry: reference.registry().to_owned(),
                repository: reference.repository().to_owned(),
                expected,
                actual,
            });
        }
        let manifest = Manifest::read(&bytes, sent_as).map_err(unusable)?;
        let media_type = match &manifest {
            Manifest::Image(image) => &image.media_type,
            Manifest::Index(index) => &index.media_type,
        };
        Ok(FetchedManifest {
            descriptor: describe(media_type, &bytes),
            bytes,
            manifest,
        })
    }

    /// Pushes a manifest under a reference's tag, or under its digest if the reference has no tag.
    /// All that the manifest names must be there already.
    pub async fn push_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        bytes: Vec<u8>,
    ) -> Result<Descriptor, RegistryError> {
        let connection = self.connection(reference.registry())?;
        let descriptor = describe(media_type, &bytes);
        let selector = reference
            .tag()
            .map_or_else(|| descriptor.digest.to_string(), str::to_owned);
        let call = Call::new(
            Method::PUT,
            format!("{}/manifests/{selector}", reference.repository()),
            Subject::Manifest(selector),
            Scope::push(reference),
        )
        .header(CONTENT_TYPE, media_type)
        .body(CallBody::Bytes(Bytes::from(bytes)));
        let exchange = connection.send(&call).await?;
        if !exchange.response.status().is_success() {
            return Err(connection.failure(&call, exchange).await);
        }
        let claimed = text(exchange.response.headers(), &CONTENT_DIGEST)
            .and_then(|digest| digest.parse::<BlobDigest>().ok());
        match claimed {
            Some(actual) if actual != descriptor.digest => Err(RegistryError::Protocol {
                registry: reference.registry().to_owned(),
                action: connection.action(&call).await,
                problem: format!("it stored {actual} instead of {}", descriptor.digest),
            }),
            _ => Ok(descriptor),
        }
    }
}

fn call(method: Method, reference: &Reference) -> Call {
    let selector = reference.manifest_selector();
    Call::new(
        method,
        format!("{}/manifests/{selector}", reference.repository()),
        Subject::Manifest(selector),
        Scope::pull(reference),
    )
    .header(ACCEPT, &ACCEPTED_MEDIA_TYPES.join(", "))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The descriptor that the headers of an answer make up; `None` if one of them is missing.
fn described_by(headers: &HeaderMap, reference: &Reference) -> Option<Descriptor> {
    let claimed: Option<BlobDigest> = text(headers, &CONTENT_DIGEST)?.parse().ok();
    let digest = reference.digest().or(claimed)?;
    let size = text(headers, &CONTENT_LENGTH)?.parse().ok()?;
    let media_type = text(headers, &CONTENT_TYPE)?.split(';').next()?.trim();
    ACCEPTED_MEDIA_TYPES
        .contains(&media_type)
        .then(|| Descriptor::new(media_type, digest, size))
}

impl Connection {
    /// Fetches something small whole, again if the connection breaks.
    pub(super) async fn fetch_small(
        &self,
        call: &Call,
        limit: u64,
    ) -> Result<(Vec<u8>, HeaderMap), RegistryError> {
        let idle = self.settings.idle_timeout;
        let mut attempts = Attempts::new(self.settings.retry);
        loop {
            let mut exchange = self.send(call).await?;
            if !exchange.response.status().is_success() {
                return Err(self.failure(call, exchange).await);
            }
            match read_limited(&mut exchange.response, limit, idle).await {
                Ok(bytes) => {
                    let headers = std::mem::take(exchange.response.headers_mut());
                    return Ok((bytes, headers));
                }
                Err(BodyError::TooLarge) => {
                    return Err(RegistryError::Manifest {
                        reference: format!("{}/{}", self.registry, call.scope.repository),
                        source: ReadManifestError::TooLarge(
                            exchange.response.content_length().unwrap_or(limit + 1),
                        ),
                    });
                }
                Err(BodyError::Broken(source)) => {
                    drop(exchange);
                    if !attempts.wait(None).await {
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
}
