//! Another server, which is asked for the blobs that it owns.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ashlar_model::cas::CasDigest;
use bytes::Bytes;
use tokio::time::Instant;

use super::members::PeerSettings;
use crate::blob_store::{BlobStore as _, ByteRange, ByteStream};
use crate::fault::{Fault, FaultKind, in_one_line};
use crate::grpc::{GrpcEndpoint, GrpcSettings, GrpcStore};

/// A server that did not answer is not asked for so long. Then one request tries it.
const BREAK: Duration = Duration::from_secs(5);

/// So long connecting may take: peers are near each other.
const CONNECT: Duration = Duration::from_millis(500);

/// So long an answer may take. The far store is slower than a peer, and faster than this.
const ANSWER: Duration = Duration::from_secs(3);

/// A server and what is known of it.
#[derive(Debug)]
pub(super) struct Peer {
    address: String,
    settings: Arc<PeerSettings>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Made when it is used first.
    store: Option<GrpcStore>,
    /// It is not asked before.
    away_until: Option<Instant>,
}

impl Peer {
    pub(super) fn new(address: String, settings: Arc<PeerSettings>) -> Self {
        Self {
            address,
            settings,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server as a store, unless it was away a moment ago.
    async fn store(&self) -> Result<GrpcStore, Fault> {
        let known = {
            let mut state = self.state();
            if let Some(until) = state.away_until {
                let now = Instant::now();
                if now < until {
                    return Err(self.away());
                }
                // This request tries it; those that come meanwhile do not.
                state.away_until = Some(now + BREAK);
            }
            state.store.clone()
        };
        if let Some(store) = known {
            return Ok(store);
        }
        let settings = GrpcSettings {
            token: self.settings.token.clone(),
            certificates: self.settings.certificates.clone(),
            connect_timeout: CONNECT,
            call_timeout: ANSWER,
            stall_timeout: ANSWER,
            compression: false,
            ..GrpcSettings::new(self.address.clone())
        };
        let endpoint = self.heard(GrpcEndpoint::connect(settings).await)?;
        let store = GrpcStore::new(Arc::new(endpoint));
        self.state().store = Some(store.clone());
        Ok(store)
    }

    fn away(&self) -> Fault {
        Fault::new(
            FaultKind::Unavailable,
            format!("the server {} did not answer a moment ago", self.address),
        )
    }

    /// Notes what an answer says of the server.
    pub(super) fn heard<T>(&self, answer: Result<T, Fault>) -> Result<T, Fault> {
        let mut state = self.state();
        match &answer {
            Err(fault) if is_away(fault) => {
                tracing::debug!(
                    peer = self.address,
                    error = in_one_line(fault),
                    "a server is not asked for a while"
                );
                state.away_until = Some(Instant::now() + BREAK);
            }
            _ => state.away_until = None,
        }
        drop(state);
        answer
    }

    pub(super) async fn read(
        &self,
        blob: &CasDigest,
        range: ByteRange,
    ) -> Result<ByteStream, Fault> {
        let read = async {
            let store = self.store().await?;
            self.heard(store.read(blob, range).await)
        };
        self.settings.counters.peers.run("read", read).await
    }

    pub(super) async fn read_many(&self, blobs: &[CasDigest]) -> Vec<Result<Bytes, Fault>> {
        let read = async {
            let store = self.store().await?;
            let mut answers = store.read_many(blobs).await;
            let away = answers
                .iter()
                .position(|answer| answer.as_ref().is_err_and(is_away));
            match away {
                Some(at) => drop(self.heard(answers.swap_remove(at))),
                None => {
                    self.state().away_until = None;
                    return Ok(answers);
                }
            }
            Err(self.away())
        };
        match self.settings.counters.peers.run("read", read).await {
            Ok(answers) => {
                let bytes = answers.iter().flatten().map(Bytes::len).sum::<usize>();
                self.settings.counters.peers.received(bytes as u64);
                answers
            }
            Err(_) => blobs.iter().map(|_| Err(self.away())).collect(),
        }
    }
}

/// Whether a fault says that a server is of no use now: it is not there, or does not let us in.
const fn is_away(fault: &Fault) -> bool {
    matches!(
        fault.kind,
        FaultKind::Unavailable | FaultKind::Denied | FaultKind::Internal | FaultKind::Unsupported
    )
}
