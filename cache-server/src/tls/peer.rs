//! Who is at the other end of a connection. Every request carries it.

use std::sync::Arc;

use crate::auth::certificates::ClientCertificate;

/// The other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it is: an address and a port, or `unix` and the number of a user.
    pub address: Arc<str>,
    /// The certificate that it has shown.
    pub certificate: Option<Arc<ClientCertificate>>,
}

impl Peer {
    /// A client at an address.
    pub fn at(address: impl Into<Arc<str>>) -> Self {
        Self {
            address: address.into(),
            certificate: None,
        }
    }

    /// The same, with a certificate.
    #[must_use]
    pub fn with(mut self, certificate: ClientCertificate) -> Self {
        self.certificate = Some(Arc::new(certificate));
        self
    }
}
