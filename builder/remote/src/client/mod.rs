//! A farm, as those see it who give it work: builders, and workers that drive whole builds.
//!
//! | module | subject |
//! |---|---|
//! | [`error`] | what can go wrong |
//! | [`farm`] | what there is |
//! | [`work`] | work as an action |
//! | [`operation`] | giving work, waiting for it, calling it off |
//! | `events` | what operations say |
//! | [`session`] | what only the client has: secrets, agents |
//! | [`builds`], [`image`] | whole builds; what comes of making images |
//! | [`offer`] | what of that a build gives, and to whom |
//! | [`runner`] | segments of a build, its delivery, whole builds |
//! | `bases`, `contexts` | what only the client has of a build's files |
//! | `translate` | what operations say, as builds say it |
//!
//! A connection that breaks is taken up again: an operation is waited for by its name, and its
//! events come from where they broke off. A server that has forgotten the operation is given the
//! work once more: what of it is done is in the farm's cache.

mod bases;
pub mod builds;
mod contexts;
pub mod error;
mod events;
pub mod farm;
pub mod image;
pub mod offer;
pub mod operation;
pub mod runner;
pub mod session;
mod translate;
pub mod work;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ashlar_model::cas::DigestFunction;
use ashlar_store::BlobStore;
use ashlar_store::grpc::{GrpcEndpoint, GrpcSettings, GrpcStore};
use ashlar_store::task::{Task, spawn};
use tokio::time::timeout;

pub use contexts::HintPath;
pub use error::FarmError;
pub use farm::{Farm, WorkerKind};
pub use offer::Offer;
pub use operation::Outcome;
pub use runner::{BuildOptions, FarmRunner};
pub use session::Session;
pub use translate::{build_event, output_event};
pub use work::{Placement, Work, WorkKind};

/// Connections that are held to each farm: each segment has two streams, and servers have a limit of
/// streams for each connection.
const CONNECTIONS: usize = 4;

/// How long a call may take that is none of waiting.
const CALL: Duration = Duration::from_secs(60);

/// How long calling work off may take when the client leaves.
const LAST_CALLS: Duration = Duration::from_secs(3);

/// A farm.
#[derive(Clone)]
pub struct FarmClient {
    endpoint: Arc<GrpcEndpoint>,
    store: Arc<dyn BlobStore>,
    /// Calls that are made behind the back of a future that was dropped.
    last_calls: Arc<Mutex<Vec<Task<()>>>>,
}

impl fmt::Debug for FarmClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FarmClient")
            .field("address", &self.endpoint.settings().address)
            .field("instance", &self.endpoint.instance())
            .finish_non_exhaustive()
    }
}

impl FarmClient {
    /// Connects to a farm.
    pub async fn connect(mut settings: GrpcSettings) -> Result<Self, FarmError> {
        settings.connections = settings.connections.max(CONNECTIONS);
        settings.call_timeout = CALL;
        let endpoint = GrpcEndpoint::connect(settings)
            .await
            .map_err(FarmError::of_fault)?;
        Ok(Self::over(Arc::new(endpoint)))
    }

    /// The farm behind a connection that is there already.
    pub fn over(endpoint: Arc<GrpcEndpoint>) -> Self {
        Self {
            store: Arc::new(GrpcStore::new(Arc::clone(&endpoint))),
            endpoint,
            last_calls: Arc::default(),
        }
    }

    /// The connection.
    pub const fn endpoint(&self) -> &Arc<GrpcEndpoint> {
        &self.endpoint
    }

    /// The farm's blobs.
    pub const fn store(&self) -> &Arc<dyn BlobStore> {
        &self.store
    }

    /// REAPI's instance name.
    pub fn instance(&self) -> &str {
        self.endpoint.instance()
    }

    /// What blobs are named with.
    pub fn function(&self) -> DigestFunction {
        self.endpoint.function()
    }

    /// Makes a call that nobody waits for, until [`Self::settle`].
    fn last_call(&self, call: impl Future<Output = ()> + Send + 'static) {
        // Without a runtime there is nobody who could make it.
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let mut calls = self.calls();
        calls.retain(|call| !call.abort_handle().is_finished());
        calls.push(spawn(call));
    }

    /// Waits, for a moment, until the farm has heard that work is called off. To be called before
    /// the runtime ends.
    pub async fn settle(&self) {
        let calls = std::mem::take(&mut *self.calls());
        let all = futures::future::join_all(calls);
        // A farm that does not hear it notices by itself that the client is gone.
        drop(timeout(LAST_CALLS, all).await);
    }

    fn calls(&self) -> std::sync::MutexGuard<'_, Vec<Task<()>>> {
        self.last_calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
