//! Fetching blobs into the local store.
//!
//! A download goes on where an earlier one stopped, in this process or another, by asking for a
//! range. It is tried again as long as it makes progress.

use ashlar_http::download::{Download, Start, Wanted, WriteError};
use ashlar_http::patience::{ConnectionError, next_chunk};
use ashlar_http::retry::Attempts;
use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::BlobDigest;
use ashlar_model::reference::Reference;
use ashlar_store::home::{Home, StoreError};
use reqwest::header::{CONTENT_RANGE, HeaderMap, RANGE};
use reqwest::{Method, StatusCode};

use super::Progress;
use super::call::{Call, Scope, Subject};
use super::client::{Connection, RegistryClient};
use super::error::RegistryError;

/// How a blob came into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchedBlob {
    /// It was there already, or another process has just fetched it.
    Present,
    /// It was downloaded.
    Downloaded {
        /// Bytes that came over the network.
        received: u64,
    },
}

/// A broken download that brought so many bytes counts as progress: its attempts count anew. Less
/// would let a server that sends a byte at a time keep us for ever.
const PROGRESS: u64 = 1024 * 1024;

impl RegistryClient {
    /// Whether a repository holds a blob.
    pub async fn blob_exists(
        &self,
        repository: &Reference,
        digest: &BlobDigest,
    ) -> Result<bool, RegistryError> {
        let connection = self.connection(repository.registry())?;
        let call = Call::new(
            Method::HEAD,
            blob_path(repository, digest),
            Subject::Blob(*digest),
            Scope::pull(repository),
        );
        let exchange = connection.send(&call).await?;
        match exchange.response.status() {
            status if status.is_success() => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(connection.failure(&call, exchange).await),
        }
    }

    /// Fetches a blob into the store, unless it is there. Several tasks and processes that want
    /// the same blob download it once. If this is dropped or fails, what has come is kept for the
    /// next try, unless it is wrong.
    pub async fn fetch_blob(
        &self,
        repository: &Reference,
        descriptor: &Descriptor,
        home: &Home,
        progress: Option<&Progress>,
    ) -> Result<FetchedBlob, RegistryError> {
        if home.blobs().has(descriptor) {
            return Ok(FetchedBlob::Present);
        }
        let fetch = Fetch {
            connection: &*self.connection(repository.registry())?,
            repository,
            descriptor,
            home,
            progress,
        };
        match fetch.run().await {
            // The wrong bytes may be those that an earlier process left. They are gone now.
            Err((RegistryError::WrongDigest { .. }, Start::At(earlier))) if earlier > 0 => {
                fetch.run().await.map_err(|(error, _)| error)
            }
            other => other.map_err(|(error, _)| error),
        }
    }
}

pub(super) fn blob_path(repository: &Reference, digest: &BlobDigest) -> String {
    format!("{}/blobs/{digest}", repository.repository())
}

struct Fetch<'a> {
    connection: &'a Connection,
    repository: &'a Reference,
    descriptor: &'a Descriptor,
    home: &'a Home,
    progress: Option<&'a Progress>,
}

/// How the reading of one answer ended.
enum Body {
    Whole,
    Broken(Option<ConnectionError>),
}

impl Fetch<'_> {
    /// The error comes with the state that the download started in.
    async fn run(&self) -> Result<FetchedBlob, (RegistryError, Start)> {
        let (download, start) = Download::begin(self.home, Wanted::Blob(self.descriptor.clone()))
            .await
            .map_err(|error| (self.write_error(error), Start::At(0)))?;
        match start {
            Start::Done => Ok(FetchedBlob::Present),
            Start::At(length) => self
                .transfer(download, length)
                .await
                .map(|received| FetchedBlob::Downloaded { received })
                .map_err(|error| (error, start)),
        }
    }

    /// Fetches all from `length` on; returns how many bytes came.
    async fn transfer(&self, mut download: Download, length: u64) -> Result<u64, RegistryError> {
        let mut state = Transfer {
            length,
            received: 0,
        };
        let mut attempts = Attempts::new(self.connection.settings.retry);
        let mut mark = 0;
        self.report(state.length);
        while state.length < self.descriptor.size {
            let source = match self.request(&mut download, &mut state).await? {
                Body::Whole => break,
                Body::Broken(source) => source,
            };
            if state.received - mark >= PROGRESS {
                attempts.restart();
                mark = state.received;
            }
            if !attempts.wait(None).await {
                return Err(RegistryError::BrokenDownload {
                    registry: self.connection.registry.clone(),
                    repository: self.repository.repository().to_owned(),
                    digest: self.descriptor.digest,
                    received: state.length,
                    expected: self.descriptor.size,
                    attempts: attempts.made(),
                    source,
                });
            }
        }
        download
            .commit()
            .await
            .map_err(|error| self.write_error(error))?;
        Ok(state.received)
    }

    /// Asks for what is missing and writes what comes.
    async fn request(
        &self,
        download: &mut Download,
        state: &mut Transfer,
    ) -> Result<Body, RegistryError> {
        let mut call = Call::new(
            Method::GET,
            blob_path(self.repository, &self.descriptor.digest),
            Subject::Blob(self.descriptor.digest),
            Scope::pull(self.repository),
        );
        if state.length > 0 {
            call = call.header(RANGE, &format!("bytes={}-", state.length));
        }
        let idle = self.connection.settings.idle_timeout;
        let mut exchange = self.connection.send(&call).await?;
        let response = &mut exchange.response;
        match response.status() {
            StatusCode::PARTIAL_CONTENT
                if range_start(response.headers()) == Some(state.length) => {}
            // The whole blob, whatever was asked for.
            StatusCode::OK => self.restart(download, state).await?,
            // No range, or another one than was asked for.
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if state.length > 0 => {
                self.restart(download, state).await?;
                return Ok(Body::Broken(None));
            }
            _ => return Err(self.connection.failure(&call, exchange).await),
        }
        loop {
            let chunk = match next_chunk(response, idle).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) if state.length == self.descriptor.size => return Ok(Body::Whole),
                Ok(None) => return Ok(Body::Broken(None)),
                Err(error) => return Ok(Body::Broken(Some(error))),
            };
            if state.length + chunk.len() as u64 > self.descriptor.size {
                self.restart(download, state).await?;
                return Err(RegistryError::TooLong {
                    registry: self.connection.registry.clone(),
                    repository: self.repository.repository().to_owned(),
                    digest: self.descriptor.digest,
                    expected: self.descriptor.size,
                });
            }
            state.length += chunk.len() as u64;
            state.received += chunk.len() as u64;
            download
                .write(chunk)
                .await
                .map_err(|error| self.write_error(error))?;
            self.report(state.length);
        }
    }

    async fn restart(
        &self,
        download: &mut Download,
        state: &mut Transfer,
    ) -> Result<(), RegistryError> {
        if state.length > 0 {
            state.length = 0;
            download
                .restart()
                .await
                .map_err(|error| self.write_error(error))?;
        }
        Ok(())
    }

    fn report(&self, length: u64) {
        if let Some(progress) = self.progress {
            progress(length);
        }
    }

    fn write_error(&self, error: WriteError) -> RegistryError {
        let registry = self.connection.registry.clone();
        let digest = self.descriptor.digest;
        match error {
            WriteError::Store(StoreError::WrongContent {
                expected, actual, ..
            }) => RegistryError::WrongDigest {
                registry,
                repository: self.repository.repository().to_owned(),
                expected,
                actual,
            },
            WriteError::Store(source) => RegistryError::Store { registry, source },
            WriteError::Spawn(source) => RegistryError::Thread {
                digest,
                source: Some(source),
            },
            WriteError::Vanished => RegistryError::Thread {
                digest,
                source: None,
            },
        }
    }
}

/// How far a download is.
struct Transfer {
    /// Bytes of the blob that are written.
    length: u64,
    /// Bytes that came over the network, also those that were void.
    received: u64,
}

/// The first byte of `Content-Range: bytes FIRST-LAST/TOTAL`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (first, _) = value.trim().strip_prefix("bytes ")?.split_once('-')?;
    first.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        let start = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, value.parse().unwrap());
            range_start(&headers)
        };
        assert_eq!(start("bytes 100-199/200"), Some(100));
        assert_eq!(start("bytes 0-1/*"), Some(0));
        assert_eq!(start("bytes */200"), None);
        assert_eq!(start("octets 1-2/3"), None);
    }
}
