//! Issuers of tokens, and how their keys are kept fresh.
//!
//! Keys are fetched at the start, every few minutes, when their file changes, and when a token
//! names a key that is not known, the last not more often than every 30 seconds. If they cannot be
//! fetched, those that were fetched last stay; before the first ones there are none, and tokens
//! are answered with UNAVAILABLE, for they may well be good.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use ashlar_model::executor::BoxFuture;
use ashlar_store::task::{Task, spawn};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::jwks::{KeySet, LARGEST};
use super::jwt::{Claims, JwtError, Parts};

/// Unknown keys make nobody ask the issuer more often than this.
pub const EARLIEST: Duration = Duration::from_secs(30);

/// So long a request waits for keys that are being fetched.
const PATIENCE: Duration = Duration::from_secs(5);

/// After a failure it is tried again so soon, or after the usual time if that is shorter.
const AFTER_FAILURE: Duration = Duration::from_secs(15);

/// Where keys come from.
pub trait KeySource: Send + Sync + fmt::Debug {
    /// The set, as it is served. Errors are for the log.
    fn fetch(&self) -> BoxFuture<'_, Result<Vec<u8>, String>>;
}

/// A file of keys.
#[derive(Debug)]
pub struct KeyFile(pub PathBuf);

impl KeySource for KeyFile {
    fn fetch(&self) -> BoxFuture<'_, Result<Vec<u8>, String>> {
        Box::pin(async move {
            let wrong = |error| format!("cannot read {}: {error}", self.0.display());
            let metadata = tokio::fs::metadata(&self.0).await.map_err(wrong)?;
            if metadata.len() > LARGEST as u64 {
                return Err(format!("{} is larger than 1 MiB", self.0.display()));
            }
            tokio::fs::read(&self.0).await.map_err(wrong)
        })
    }
}

/// What is known of an issuer besides its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerTerms {
    /// What `iss` has to be.
    pub issuer: String,
    /// One of what `aud` has to name.
    pub audience: Vec<String>,
    /// Where its keys are: other keys elsewhere are another issuer's.
    pub place: String,
    /// How often its keys are fetched.
    pub every: Duration,
}

/// An issuer of tokens.
#[derive(Debug)]
pub struct Issuer {
    terms: IssuerTerms,
    state: Arc<State>,
    _refreshing: Task<()>,
}

#[derive(Debug)]
struct State {
    name: String,
    source: Box<dyn KeySource>,
    keys: ArcSwapOption<KeySet>,
    /// When they were fetched, or when the server began to try.
    since: Mutex<Instant>,
    wanted: Notify,
    /// How many fetches have ended.
    ended: watch::Sender<u64>,
    /// When a fetch was last asked for because of a key that is not known, and how many had ended
    /// by then.
    asked: Mutex<Option<(Instant, u64)>>,
}

impl State {
    /// Fetches the keys. Gives whether it went well.
    async fn fetch(&self) -> bool {
        let fetched = match self.source.fetch().await {
            Ok(bytes) => KeySet::read(&bytes).map_err(|error| error.to_string()),
            Err(reason) => Err(reason),
        };
        let is_good = match fetched {
            Ok(keys) => {
                tracing::debug!(issuer = self.name, keys = keys.count(), "fetched keys");
                self.keys.store(Some(Arc::new(keys)));
                *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                true
            }
            Err(reason) => {
                let still = if self.keys.load().is_some() {
                    "those that were fetched before stay in use"
                } else {
                    "its tokens cannot be checked"
                };
                tracing::warn!(issuer = self.name, "no new keys: {reason}; {still}");
                false
            }
        };
        self.ended.send_modify(|count| *count += 1);
        is_good
    }
}

impl Issuer {
    /// An issuer whose keys are fetched in the background from now on. Has to be called within a
    /// runtime.
    pub fn start(terms: IssuerTerms, source: Box<dyn KeySource>) -> Self {
        let state = Arc::new(State {
            name: terms.issuer.clone(),
            source,
            keys: ArcSwapOption::empty(),
            since: Mutex::new(Instant::now()),
            wanted: Notify::new(),
            ended: watch::Sender::new(0),
            asked: Mutex::new(None),
        });
        let refreshed = state.clone();
        let every = terms.every;
        let refreshing = spawn(async move {
            loop {
                let pause = if refreshed.fetch().await {
                    every
                } else {
                    every.min(AFTER_FAILURE)
                };
                tokio::select! {
                    () = sleep(pause) => {}
                    () = refreshed.wanted.notified() => {}
                }
            }
        });
        Self {
            terms,
            state,
            _refreshing: refreshing,
        }
    }

    /// What is known of it besides its keys.
    pub const fn terms(&self) -> &IssuerTerms {
        &self.terms
    }

    /// Fetches the keys soon.
    pub fn refresh(&self) {
        self.state.wanted.notify_one();
    }

    /// Since when its keys were not fetched.
    pub fn age(&self) -> Duration {
        let since = self.state.since.lock();
        since.unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// The claims of a token that was good before, as long as the keys are the same.
    pub fn remembered(&self, token: &blake3::Hash) -> Option<Arc<Claims>> {
        self.state.keys.load().as_ref()?.remembered(token)
    }

    /// The claims of a token of this issuer, if it is good. `hash` is the token's.
    pub async fn check(
        &self,
        parts: &Parts<'_>,
        hash: blake3::Hash,
        now: SystemTime,
    ) -> Result<Arc<Claims>, JwtError> {
        let mut ended = self.state.ended.subscribe();
        let first = self.check_now(parts, hash, now);
        let is_hopeful = match first {
            // The first fetch is going on.
            Err(JwtError::NoKeys) => *ended.borrow() == 0,
            Err(JwtError::UnknownKey) => self.may_ask(),
            _ => false,
        };
        if !is_hopeful {
            return first;
        }
        match timeout(PATIENCE, ended.changed()).await {
            Ok(Ok(())) => self.check_now(parts, hash, now),
            _ => first,
        }
    }

    fn check_now(
        &self,
        parts: &Parts<'_>,
        hash: blake3::Hash,
        now: SystemTime,
    ) -> Result<Arc<Claims>, JwtError> {
        let keys = self.state.keys.load_full().ok_or(JwtError::NoKeys)?;
        let claims = parts.check(&keys, &self.terms.audience, now)?;
        keys.remember(hash, claims.clone());
        Ok(claims)
    }

    /// Asks for a fetch because of a key that is not known, if that may be. Gives whether one is
    /// going on.
    fn may_ask(&self) -> bool {
        let count = *self.state.ended.borrow();
        let mut asked = self
            .state
            .asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match *asked {
            Some((when, before)) if when.elapsed() < EARLIEST => before == count,
            _ => {
                *asked = Some((Instant::now(), count));
                self.refresh();
                true
            }
        }
    }
}
