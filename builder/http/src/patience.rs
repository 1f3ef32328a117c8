//! How long a silent server is waited for.
//!
//! reqwest's own read timeout counts from the start of a request to its answer, and so would end
//! every upload that takes longer. Here a request is given up when *nothing* happens for the idle
//! timeout: no byte sent, no byte received.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{RequestBuilder, Response};

/// Why a connection gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// It could not be made, or it broke.
    #[error("the connection failed")]
    Http(#[source] reqwest::Error),
    /// The server said nothing for too long.
    #[error("the server has been silent for {} seconds", .0.as_secs())]
    Silent(Duration),
}

impl From<reqwest::Error> for ConnectionError {
    /// Without the URL: it may hold secrets in its query.
    fn from(error: reqwest::Error) -> Self {
        Self::Http(error.without_url())
    }
}

/// When a server has all that was sent it may check and move a whole blob before it answers; it
/// gets so many times the idle timeout for that.
const FINISHING_FACTOR: u32 = 10;

/// How far an upload is.
pub trait UploadProgress: Sync {
    /// Bytes of the body.
    fn length(&self) -> u64;

    /// How many of them the connection has taken.
    fn sent(&self) -> u64;
}

/// Sends a request and waits for the head of its answer.
pub async fn send(
    request: RequestBuilder,
    upload: Option<&dyn UploadProgress>,
    idle: Duration,
) -> Result<Response, ConnectionError> {
    let mut answer = std::pin::pin!(request.send());
    let mut sent_before = 0;
    let mut silent = 0;
    loop {
        match tokio::time::timeout(idle, answer.as_mut()).await {
            Ok(result) => return result.map_err(Into::into),
            Err(_) => {
                let (sent, limit) = upload.map_or((0, 1), |upload| {
                    let sent = upload.sent();
                    let is_all = sent == upload.length();
                    (sent, if is_all { FINISHING_FACTOR } else { 1 })
                });
                silent = if sent == sent_before { silent + 1 } else { 0 };
                sent_before = sent;
                if silent >= limit {
                    return Err(ConnectionError::Silent(idle * silent));
                }
            }
        }
    }
}

/// The next bytes of an answer; `None` at its end.
pub async fn next_chunk(
    response: &mut Response,
    idle: Duration,
) -> Result<Option<Bytes>, ConnectionError> {
    match tokio::time::timeout(idle, response.chunk()).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(ConnectionError::Silent(idle)),
    }
}
