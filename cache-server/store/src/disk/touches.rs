//! What was used lately and is not noted yet.
//!
//! Reads do not write. An entry that was used is remembered here, and only if its noted time is old
//! enough to matter; the writer notes many at once. What is remembered counts as used already:
//! nothing in here is evicted. A crash loses some minutes of times of use, no more.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use super::key::Key;

/// So many are remembered; further ones are noted at their next use.
const MOST: usize = 200_000;

#[derive(Debug, Default)]
pub(super) struct Touches {
    keys: Mutex<HashSet<Key>>,
}

impl Touches {
    pub(super) fn add(&self, keys: impl Iterator<Item = Key>) {
        let mut all = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            if all.len() < MOST {
                all.insert(key);
            }
        }
    }

    pub(super) fn take(&self) -> HashSet<Key> {
        let mut all = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *all)
    }

    pub(super) fn is_empty(&self) -> bool {
        let all = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        all.is_empty()
    }
}
