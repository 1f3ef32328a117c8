//! A file behind a URL.
//!
//! Its identity is the SHA-256 of its bytes. Where a checksum says what that must be, nobody is
//! asked for anything until the bytes are needed. Else the server is asked whether the file is
//! still the one that was fetched last: by HEAD, comparing `ETag` (or `Last-Modified`), for some
//! servers do not understand conditional requests; then by a conditional GET.
//!
//! Downloads stream into the store's blobs. One that breaks off goes on where it stopped, if the
//! server can do that and says that the file is the same; with a checksum, even in another process.
//!
//! | module | subject |
//! |---|---|
//! | `validators` | `ETag` and `Last-Modified` |
//! | `transfer` | one download |
//! | `directory` | a file with its name, mode and time |
//! | `error` | what can go wrong |

mod directory;
mod error;
mod transfer;
mod validators;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ashlar_http::certificates::{Certificates, Extra};
use ashlar_http::client;
use ashlar_http::download::{Downloaded, Wanted};
use ashlar_http::environment::HttpEnvironment;
use ashlar_http::patience::{self, ConnectionError};
use ashlar_http::retry::{Attempts, RetryPolicy, is_transient, is_transient_error, retry_after};
use ashlar_model::digest::BlobDigest;
use ashlar_model::layer::Timestamp;
use ashlar_model::remote::{HttpFile, HttpSource};
use ashlar_store::home::Home;
use ashlar_store::home::sources::{HttpRecord, SourceClass, SourceKey};
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderName};
use reqwest::{Client, Method, Response, StatusCode, Url};

pub use self::error::HttpError;
use self::transfer::Transfer;
use self::validators::Validators;
use crate::lock::acquire;
use crate::secrets::{Secrets, http_authorization};

/// How files are fetched.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Certificates and proxies.
    pub environment: HttpEnvironment,
    /// When and how often to try again.
    pub retry: RetryPolicy,
    /// How long a server may send nothing before a request counts as broken.
    pub idle_timeout: Duration,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            environment: HttpEnvironment::default(),
            retry: RetryPolicy::default(),
            idle_timeout: client::IDLE_TIMEOUT,
        }
    }
}

/// Fetches files of URLs. Cheap to make and to clone: nothing is read and no connection made before
/// the first request.
#[derive(Debug, Clone)]
pub struct HttpFetcher {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    home: Home,
    settings: HttpSettings,
    secrets: Arc<dyn Secrets>,
    client: OnceLock<Client>,
}

/// A file that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedFile {
    /// Where its bytes are: a blob of the store, not to be changed.
    pub path: PathBuf,
    /// How many bytes.
    pub size: u64,
    /// When the file was last modified, if the server says so.
    pub modified: Option<Timestamp>,
}

/// A directory with a file that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedDirectory {
    /// The directory; not to be changed.
    pub path: PathBuf,
    /// When the file was last modified, if the server said so.
    pub modified: Option<Timestamp>,
}

/// The header fields of a request beside those that all have.
type Fields = Vec<(HeaderName, String)>;

impl HttpFetcher {
    /// A fetcher into a store.
    pub fn new(home: Home, settings: HttpSettings, secrets: Arc<dyn Secrets>) -> Self {
        Self {
            inner: Arc::new(Inner {
                home,
                settings,
                secrets,
                client: OnceLock::new(),
            }),
        }
    }

    /// Finds out which version of a file is meant. Without a checksum the server is asked, and the
    /// file fetched if it is not the one that was fetched last.
    pub async fn resolve(&self, source: &HttpSource) -> Result<HttpFile, HttpError> {
        let file = |digest| HttpFile {
            source: source.clone(),
            digest,
        };
        if let Some(digest) = source.checksum {
            return Ok(file(digest));
        }
        let home = &self.inner.home;
        let key = latest_key(source);
        let _lock = acquire(&home.source_lock_path(&key)).await?;
        let known = home.http_source(&key)?;
        if let Some(known) = &known
            && self.is_unchanged(source, known).await
        {
            return Ok(file(known.blob));
        }
        let fields = known.as_ref().map(Validators::condition);
        let response = self.get(source, fields.unwrap_or_default()).await?;
        if response.status() == StatusCode::NOT_MODIFIED
            && let Some(known) = known
        {
            return Ok(file(known.blob));
        }
        let validators = Validators::of(&response);
        let transfer = Transfer::new(self, source, Wanted::Unknown);
        let downloaded = transfer.run(Some(response)).await?;
        let record = Self::record(source, downloaded, &validators);
        home.put_http_source(&key, &record)?;
        Ok(file(record.blob))
    }

    /// Brings a file here, unless it is.
    pub async fn fetch(&self, file: &HttpFile) -> Result<FetchedFile, HttpError> {
        let home = &self.inner.home;
        let key = version_key(file);
        for key in [&latest_key(&file.source), &key] {
            if let Some(known) = home.http_source(key)?
                && known.blob == file.digest
                && home.blobs().size_of(&known.blob) == Some(known.size)
            {
                return Ok(self.here(&known));
            }
        }
        let _lock = acquire(&home.source_lock_path(&key)).await?;
        let transfer = Transfer::new(self, &file.source, Wanted::Digest(file.digest));
        let (downloaded, validators) = transfer.run_to_digest().await?;
        let record = Self::record(&file.source, downloaded, &validators);
        home.put_http_source(&key, &record)?;
        Ok(self.here(&record))
    }

    /// Brings a file here as the only one of a directory, with its name, mode and time.
    pub async fn fetch_directory(&self, file: &HttpFile) -> Result<FetchedDirectory, HttpError> {
        let home = &self.inner.home;
        let name = file.source.file_name();
        let key = SourceKey::new(
            SourceClass::Tree,
            &["http", &file.source.url, &file.digest.to_hex(), &name],
        );
        let known = || -> Result<Option<FetchedDirectory>, HttpError> {
            let known = home.source_directory(&key)?;
            Ok(known.map(|(path, record)| FetchedDirectory {
                path,
                modified: record.time,
            }))
        };
        if let Some(known) = known()? {
            return Ok(known);
        }
        let fetched = self.fetch(file).await?;
        let _lock = acquire(&home.source_lock_path(&key)).await?;
        // Made meanwhile: somebody may be using it.
        if let Some(known) = known()? {
            return Ok(known);
        }
        let home = home.clone();
        let what = file.source.to_string();
        let making = tokio::task::spawn_blocking(move || {
            directory::make(&home, &key, &fetched, &name, what)
        });
        making.await.map_err(|_| HttpError::Cancelled)?
    }

    fn here(&self, known: &HttpRecord) -> FetchedFile {
        FetchedFile {
            path: self.inner.home.blobs().path(&known.blob),
            size: known.size,
            modified: known.modified,
        }
    }

    /// What is to be remembered of a file that has just come.
    fn record(source: &HttpSource, downloaded: Downloaded, validators: &Validators) -> HttpRecord {
        HttpRecord {
            what: source.to_string(),
            blob: downloaded.digest,
            size: downloaded.size,
            etag: validators.etag.clone(),
            last_modified: validators.strong_time(),
            modified: validators.modified(),
        }
    }

    /// Whether the server says, asked by HEAD, that a file is still the one that is known. Any
    /// trouble counts as no: GET decides.
    async fn is_unchanged(&self, source: &HttpSource, known: &HttpRecord) -> bool {
        let fields = Validators::condition(known);
        if fields.is_empty() {
            return false;
        }
        let Ok(request) = self.request(source, Method::HEAD, fields) else {
            return false;
        };
        let idle = self.inner.settings.idle_timeout;
        match patience::send(request, None, idle).await {
            Ok(response) => Validators::of(&response).confirm(response.status(), known),
            Err(_) => false,
        }
    }

    /// Sends GET until there is an answer that counts, which is no error.
    async fn get(&self, source: &HttpSource, fields: Fields) -> Result<Response, HttpError> {
        let settings = &self.inner.settings;
        let mut attempts = Attempts::new(settings.retry);
        loop {
            let request = self.request(source, Method::GET, fields.clone())?;
            let (error, pause) = match patience::send(request, None, settings.idle_timeout).await {
                Ok(response) => {
                    let status = response.status();
                    let serves = status.is_success()
                        || status == StatusCode::NOT_MODIFIED
                        || status == StatusCode::RANGE_NOT_SATISFIABLE;
                    if serves {
                        return Ok(response);
                    }
                    let error = HttpError::Status {
                        url: source.to_string(),
                        host: source.host().to_owned(),
                        status: status.as_u16(),
                    };
                    if !is_transient(status) {
                        return Err(error);
                    }
                    (error, retry_after(response.headers()))
                }
                Err(cause) => {
                    let is_transient = is_transient_error(&cause);
                    let error = self.unreachable(source, cause);
                    if !is_transient {
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

    fn unreachable(&self, source: &HttpSource, cause: ConnectionError) -> HttpError {
        HttpError::Unreachable {
            url: source.to_string(),
            source: cause,
        }
    }

    fn request(
        &self,
        source: &HttpSource,
        method: Method,
        fields: Fields,
    ) -> Result<reqwest::RequestBuilder, HttpError> {
        let url = Url::parse(&source.url).map_err(|_| HttpError::Url {
            url: source.to_string(),
        })?;
        let mut request = self
            .client(source)?
            .request(method, url)
            // The bytes of the file, and not of some compressed form of it.
            .header(ACCEPT_ENCODING, "identity");
        if let Some(value) = http_authorization(self.inner.secrets.as_ref(), source.host()) {
            request = request.header(AUTHORIZATION, value);
        }
        for (name, value) in fields {
            request = request.header(name, value);
        }
        Ok(request)
    }

    fn client(&self, source: &HttpSource) -> Result<&Client, HttpError> {
        if let Some(client) = self.inner.client.get() {
            return Ok(client);
        }
        let environment = &self.inner.settings.environment;
        let tls = Certificates::default().config_for(source.host(), environment, &Extra::default());
        let client = client::builder(environment)?
            .use_preconfigured_tls(tls?)
            .build()
            .map_err(HttpError::Setup)?;
        Ok(self.inner.client.get_or_init(|| client))
    }
}

/// Names what a URL gave last.
fn latest_key(source: &HttpSource) -> SourceKey {
    SourceKey::new(SourceClass::Http, &[&source.url])
}

/// Names one version of a URL's file.
fn version_key(file: &HttpFile) -> SourceKey {
    let digest: &BlobDigest = &file.digest;
    SourceKey::new(SourceClass::Http, &[&file.source.url, &digest.to_hex()])
}
