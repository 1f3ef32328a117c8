//! What was done lately and need not be done again: notes of use, which may be coarse.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many are remembered; then all are forgotten.
const MOST: usize = 1 << 20;

/// Remembers what was done since some moment, for so long.
#[derive(Debug)]
pub(super) struct Recent {
    interval: Duration,
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    since: Instant,
    /// Hashes: that two are the same costs a note, and is next to impossible.
    done: HashSet<u64>,
}

impl Recent {
    /// What is due is so once in this time.
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            hasher: RandomState::new(),
            state: Mutex::new(State {
                since: Instant::now(),
                done: HashSet::new(),
            }),
        }
    }

    /// Those that have not been done lately, each once. From now on they have.
    pub(super) fn due<T: Hash>(&self, all: impl IntoIterator<Item = T>) -> Vec<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.since.elapsed() > self.interval || state.done.len() > MOST {
            state.since = Instant::now();
            state.done.clear();
        }
        let is_due = |one: &T| state.done.insert(self.hasher.hash_one(one));
        all.into_iter().filter(is_due).collect()
    }

    /// These have not been done after all.
    pub(super) fn undo<T: Hash>(&self, all: impl IntoIterator<Item = T>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for one in all {
            state.done.remove(&self.hasher.hash_one(one));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_is_due_once_in_a_while() {
        let recent = Recent::new(Duration::from_secs(60));
        assert_eq!(recent.due(["a", "b", "a"]), ["a", "b"]);
        assert_eq!(recent.due(["b", "c"]), ["c"]);
        recent.undo(["b"]);
        assert_eq!(recent.due(["b", "c"]), ["b"]);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(recent.due(["a", "b"]), ["a", "b"]);
    }
}
