//! What can go wrong with a registry.

use ashlar_http::proxy::ProxyError;
use ashlar_http::{CertificateError, ConnectionError};
use ashlar_model::digest::BlobDigest;
use ashlar_store::home::StoreError;

use crate::manifest::ReadManifestError;

/// A registry operation failed. [`hint`](Self::hint) says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The registry cannot be reached, or the connection broke again and again.
    #[error("cannot reach the registry {registry} ({action})")]
    Unreachable {
        /// Registry.
        registry: String,
        /// What was wanted, such as `GET https://...`.
        action: String,
        /// Why not.
        source: ConnectionError,
    },
    /// Nobody is logged in, or the login is not accepted.
    #[error(
        "{registry} demands a login for {repository}{}",
        in_parentheses(detail)
    )]
    Unauthorized {
        /// Registry.
        registry: String,
        /// Repository.
        repository: String,
        /// What the registry says, and what was found where logins are kept.
        detail: String,
        /// Whether a login was found and sent.
        logged_in: bool,
    },
    /// The login is accepted, but may not do this.
    #[error("{registry} denies access to {repository}{}", in_parentheses(detail))]
    Denied {
        /// Registry.
        registry: String,
        /// Repository.
        repository: String,
        /// What the registry says.
        detail: String,
        /// Whether a login was found and sent.
        logged_in: bool,
    },
    /// The registry has no such thing.
    #[error("{registry} has no {what} in {repository}{}", in_parentheses(detail))]
    NotFound {
        /// Registry.
        registry: String,
        /// Repository.
        repository: String,
        /// The thing: `image tagged x`, `blob sha256:...`.
        what: String,
        /// What the registry says.
        detail: String,
    },
    /// The registry limits how much one may ask of it.
    #[error("{registry} refuses more requests for now{}", in_parentheses(detail))]
    RateLimited {
        /// Registry.
        registry: String,
        /// What the registry says.
        detail: String,
    },
    /// The registry answers with an error.
    #[error("{registry} answers {status} to {action}{}", in_parentheses(detail))]
    Status {
        /// Registry.
        registry: String,
        /// The status code.
        status: u16,
        /// The request.
        action: String,
        /// What the registry says.
        detail: String,
    },
    /// The registry answers with something that the protocol does not foresee.
    #[error("{registry} gives a wrong answer to {action}: {problem}")]
    Protocol {
        /// Registry.
        registry: String,
        /// The request.
        action: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// The bytes are not what their digest says.
    #[error(
        "{registry} sent wrong content for {expected} of {repository}: its digest is {actual}; \
         nothing of it was kept"
    )]
    WrongDigest {
        /// Registry.
        registry: String,
        /// Repository.
        repository: String,
        /// What was asked for.
        expected: BlobDigest,
        /// What came.
        actual: BlobDigest,
    },
    /// The bytes are more than their descriptor says.
    #[error(
        "{registry} sent more than the {expected} bytes of {digest} in {repository}; \
         nothing of it was kept"
    )]
    TooLong {
        /// Registry.
        registry: String,
        /// Repository.
        repository: String,
        /// What was asked for.
        digest: BlobDigest,
        /// Its size by the descriptor.
        expected: u64,
    },
    /// The download stopped before its end, again and again.
    #[error(
        "the download of {digest} from {registry}/{repository} broke off after {received} of \
         {expected} bytes, {attempts} times without progress; what there is is kept for the next try"
    )]
    BrokenDownload {
        /// Registry.
        registry: String,
        /// Repository.
        repository: String,
        /// What was asked for.
        digest: BlobDigest,
        /// Bytes that came.
        received: u64,
        /// Size of the blob.
        expected: u64,
        /// How often it was tried since the last byte came.
        attempts: u32,
        /// The last error; none if the server ended the answer as if it were whole.
        source: Option<ConnectionError>,
    },
    /// The manifest cannot be used.
    #[error("cannot use the manifest of {reference}")]
    Manifest {
        /// The image.
        reference: String,
        /// Why not.
        source: ReadManifestError,
    },
    /// A certificate file cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The client itself cannot be set up.
    #[error("cannot set up the connection to the registry {registry}")]
    Setup {
        /// Registry.
        registry: String,
        /// Why not.
        source: reqwest::Error,
    },
    /// A proxy from the environment is no URL.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// What was to be uploaded cannot be had.
    #[error("cannot get {digest} to upload it")]
    PrepareBlob {
        /// Which blob.
        digest: BlobDigest,
        /// Why not.
        source: crate::blob_source::PrepareError,
    },
    /// What was to be uploaded cannot be read.
    #[error("cannot read {digest} to upload it")]
    ReadBlob {
        /// Which blob.
        digest: BlobDigest,
        /// Why not.
        source: std::io::Error,
    },
    /// The local store failed.
    #[error("cannot store what the registry {registry} sent")]
    Store {
        /// Registry.
        registry: String,
        /// Why not.
        source: StoreError,
    },
    /// A thread of the operating system could not be started, or ended before its time.
    #[error("cannot run a thread for the transfer of {digest}")]
    Thread {
        /// Which blob.
        digest: BlobDigest,
        /// Why not, if the system said so.
        source: Option<std::io::Error>,
    },
}

fn in_parentheses(detail: &str) -> String {
    if detail.is_empty() {
        String::new()
    } else {
        format!(" ({detail})")
    }
}

impl RegistryError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unauthorized {
                registry,
                logged_in: false,
                ..
            } => Some(format!(
                "log in with `docker login {registry}`, `podman login {registry}` or \
                 `skopeo login {registry}`, or set REGISTRY_AUTH_FILE; a private or misspelt \
                 repository looks the same"
            )),
            Self::Unauthorized { registry, .. } => Some(format!(
                "the login that is stored for {registry} is wrong or has expired: log in again"
            )),
            Self::Denied {
                registry,
                logged_in,
                ..
            } => Some(if *logged_in {
                format!("the account that is logged in at {registry} lacks the right to do this")
            } else {
                format!(
                    "log in with `docker login {registry}`; a repository that does not exist looks \
                     the same"
                )
            }),
            Self::NotFound { .. } => Some("check the spelling of repository and tag".to_owned()),
            Self::RateLimited { registry, .. } => Some(format!(
                "wait, or log in at {registry}: accounts have a higher limit"
            )),
            Self::Unreachable {
                registry, source, ..
            } => Some(unreachable_hint(registry, source)),
            Self::Status { status, .. } if *status >= 500 => {
                Some("the registry has a problem of its own: try again later".to_owned())
            }
            Self::WrongDigest { .. } | Self::TooLong { .. } => Some(
                "a proxy may have changed it, or the registry is damaged; it was not used"
                    .to_owned(),
            ),
            Self::Store { source, .. } => source.hint(),
            _ => None,
        }
    }

    /// Whether the registry says that it has no such thing.
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// Tells the usual causes apart. The errors of TLS come as text only.
fn unreachable_hint(registry: &str, error: &ConnectionError) -> String {
    let mut causes = String::new();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        causes.push_str(&cause.to_string());
        causes.push('\n');
        source = cause.source();
    }
    if causes.contains("certificate") {
        format!(
            "put the authority that signed its certificate into \
             ~/.config/containers/certs.d/{registry}/ca.crt, or do without: --tls-verify=false"
        )
    } else if causes.contains("corrupt message") {
        format!("if {registry} speaks plain HTTP, allow that with --tls-verify=false")
    } else {
        "check the name, the network, and the proxy variables".to_owned()
    }
}
