//! TLS from files: certificate, key, and authorities for certificates of clients.
//!
//! Each connection takes what is there when it comes; those that are there already go on. A file
//! that is no good changes nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use super::authority::ClientAuthority;
use crate::auth::certificates::ends;
use crate::settings::TlsFiles;

/// Files that TLS cannot be used with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{} has no {what} in PEM", path.display())]
    Nothing {
        /// The file.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// A file has something that cannot be read.
    #[error("{} is no PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// Certificate and key do not go together, or cannot be used.
    #[error("{} and {} are no certificate and key", certificate.display(), key.display())]
    Pair {
        /// The file of certificates.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The authorities cannot be used.
    #[error("{} has no authorities for certificates of clients: {reason}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// TLS as it is now. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    files: Arc<TlsFiles>,
    current: Arc<ArcSwap<Current>>,
    authority: Option<Arc<ClientAuthority>>,
}

/// What was in the files.
struct Current {
    config: Arc<ServerConfig>,
    /// When the certificate ends.
    ends: SystemTime,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// TLS with what is in files now.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let provider = provider();
        let verifier = verifier(files, &provider)?;
        let config = config(files, &provider, verifier.as_ref())?;
        Ok(Self {
            files: Arc::new(files.clone()),
            current: Arc::new(ArcSwap::from_pointee(config)),
            authority: verifier.map(ClientAuthority::new).map(Arc::new),
        })
    }

    /// Takes what is in the files now for new connections. Certificates of clients that are
    /// connected have to be of the authorities that there are now, too.
    pub fn reload(&self) -> Result<(), TlsError> {
        let provider = provider();
        let verifier = verifier(&self.files, &provider)?;
        let config = config(&self.files, &provider, verifier.as_ref())?;
        self.current.store(Arc::new(config));
        // In this order: whoever sees these authorities makes new connections by them.
        if let (Some(authority), Some(verifier)) = (&self.authority, verifier) {
            authority.replace(verifier);
        }
        Ok(())
    }

    /// What a new connection uses.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.current.load().config.clone()
    }

    /// When the server's certificate ends.
    pub fn ends(&self) -> SystemTime {
        self.current.load().ends
    }

    /// Those who stand for certificates of clients.
    pub(super) fn authority(&self) -> Option<Arc<ClientAuthority>> {
        self.authority.clone()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What a reader of PEM found, as an error of this module if nothing was good.
fn of_pem<T>(path: &Path, what: &'static str, read: Result<T, pem::Error>) -> Result<T, TlsError> {
    let path = || path.to_owned();
    read.map_err(|error| match error {
        pem::Error::Io(source) => TlsError::Read {
            path: path(),
            source,
        },
        pem::Error::NoItemsFound => TlsError::Nothing { path: path(), what },
        source => TlsError::Pem {
            path: path(),
            source,
        },
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    const WHAT: &str = "certificate";
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<_> = of_pem(path, WHAT, read)?;
    if found.is_empty() {
        return of_pem(path, WHAT, Err(pem::Error::NoItemsFound));
    }
    Ok(found)
}

fn verifier(
    files: &TlsFiles,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let Some(path) = &files.client_ca else {
        return Ok(None);
    };
    let failed = |reason: String| TlsError::Authorities {
        path: path.clone(),
        reason,
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let added = roots.add(certificate);
        added.map_err(|error| failed(error.to_string()))?;
    }
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    if !files.client_required {
        builder = builder.allow_unauthenticated();
    }
    let built = builder.build();
    built.map(Some).map_err(|error| failed(error.to_string()))
}

fn config(
    files: &TlsFiles,
    provider: &Arc<CryptoProvider>,
    verifier: Option<&Arc<dyn ClientCertVerifier>>,
) -> Result<Current, TlsError> {
    let chain = certificates(&files.certificate)?;
    let key = of_pem(
        &files.key,
        "private key",
        PrivateKeyDer::from_pem_file(&files.key),
    )?;
    let pair = |source| TlsError::Pair {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        source,
    };
    let ends = chain.first().map(|first| ends(first)).transpose();
    let ends = ends.map_err(|error| pair(rustls::Error::General(error.to_string())))?;
    // The builder below does not look whether they go together.
    CertifiedKey::from_der(chain.clone(), key.clone_key(), provider).map_err(pair)?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(pair)?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Current {
        config: Arc::new(config),
        ends: ends.unwrap_or(SystemTime::UNIX_EPOCH),
    })
}
