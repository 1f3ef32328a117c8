//! What was read lately of blobs that never change, within a bound.
//!
//! For the few small blobs that are wanted again and again: lists of chunks, records of results. They
//! are remembered under their digests, so nothing of it is ever out of date; whether the blob is still
//! there is another question, which is asked elsewhere.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ashlar_model::cas::CasDigest;

/// What a digest and the table around it take.
const ENTRY: usize = 96;

/// Values by digest: those used last, up to a bound.
pub struct Recalled<T> {
    limit: usize,
    state: Mutex<State<T>>,
}

/// Two generations: what is used moves to the young one; when that is full, the old one is forgotten.
struct State<T> {
    young: HashMap<CasDigest, (T, usize)>,
    old: HashMap<CasDigest, (T, usize)>,
    /// Of the young.
    bytes: usize,
}

impl<T> fmt::Debug for Recalled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recalled")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl<T: Clone> Recalled<T> {
    /// Remembers about so many bytes.
    pub fn new(limit: usize) -> Self {
        let state = State {
            young: HashMap::new(),
            old: HashMap::new(),
            bytes: 0,
        };
        Self {
            limit,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The values of some digests, as far as they are remembered.
    pub fn get(&self, digests: &[CasDigest]) -> Vec<Option<T>> {
        let mut state = self.state();
        let get = |digest: &CasDigest| {
            if let Some((value, _)) = state.young.get(digest) {
                return Some(value.clone());
            }
            let (value, bytes) = state.old.remove(digest)?;
            self.put(&mut state, *digest, value.clone(), bytes);
            Some(value)
        };
        digests.iter().map(get).collect()
    }

    /// Remembers a value of so many bytes, unless it is large.
    pub fn note(&self, digest: CasDigest, value: T, bytes: usize) {
        let bytes = bytes.saturating_add(ENTRY);
        if bytes <= self.limit / 16 {
            self.put(&mut self.state(), digest, value, bytes);
        }
    }

    fn put(&self, state: &mut State<T>, digest: CasDigest, value: T, bytes: usize) {
        if state.bytes.saturating_add(bytes) > self.limit / 2 {
            state.old = std::mem::take(&mut state.young);
            state.bytes = 0;
        }
        if state.young.insert(digest, (value, bytes)).is_none() {
            state.bytes += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use ashlar_model::cas::DigestFunction;

    use super::*;

    fn digest(number: usize) -> CasDigest {
        CasDigest::of(DigestFunction::Blake3, &number.to_le_bytes())
    }

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let recalled = Recalled::new(100 * (ENTRY + 10));
        for number in 0..1000 {
            recalled.note(digest(number), number, 10);
            assert_eq!(recalled.get(&[digest(7)])[0].is_some(), number >= 7);
        }
        let all: Vec<CasDigest> = (0..1000).map(digest).collect();
        let found = recalled.get(&all).into_iter().flatten().count();
        assert!((40..=100).contains(&found), "{found}");
        let state = recalled.state();
        assert!(state.young.len() + state.old.len() <= 100);
    }

    #[test]
    fn what_is_large_is_not_remembered() {
        let recalled = Recalled::new(16_000);
        recalled.note(digest(1), (), 2000);
        recalled.note(digest(2), (), 100);
        assert_eq!(recalled.get(&[digest(1), digest(2)]), [None, Some(())]);
    }
}
