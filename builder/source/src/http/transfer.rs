//! One download: asks for the bytes until all are there.

use ashlar_http::download::{Download, Downloaded, Start, Wanted, WriteError};
use ashlar_http::patience::{ConnectionError, next_chunk};
use ashlar_http::retry::Attempts;
use ashlar_model::digest::BlobDigest;
use ashlar_model::remote::HttpSource;
use ashlar_store::home::StoreError;
use reqwest::header::{CONTENT_RANGE, HeaderMap, IF_RANGE, RANGE};
use reqwest::{Response, StatusCode};

use super::validators::Validators;
use super::{Fields, HttpError, HttpFetcher};

/// A broken download that brought so many bytes counts as progress: its attempts count anew. Less
/// would let a server that sends a byte at a time keep us for ever.
const PROGRESS: u64 = 1024 * 1024;

/// A download to be done.
pub(super) struct Transfer<'a> {
    fetcher: &'a HttpFetcher,
    source: &'a HttpSource,
    wanted: Wanted,
}

/// A download under way.
struct State {
    download: Download,
    /// Bytes that are written.
    length: u64,
    /// Bytes that came, also those that were void.
    received: u64,
    validators: Validators,
}

/// How the reading of one answer ended.
enum Body {
    Whole,
    Broken(Option<ConnectionError>),
}

impl<'a> Transfer<'a> {
    pub(super) const fn new(
        fetcher: &'a HttpFetcher,
        source: &'a HttpSource,
        wanted: Wanted,
    ) -> Self {
        Self {
            fetcher,
            source,
            wanted,
        }
    }

    /// Downloads what has a known digest. What an earlier process left may be of another file;
    /// then all is fetched anew.
    pub(super) async fn run_to_digest(&self) -> Result<(Downloaded, Validators), HttpError> {
        let (started, outcome) = self.attempt(None).await;
        match outcome {
            Err(HttpError::Digest { .. }) if started > 0 => self.attempt(None).await.1,
            outcome => outcome,
        }
    }

    /// Downloads, beginning with an answer that is there already.
    pub(super) async fn run(&self, first: Option<Response>) -> Result<Downloaded, HttpError> {
        let (_, outcome) = self.attempt(first).await;
        outcome.map(|(downloaded, _)| downloaded)
    }

    /// Returns as well how many bytes were there in the beginning.
    async fn attempt(
        &self,
        first: Option<Response>,
    ) -> (u64, Result<(Downloaded, Validators), HttpError>) {
        let home = &self.fetcher.inner.home;
        let (download, start) = match Download::begin(home, self.wanted.clone()).await {
            Ok(begun) => begun,
            Err(error) => return (0, Err(self.write_error(error))),
        };
        match start {
            Start::Done => (0, self.present()),
            Start::At(length) => {
                let state = State {
                    download,
                    length,
                    received: 0,
                    validators: Validators::default(),
                };
                (length, self.transfer(state, first).await)
            }
        }
    }

    /// What is there because somebody else has fetched it.
    fn present(&self) -> Result<(Downloaded, Validators), HttpError> {
        let Wanted::Digest(digest) = self.wanted else {
            return Err(HttpError::Cancelled);
        };
        let size = self.fetcher.inner.home.blobs().size_of(&digest);
        let size = size.ok_or(StoreError::NoBlob(digest))?;
        Ok((Downloaded { digest, size }, Validators::default()))
    }

    async fn transfer(
        &self,
        mut state: State,
        mut first: Option<Response>,
    ) -> Result<(Downloaded, Validators), HttpError> {
        let mut attempts = Attempts::new(self.fetcher.inner.settings.retry);
        let mut mark = 0;
        loop {
            let response = match first.take() {
                Some(response) => response,
                None => {
                    let fields = self.range(&state);
                    self.fetcher.get(self.source, fields).await?
                }
            };
            let source = match self.read(response, &mut state).await? {
                Body::Whole => break,
                Body::Broken(source) => source,
            };
            if state.received - mark >= PROGRESS {
                attempts.restart();
                mark = state.received;
            }
            if !attempts.wait(None).await {
                return Err(HttpError::Broken {
                    url: self.source.to_string(),
                    received: state.length,
                    attempts: attempts.made(),
                    source,
                });
            }
        }
        let committed = state.download.commit().await;
        let downloaded = committed.map_err(|error| self.write_error(error))?;
        Ok((downloaded, state.validators))
    }

    /// The fields that ask for what is missing.
    fn range(&self, state: &State) -> Fields {
        if state.length == 0 {
            return Vec::new();
        }
        let range = (RANGE, format!("bytes={}-", state.length));
        match (&self.wanted, state.validators.for_ranges()) {
            (_, Some(validator)) => vec![range, (IF_RANGE, validator)],
            // The digest tells in the end.
            (Wanted::Digest(_) | Wanted::Blob(_), None) => vec![range],
            // It might be of another version.
            (Wanted::Unknown, None) => Vec::new(),
        }
    }

    async fn read(&self, mut response: Response, state: &mut State) -> Result<Body, HttpError> {
        match response.status() {
            StatusCode::PARTIAL_CONTENT
                if range_start(response.headers()) == Some(state.length) => {}
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                self.restart(state).await?;
                return Ok(Body::Broken(None));
            }
            // The whole file, whatever was asked for.
            _ => {
                self.restart(state).await?;
                state.validators = Validators::of(&response);
            }
        }
        let idle = self.fetcher.inner.settings.idle_timeout;
        loop {
            let chunk = match next_chunk(&mut response, idle).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Ok(Body::Whole),
                Err(error) => return Ok(Body::Broken(Some(error))),
            };
            state.length += chunk.len() as u64;
            state.received += chunk.len() as u64;
            let written = state.download.write(chunk).await;
            written.map_err(|error| self.write_error(error))?;
        }
    }

    async fn restart(&self, state: &mut State) -> Result<(), HttpError> {
        if state.length > 0 {
            state.length = 0;
            let restarted = state.download.restart().await;
            restarted.map_err(|error| self.write_error(error))?;
        }
        Ok(())
    }

    fn write_error(&self, error: WriteError) -> HttpError {
        match error {
            WriteError::Store(StoreError::WrongContent {
                expected, actual, ..
            }) => self.wrong_digest(expected, actual),
            WriteError::Store(source) => source.into(),
            WriteError::Spawn(source) => HttpError::Thread(source),
            WriteError::Vanished => HttpError::Cancelled,
        }
    }

    fn wrong_digest(&self, expected: BlobDigest, actual: BlobDigest) -> HttpError {
        HttpError::Digest {
            url: self.source.to_string(),
            expected,
            actual,
            demanded: self.source.checksum.is_some(),
        }
    }
}

/// The first byte of `Content-Range: bytes FIRST-LAST/TOTAL`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (first, _) = value.trim().strip_prefix("bytes ")?.split_once('-')?;
    first.trim().parse().ok()
}
