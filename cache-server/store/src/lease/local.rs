//! The leases of one process: the [rules] with a clock, tokens and those who wait.
//!
//! After a restart nothing is held; fencing numbers go on above those of before if the owner says
//! where ([`super::rules::first_number`]).

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ashlar_model::cas::ActionKey;
use ashlar_model::executor::BoxFuture;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::rules::{self, Leases, Limits};
use super::{Acquired, Committed, Fence, Grant, Held, LeaseKey, LeaseStore, lost, random_token};
use crate::action_cache::{ActionCache, PutMode};
use crate::fault::{Fault, FaultKind};

/// Grants and commits of as many keys go on at once; those of one key never do.
const TURNS: usize = 64;

/// So often keys that nobody has held for long are forgotten.
const TIDY: Duration = Duration::from_secs(30);

/// The leases of one process.
#[derive(Debug)]
pub struct LocalLeases {
    start: Instant,
    results: Arc<dyn ActionCache>,
    hasher: RandomState,
    /// Held while a key is granted, or a result is stored under it.
    turns: Vec<tokio::sync::Mutex<()>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    leases: Leases,
    /// When keys that nobody has held for long were last forgotten.
    tidied: Duration,
    /// Those who watch a key, told when it changes hands.
    watched: HashMap<LeaseKey, Arc<Notify>>,
}

impl State {
    fn notify(&self, key: &LeaseKey) {
        if let Some(watchers) = self.watched.get(key) {
            watchers.notify_waiters();
        }
    }
}

impl LocalLeases {
    /// No lease; all fencing numbers will be larger than `number`. What is made under leases goes
    /// to `results`.
    pub fn new(number: u64, results: Arc<dyn ActionCache>) -> Self {
        Self {
            start: Instant::now(),
            results,
            hasher: RandomState::new(),
            turns: (0..TURNS).map(|_| tokio::sync::Mutex::default()).collect(),
            state: Mutex::new(State {
                leases: Leases::new(number, Limits::default()),
                tidied: Duration::ZERO,
                watched: HashMap::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    async fn turn(&self, key: &LeaseKey) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        // 64 fits every pointer.
        #[expect(clippy::cast_possible_truncation, reason = "the remainder is below 64")]
        let place = (self.hasher.hash_one(key) % TURNS as u64) as usize;
        let turn = self.turns.get(place)?;
        Some(turn.lock().await)
    }

    fn lease(&self, key: &LeaseKey) -> Option<Held> {
        self.state().leases.held(key, self.now())
    }
}

impl LeaseStore for LocalLeases {
    fn acquire<'a>(
        &'a self,
        key: &'a LeaseKey,
        holder: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Acquired, Fault>> {
        Box::pin(async move {
            let token = random_token()?;
            let _turn = self.turn(key).await;
            let now = self.now();
            let mut state = self.state();
            if now.saturating_sub(state.tidied) > TIDY {
                state.tidied = now;
                state.leases.forget(now);
            }
            match state.leases.acquire(key, holder, &token, ttl, now) {
                rules::Acquired::Granted(granted) => {
                    state.notify(key);
                    Ok(Acquired::Granted(Grant {
                        token,
                        number: granted.number,
                        ttl: granted.ttl,
                    }))
                }
                rules::Acquired::Held(held) => Ok(Acquired::Held(held)),
                rules::Acquired::TooMany => Err(Fault::new(
                    FaultKind::Exhausted,
                    "there are too many leases",
                )),
            }
        })
    }

    fn renew<'a>(
        &'a self,
        key: &'a LeaseKey,
        token: &'a str,
    ) -> BoxFuture<'a, Result<Duration, Fault>> {
        Box::pin(async move {
            let now = self.now();
            let renewed = self.state().leases.renew(key, token, now);
            renewed.map_err(|rules::Lost| lost())
        })
    }

    fn release<'a>(
        &'a self,
        key: &'a LeaseKey,
        token: &'a str,
    ) -> BoxFuture<'a, Result<bool, Fault>> {
        Box::pin(async move {
            let now = self.now();
            let mut state = self.state();
            let own = state.leases.release(key, token, now);
            if own {
                state.notify(key);
            }
            Ok(own)
        })
    }

    fn held<'a>(&'a self, key: &'a LeaseKey) -> BoxFuture<'a, Result<Option<Held>, Fault>> {
        Box::pin(async move { Ok(self.lease(key)) })
    }

    fn changed<'a>(
        &'a self,
        key: &'a LeaseKey,
        seen: u64,
    ) -> BoxFuture<'a, Result<Option<Held>, Fault>> {
        Box::pin(async move {
            let watcher = Watcher::new(self, key);
            loop {
                // Asked to be told first, so that no change is missed between looking and waiting.
                let mut told = std::pin::pin!(watcher.changes.notified());
                told.as_mut().enable();
                let Some(held) = self.lease(key) else {
                    return Ok(None);
                };
                if held.number != seen {
                    return Ok(Some(held));
                }
                tokio::select! {
                    () = told => {}
                    () = tokio::time::sleep(held.runs_out_in) => {}
                }
            }
        })
    }

    fn commit<'a>(
        &'a self,
        key: &'a ActionKey,
        result: Bytes,
        fence: Option<&'a Fence>,
        hole: Option<&'a Bytes>,
    ) -> BoxFuture<'a, Result<Committed, Fault>> {
        Box::pin(async move {
            let _turn = match fence {
                Some(fence) => {
                    let turn = self.turn(&fence.key).await;
                    let known = self.state().leases.fence(&fence.key, fence.number);
                    if known == rules::Fence::Superseded {
                        return Ok(Committed::Superseded);
                    }
                    turn
                }
                None => None,
            };
            if hole.is_some() && self.results.swap(key, hole, result.clone()).await? {
                return Ok(Committed::Stored);
            }
            let put = self.results.put(key, result.clone(), PutMode::IfAbsent);
            let there = put.await?;
            Ok(if there == result {
                Committed::Stored
            } else {
                Committed::AlreadyThere(there)
            })
        })
    }

    fn count(&self) -> Option<u64> {
        Some(self.state().leases.count(self.now()) as u64)
    }
}

/// Stands for one who watches; the last of a key that goes tidies up.
#[derive(Debug)]
struct Watcher<'a> {
    leases: &'a LocalLeases,
    key: &'a LeaseKey,
    changes: Arc<Notify>,
}

impl<'a> Watcher<'a> {
    fn new(leases: &'a LocalLeases, key: &'a LeaseKey) -> Self {
        let changes = leases
            .state()
            .watched
            .entry(key.clone())
            .or_default()
            .clone();
        Self {
            leases,
            key,
            changes,
        }
    }
}

impl Drop for Watcher<'_> {
    fn drop(&mut self) {
        let mut state = self.leases.state();
        // This one and the map's.
        if Arc::strong_count(&self.changes) <= 2 {
            state.watched.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;
    use crate::memory::MemoryStore;

    fn fresh() -> ((), Arc<LocalLeases>) {
        let results = Arc::new(MemoryStore::new(1 << 20));
        ((), Arc::new(LocalLeases::new(1 << 32, results)))
    }

    conformance::lease_store_tests!(leases, std::future::ready(fresh()));
}
