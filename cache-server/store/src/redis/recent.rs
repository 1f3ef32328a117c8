//! What was done lately and need not be done again: notes of use, which may be coarse.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
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

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.since.elapsed() > self.interval || state.done.len() > MOST {
            state.since = Instant::now();
            state.done.clear();
        }
        state
    }

    /// Those that have not been done lately, each once. From now on they have.
    pub(super) fn due<T: Hash>(&self, all: impl IntoIterator<Item = T>) -> Vec<T> {
        self.due_since(all).0
    }

    /// The same, and since when what is done is remembered.
    pub(super) fn due_since<T: Hash>(&self, all: impl IntoIterator<Item = T>) -> (Vec<T>, Instant) {
        let mut state = self.state();
        let State { since, done } = &mut *state;
        let is_due = |one: &T| done.insert(self.hasher.hash_one(one));
        (all.into_iter().filter(is_due).collect(), *since)
    }

    /// Which of these have been done lately.
    pub(super) fn are_done<T: Hash>(&self, all: impl IntoIterator<Item = T>) -> Vec<bool> {
        let state = self.state();
        let is_done = |one: T| state.done.contains(&self.hasher.hash_one(one));
        all.into_iter().map(is_done).collect()
    }

    /// These have been done, with others that were [due](Self::due_since): unless that was forgotten
    /// meanwhile, they are remembered as long.
    pub(super) fn done_with<T: Hash>(&self, since: Instant, all: impl IntoIterator<Item = T>) {
        let mut state = self.state();
        if state.since == since {
            let all = all.into_iter().map(|one| self.hasher.hash_one(one));
            state.done.extend(all);
        }
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

    #[tokio::test(start_paused = true)]
    async fn what_goes_with_others_is_remembered_no_longer_than_they_are() {
        let recent = Recent::new(Duration::from_secs(60));
        let (due, since) = recent.due_since(["object"]);
        assert_eq!(due, ["object"]);
        assert_eq!(recent.are_done(["blob", "object"]), [false, true]);
        recent.done_with(since, ["blob"]);
        assert_eq!(recent.are_done(["blob", "object"]), [true, true]);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(recent.are_done(["blob", "object"]), [false, false]);
        recent.done_with(since, ["blob"]);
        assert_eq!(recent.are_done(["blob"]), [false]);
    }
}
