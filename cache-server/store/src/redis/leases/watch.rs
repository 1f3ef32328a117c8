//! Who waits for a change of a lease is told.
//!
//! Scripts publish the names of leases that change hands on one channel, to which each server
//! listens once anybody waits. That may fail in many ways (a connection that broke, a server that
//! stands still), and what is published meanwhile is lost. So whoever waits also looks by itself now
//! and then: seldom while the server listens, often while it does not.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use redis::aio::PubSub;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::super::connection::Redis;
use super::super::wait::jittered;
use crate::task::{self, Task};

/// How often to look while changes are told.
const SELDOM: Duration = Duration::from_secs(10);

/// How often to look while they are not; and how long before the next try to listen.
const OFTEN: Duration = Duration::from_secs(1);

/// How often to see whether the connection still lives.
const PING: Duration = Duration::from_secs(5);

/// All who wait on this server.
#[derive(Debug)]
pub(super) struct Watchers {
    shared: Arc<Shared>,
    redis: Arc<Redis>,
    /// Listens from the first that waits on.
    listener: OnceLock<Task<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    listens: AtomicBool,
    waiting: Mutex<HashMap<Vec<u8>, Arc<Notify>>>,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Arc<Notify>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, name: &[u8]) {
        if let Some(waiting) = self.waiting().get(name) {
            waiting.notify_waiters();
        }
    }

    /// Something may have been missed.
    fn tell_all(&self) {
        for waiting in self.waiting().values() {
            waiting.notify_waiters();
        }
    }
}

impl Watchers {
    pub(super) fn new(redis: Arc<Redis>) -> Self {
        Self {
            shared: Arc::default(),
            redis,
            listener: OnceLock::new(),
        }
    }

    /// Waits for changes of the lease of this name.
    pub(super) fn watch(&self, name: Vec<u8>) -> Watcher<'_> {
        self.listener.get_or_init(|| {
            let (redis, shared) = (self.redis.clone(), self.shared.clone());
            task::spawn(async move { listen(&redis, &shared).await })
        });
        let changes = self
            .shared
            .waiting()
            .entry(name.clone())
            .or_default()
            .clone();
        Watcher {
            shared: &self.shared,
            name,
            changes,
        }
    }

    /// How long to wait at most before the next look.
    pub(super) fn poll_interval(&self) -> Duration {
        let listens = self.shared.listens.load(Ordering::Relaxed);
        jittered(if listens { SELDOM } else { OFTEN })
    }
}

/// Stands for one who waits; the last of a name that goes tidies up.
#[derive(Debug)]
pub(super) struct Watcher<'w> {
    shared: &'w Shared,
    name: Vec<u8>,
    changes: Arc<Notify>,
}

impl Watcher<'_> {
    /// The next change.
    pub(super) fn notified(&self) -> Notified<'_> {
        self.changes.notified()
    }
}

impl Drop for Watcher<'_> {
    fn drop(&mut self) {
        let mut waiting = self.shared.waiting();
        // This one and the map's.
        if Arc::strong_count(&self.changes) <= 2 {
            waiting.remove(&self.name);
        }
    }
}

/// Listens for ever.
async fn listen(redis: &Redis, shared: &Shared) {
    loop {
        match redis.subscribe(&redis.keys.channel()).await {
            Ok(listener) => {
                shared.listens.store(true, Ordering::Relaxed);
                shared.tell_all();
                pass_on(redis, shared, listener).await;
                shared.listens.store(false, Ordering::Relaxed);
                shared.tell_all();
            }
            Err(trouble) => {
                tracing::debug!(error = trouble.error, "changes of leases are not told");
            }
        }
        sleep(jittered(OFTEN)).await;
    }
}

/// Passes on what is published, until the connection breaks or other servers are to be asked.
async fn pass_on(redis: &Redis, shared: &Shared, listener: PubSub) {
    let (mut sink, mut messages) = listener.split();
    let mut servers = redis.changes();
    let mut pings = interval(PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = messages.next() => match message {
                Some(message) => shared.tell(message.get_payload_bytes()),
                None => return,
            },
            _ = pings.tick() => {
                let ping = timeout(redis.settings().response_timeout, sink.ping::<redis::Value>());
                if !matches!(ping.await, Ok(Ok(_))) {
                    return;
                }
            }
            _ = servers.changed() => return,
        }
    }
}
