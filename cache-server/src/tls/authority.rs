//! Those who stand for certificates of clients. They can change while connections go on.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;

use crate::auth::certificates::Authority;

/// The authorities as they are at a time.
#[derive(Debug)]
struct State {
    /// Which ones: each change has another number.
    generation: u64,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// Authorities for certificates of clients.
#[derive(Debug)]
pub struct ClientAuthority(ArcSwap<State>);

impl ClientAuthority {
    /// Authorities that a verifier knows.
    pub fn new(verifier: Arc<dyn ClientCertVerifier>) -> Self {
        Self(ArcSwap::from_pointee(State {
            generation: 0,
            verifier,
        }))
    }

    /// Others from now on.
    pub fn replace(&self, verifier: Arc<dyn ClientCertVerifier>) {
        let generation = self.0.load().generation + 1;
        self.0.store(Arc::new(State {
            generation,
            verifier,
        }));
    }
}

impl Authority for ClientAuthority {
    fn generation(&self) -> u64 {
        self.0.load().generation
    }

    fn stands_for(&self, chain: &[CertificateDer<'static>], now: SystemTime) -> bool {
        let Some((first, others)) = chain.split_first() else {
            return false;
        };
        let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        let state = self.0.load();
        let verified = state.verifier.verify_client_cert(first, others, now);
        verified.is_ok()
    }
}
