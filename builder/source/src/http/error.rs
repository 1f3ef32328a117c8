//! What can go wrong with a URL.

use ashlar_http::proxy::ProxyError;
use ashlar_http::{CertificateError, ConnectionError};
use ashlar_model::digest::BlobDigest;
use ashlar_store::home::StoreError;

/// A file could not be fetched. [`hint`](Self::hint) says what to do about it. URLs are without
/// credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The text is no URL.
    #[error("invalid URL {url}")]
    Url {
        /// The text.
        url: String,
    },
    /// The server cannot be reached, or the connection broke again and again.
    #[error("cannot fetch {url}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// Why not.
        source: ConnectionError,
    },
    /// The server answers with an error.
    #[error("cannot fetch {url}: invalid response status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// Its host.
        host: String,
        /// The status code.
        status: u16,
    },
    /// The download stopped before its end, again and again.
    #[error("the download of {url} broke off after {received} bytes, {attempts} times")]
    Broken {
        /// What was asked for.
        url: String,
        /// Bytes that came.
        received: u64,
        /// How often it was tried since the last byte came.
        attempts: u32,
        /// The last error, if there was one.
        source: Option<ConnectionError>,
    },
    /// The file is another one.
    #[error("digest mismatch for {url}: {actual} (expected: {expected})")]
    Digest {
        /// What was asked for.
        url: String,
        /// What it should be.
        expected: BlobDigest,
        /// What it is.
        actual: BlobDigest,
        /// Whether somebody gave a checksum; else the file changed while it was used.
        demanded: bool,
    },
    /// A certificate file cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A proxy of the environment is no URL.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The client cannot be set up.
    #[error("cannot set up the HTTP client")]
    Setup(#[source] reqwest::Error),
    /// The local store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread of the operating system could not be started.
    #[error("cannot run a thread for a download")]
    Thread(#[source] std::io::Error),
    /// The work was called off.
    #[error("the download was called off")]
    Cancelled,
}

impl HttpError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Status {
                status: 401 | 403,
                host,
                ..
            } => Some(format!(
                "if the server wants a login, give it as a secret: \
                 --secret id=HTTP_AUTH_TOKEN_{host},src=FILE"
            )),
            Self::Status { status: 404, .. } => Some("check the URL".to_owned()),
            Self::Status { status, .. } if *status >= 500 => {
                Some("the server has a problem of its own: try again later".to_owned())
            }
            Self::Digest {
                actual,
                demanded: true,
                ..
            } => Some(format!(
                "if the file is the right one, give --checksum={actual}"
            )),
            Self::Digest { .. } => Some("the file changed during the build: try again".to_owned()),
            Self::Unreachable { .. } | Self::Broken { .. } => {
                Some("check the URL, the network, and the proxy variables".to_owned())
            }
            Self::Store(source) => source.hint(),
            _ => None,
        }
    }

    /// Whether what was asked for is wrong, and not the machine or a server.
    pub const fn is_input(&self) -> bool {
        match self {
            Self::Url { .. } | Self::Digest { demanded: true, .. } => true,
            Self::Status { status, .. } => *status < 500 && *status != 429,
            _ => false,
        }
    }
}
