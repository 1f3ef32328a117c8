//! `ashlar.cache.v1.Leases`: leave to make something alone. The rules are those of
//! [`crate::lease`]; here are the clock, the tokens and those who wait.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ashlar_proto::convert::{duration_from_wire, duration_to_wire};
use ashlar_proto::wire::ext;
use ashlar_proto::wire::ext::acquire_response::Outcome;
use ashlar_proto::wire::ext::leases_server::Leases as LeasesApi;
use futures::{Stream, stream};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, async_trait};

use super::request::check_instance;
use crate::lease::{Acquired, Fence, Held, Key, Leases, Limits};
use crate::{auth, limits};

/// The leases of a server.
#[derive(Debug)]
pub struct LeaseTable {
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    leases: Leases,
    /// Those who watch a key, told when it changes hands.
    watched: HashMap<Key, Arc<Notify>>,
}

impl LeaseTable {
    /// No lease; all fencing numbers will be larger than `number`.
    pub fn new(number: u64) -> Self {
        Self {
            start: Instant::now(),
            state: Mutex::new(State {
                leases: Leases::new(number, Limits::default()),
                watched: HashMap::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> std::time::Duration {
        self.start.elapsed()
    }

    /// Whether what was made under a fencing number may be stored.
    pub fn fence(&self, instance: &str, key: &str, number: u64) -> Fence {
        let key = Key {
            instance: instance.to_owned(),
            key: key.to_owned(),
        };
        self.state().leases.fence(&key, number)
    }

    /// How many keys are held.
    pub fn count(&self) -> usize {
        self.state().leases.count(self.now())
    }

    /// Forgets keys that nobody has held for long.
    pub fn tidy(&self) {
        let now = self.now();
        self.state().leases.forget(now);
    }

    fn notify(state: &State, key: &Key) {
        if let Some(watchers) = state.watched.get(key) {
            watchers.notify_waiters();
        }
    }
}

/// Stands for one who watches; the last of a key that goes tidies up.
#[derive(Debug)]
struct Watcher {
    table: Arc<LeaseTable>,
    key: Key,
    changes: Arc<Notify>,
}

impl Watcher {
    fn new(table: Arc<LeaseTable>, key: Key) -> Self {
        let changes = table
            .state()
            .watched
            .entry(key.clone())
            .or_default()
            .clone();
        Self {
            table,
            key,
            changes,
        }
    }

    fn held(&self) -> Option<Held> {
        let state = self.table.state();
        state.leases.held(&self.key, self.table.now())
    }

    /// Waits until another holds the key than that of the number `seen`, or nobody.
    async fn change(&self, seen: u64) -> Option<Held> {
        loop {
            // Asked to be told first, so that no change is missed between looking and waiting.
            let mut told = std::pin::pin!(self.changes.notified());
            told.as_mut().enable();
            let held = self.held()?;
            if held.number != seen {
                return Some(held);
            }
            tokio::select! {
                () = told => {}
                () = tokio::time::sleep(held.runs_out_in) => {}
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut state = self.table.state();
        // This one and the map's.
        if Arc::strong_count(&self.changes) <= 2 {
            state.watched.remove(&self.key);
        }
    }
}

/// The service.
#[derive(Debug, Clone)]
pub struct LeasesService {
    /// The leases.
    pub table: Arc<LeaseTable>,
    /// Ends those who watch, when the server is stopped.
    pub stopping: CancellationToken,
}

fn key(instance: String, key: String) -> Result<Key, Status> {
    check_instance(&instance)?;
    if key.is_empty() || key.len() > limits::LEASE_KEY {
        return Err(Status::invalid_argument(format!(
            "the key of a lease has 1 to {} bytes",
            limits::LEASE_KEY
        )));
    }
    Ok(Key { instance, key })
}

fn to_wire(held: Held) -> ext::Held {
    ext::Held {
        holder: held.holder,
        held_for: Some(duration_to_wire(held.held_for)),
        runs_out_in: Some(duration_to_wire(held.runs_out_in)),
    }
}

/// A token that nobody can guess.
fn random_token() -> Result<String, Status> {
    let mut bytes = [0; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())
            .map_err(|_| Status::internal("the server has no random numbers"))?;
    }
    Ok(hex::encode(bytes))
}

#[async_trait]
impl LeasesApi for LeasesService {
    async fn acquire(
        &self,
        request: Request<ext::AcquireRequest>,
    ) -> Result<Response<ext::AcquireResponse>, Status> {
        auth::require_write(&request)?;
        let request = request.into_inner();
        let key = key(request.instance_name, request.key)?;
        if request.holder.len() > limits::LEASE_HOLDER {
            return Err(Status::invalid_argument(format!(
                "the name of a holder has no more than {} bytes",
                limits::LEASE_HOLDER
            )));
        }
        let ttl = request.ttl.as_ref().and_then(duration_from_wire);
        let ttl = ttl.ok_or_else(|| Status::invalid_argument("ttl is not set, or negative"))?;
        let token = random_token()?;
        let now = self.table.now();
        let mut state = self.table.state();
        let outcome = match state
            .leases
            .acquire(&key, &request.holder, &token, ttl, now)
        {
            Acquired::Granted(granted) => {
                LeaseTable::notify(&state, &key);
                Outcome::Granted(ext::Lease {
                    token,
                    fencing_number: granted.number,
                    ttl: Some(duration_to_wire(granted.ttl)),
                })
            }
            Acquired::Held(held) => Outcome::Held(to_wire(held)),
            Acquired::TooMany => {
                return Err(Status::resource_exhausted("there are too many leases"));
            }
        };
        Ok(Response::new(ext::AcquireResponse {
            outcome: Some(outcome),
        }))
    }

    async fn renew(
        &self,
        request: Request<ext::RenewRequest>,
    ) -> Result<Response<ext::RenewResponse>, Status> {
        auth::require_write(&request)?;
        let request = request.into_inner();
        let key = key(request.instance_name, request.key)?;
        let now = self.table.now();
        let renewed = self.table.state().leases.renew(&key, &request.token, now);
        let ttl = renewed.map_err(|lost| Status::not_found(lost.to_string()))?;
        Ok(Response::new(ext::RenewResponse {
            ttl: Some(duration_to_wire(ttl)),
        }))
    }

    async fn release(
        &self,
        request: Request<ext::ReleaseRequest>,
    ) -> Result<Response<ext::ReleaseResponse>, Status> {
        auth::require_write(&request)?;
        let request = request.into_inner();
        let key = key(request.instance_name, request.key)?;
        let now = self.table.now();
        let mut state = self.table.state();
        if state.leases.release(&key, &request.token, now) {
            LeaseTable::notify(&state, &key);
        }
        Ok(Response::new(ext::ReleaseResponse {}))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<ext::WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<ext::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let key = key(request.instance_name, request.key)?;
        let watcher = Watcher::new(self.table.clone(), key);
        let stopping = self.stopping.clone();
        // The number of the holder that the client was told of; `None` once it knows of nobody.
        let answers = stream::unfold(Some((watcher, 0)), move |state| {
            let stopping = stopping.clone();
            async move {
                let (watcher, seen) = state?;
                let held = tokio::select! {
                    held = watcher.change(seen) => held,
                    () = stopping.cancelled() => {
                        let stop = Status::unavailable("the server is being stopped");
                        return Some((Err(stop), None));
                    }
                };
                let next = held.as_ref().map(|held| held.number);
                let answer = ext::WatchResponse {
                    held: held.map(to_wire),
                };
                Some((Ok(answer), next.map(|seen| (watcher, seen))))
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
