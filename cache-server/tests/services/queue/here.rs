//! A server with a queue, over connections in memory.

use std::time::Duration;

use ashlar_cache_server::audit::Audit;
use ashlar_cache_server::auth::Access;
use ashlar_cache_server::dispatch::Dispatch;
use ashlar_cache_server::stores::Stores;
use ashlar_proto::wire::farm::worker_message::Hello;
use ashlar_queue::Settings;
use tonic::Status;

use super::farm::{Client, Worker, hello};
use crate::harness::Harness;

/// Times that tests can wait for.
pub(crate) fn quick() -> Settings {
    Settings {
        lease: Duration::from_secs(1),
        renew_every: Duration::from_millis(300),
        grace: Duration::from_millis(500),
        backoff: Duration::from_millis(50),
        hold: Duration::from_millis(10),
        ..Settings::default()
    }
}

/// A server where everybody may do everything.
pub(crate) async fn open(settings: Settings) -> Harness {
    let (access, audit) = (Access::open(), Audit::none());
    let dispatch = Dispatch::alone(settings, &ashlar_store::clock::system());
    Harness::with_queue(access, 0, Stores::shared, audit, Some(dispatch)).await
}

impl Client {
    pub(crate) async fn new(harness: &Harness) -> Self {
        Self::over(harness.channel().await)
    }
}

impl Worker {
    /// A worker that has been welcomed, and takes as much as it has slots.
    pub(crate) async fn attach(harness: &Harness, id: &str, slots: u32) -> Self {
        let worker = Self::with(harness, hello(id, slots), "").await;
        let worker = worker.expect("welcome");
        worker.capacity(slots);
        worker
    }

    /// A worker that says hello with a token.
    pub(crate) async fn with(harness: &Harness, hello: Hello, token: &str) -> Result<Self, Status> {
        Self::over(harness.worker_channel().await, hello, token).await
    }
}
