//! Certificates of clients: their names, and until when they count.
//!
//! That a certificate leads up to an authority is checked when the connection is made. Each request
//! asks again whether it has expired since; and whether the authorities, if their file has changed
//! since, still stand for it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::pattern::Separators;

/// A certificate that does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Form(String),
    /// It is over.
    #[error("the client's certificate has expired since the connection was made: connect again")]
    Expired,
    /// Nobody stands for it any more.
    #[error("the client's certificate is not of an authority that this cache trusts now")]
    Untrusted,
}

/// When a certificate ends.
pub fn ends(certificate: &CertificateDer<'_>) -> Result<SystemTime, CertificateError> {
    let read = Certificate::from_der(certificate);
    let read = read.map_err(|error| CertificateError::Form(error.to_string()))?;
    Ok(read.tbs_certificate().validity().not_after.to_system_time())
}

/// Those who stand for certificates.
pub trait Authority: Send + Sync + fmt::Debug {
    /// Another number whenever they may be others than before.
    fn generation(&self) -> u64;

    /// Whether they stand for one now. It is the client's own, and those that lead up from it.
    fn stands_for(&self, chain: &[CertificateDer<'static>], now: SystemTime) -> bool;
}

/// A name in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The name.
    pub text: String,
    /// Where its segments end.
    pub separators: Separators,
}

/// The certificate of a client.
#[derive(Debug)]
pub struct ClientCertificate {
    names: Vec<Name>,
    expires: SystemTime,
    chain: Vec<CertificateDer<'static>>,
    authority: Arc<dyn Authority>,
    /// Those who stood for it last.
    generation: AtomicU64,
}

impl ClientCertificate {
    /// A certificate, first in a chain, that authorities stood for. `generation` is theirs, asked
    /// before.
    pub fn read(
        chain: &[CertificateDer<'_>],
        authority: Arc<dyn Authority>,
        generation: u64,
    ) -> Result<Self, CertificateError> {
        let first = chain.first().map(AsRef::as_ref).unwrap_or_default();
        let form = |error: x509_cert::der::Error| CertificateError::Form(error.to_string());
        let certificate = Certificate::from_der(first).map_err(form)?;
        let content = certificate.tbs_certificate();
        let mut names = Vec::new();
        let mut add = |text: &str, separators| {
            // A wildcard is no name of anybody.
            if !text.is_empty() && !text.contains('*') {
                let text = text.to_owned();
                names.push(Name { text, separators });
            }
        };
        let alternative = content.get_extension::<SubjectAltName>().map_err(form)?;
        for name in alternative.iter().flat_map(|(_, names)| &names.0) {
            match name {
                GeneralName::DnsName(name) => add(name.as_str(), Separators::SlashAndDot),
                GeneralName::UniformResourceIdentifier(name) => {
                    add(name.as_str(), Separators::Slash);
                }
                _ => {}
            }
        }
        // Authorities that check alternative names may let the common name be anything.
        if alternative.is_none() {
            let common = content.subject().common_name().map_err(form)?;
            if let Some(common) = &common {
                add(&common.value(), Separators::SlashAndDot);
            }
        }
        Ok(Self {
            names,
            expires: content.validity().not_after.to_system_time(),
            chain: chain.iter().map(|one| one.clone().into_owned()).collect(),
            authority,
            generation: AtomicU64::new(generation),
        })
    }

    /// What it says who the client is.
    pub fn names(&self) -> &[Name] {
        &self.names
    }

    /// The name that people see.
    pub fn name(&self) -> &str {
        let first = self.names.first();
        first.map_or("without a name", |name| name.text.as_str())
    }

    /// Fails if it does not count any more.
    pub fn check(&self, now: SystemTime) -> Result<(), CertificateError> {
        if now > self.expires {
            return Err(CertificateError::Expired);
        }
        let generation = self.authority.generation();
        if generation != self.generation.load(Ordering::Relaxed) {
            if !self.authority.stands_for(&self.chain, now) {
                return Err(CertificateError::Untrusted);
            }
            self.generation.store(generation, Ordering::Relaxed);
        }
        Ok(())
    }
}
