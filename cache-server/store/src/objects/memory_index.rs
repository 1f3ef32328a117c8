//! The index of blobs in memory: for tests, and as the plainest account of what an index does.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use ashlar_model::cas::CasDigest;
use ashlar_model::executor::BoxFuture;

use super::index::{BlobIndex, IndexedObject, Place, Totals};
use crate::clock::Clock;
use crate::fault::Fault;

/// Keeps where blobs lie, for as long as it lives.
pub struct MemoryIndex {
    clock: Clock,
    state: Mutex<State>,
}

impl std::fmt::Debug for MemoryIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryIndex").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    blobs: HashMap<CasDigest, Place>,
    objects: BTreeMap<String, Object>,
    condemned: BTreeMap<String, SystemTime>,
}

#[derive(Debug)]
struct Object {
    bytes: u64,
    last_used: SystemTime,
}

impl MemoryIndex {
    /// An index that knows nothing.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            state: Mutex::default(),
        }
    }

    /// Forgets everything, as an index that was lost.
    pub fn clear(&self) {
        *self.lock() = State::default();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn lies_in(&self, object: &str, blob: &CasDigest) -> bool {
        self.blobs
            .get(blob)
            .is_some_and(|place| place.object == object)
    }

    fn forget(&mut self, object: &str, blobs: &[CasDigest]) {
        for blob in blobs {
            if self.lies_in(object, blob) {
                self.blobs.remove(blob);
            }
        }
    }
}

impl BlobIndex for MemoryIndex {
    fn find<'a>(
        &'a self,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<Option<Place>>, Fault>> {
        Box::pin(async move {
            let now = (self.clock)();
            let mut state = self.lock();
            let places: Vec<Option<Place>> = blobs
                .iter()
                .map(|blob| state.blobs.get(blob).cloned())
                .collect();
            for name in places.iter().flatten().map(|place| &place.object) {
                if let Some(object) = state.objects.get_mut(name) {
                    object.last_used = now;
                }
            }
            Ok(places)
        })
    }

    fn add<'a>(
        &'a self,
        object: &'a str,
        bytes: u64,
        blobs: &'a [(CasDigest, u64)],
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let last_used = (self.clock)();
            let mut state = self.lock();
            state
                .objects
                .insert(object.to_owned(), Object { bytes, last_used });
            for (blob, offset) in blobs {
                let place = Place {
                    object: object.to_owned(),
                    offset: *offset,
                };
                state.blobs.insert(*blob, place);
            }
            Ok(())
        })
    }

    fn forget<'a>(
        &'a self,
        object: &'a str,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            self.lock().forget(object, blobs);
            Ok(())
        })
    }

    fn oldest(&self, most: usize) -> BoxFuture<'_, Result<Vec<IndexedObject>, Fault>> {
        Box::pin(async move {
            let state = self.lock();
            let mut objects: Vec<IndexedObject> = state
                .objects
                .iter()
                .map(|(name, object)| IndexedObject {
                    name: name.clone(),
                    bytes: object.bytes,
                    last_used: object.last_used,
                })
                .collect();
            objects.sort_by_key(|object| object.last_used);
            objects.truncate(most);
            Ok(objects)
        })
    }

    fn within<'a>(
        &'a self,
        object: &'a str,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        Box::pin(async move {
            let state = self.lock();
            let within = blobs.iter().filter(|blob| state.lies_in(object, blob));
            let mut seen = HashSet::new();
            Ok(within.filter(|blob| seen.insert(**blob)).copied().collect())
        })
    }

    fn condemn<'a>(
        &'a self,
        object: &'a str,
        blobs: &'a [CasDigest],
        at: SystemTime,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let mut state = self.lock();
            state.forget(object, blobs);
            state.objects.remove(object);
            state.condemned.insert(object.to_owned(), at);
            Ok(())
        })
    }

    fn condemned(&self, now: SystemTime, most: usize) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
        Box::pin(async move {
            let state = self.lock();
            let due = state.condemned.iter().filter(|(_, at)| **at <= now);
            Ok(due.map(|(name, _)| name.clone()).take(most).collect())
        })
    }

    fn strike<'a>(&'a self, object: &'a str) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            self.lock().condemned.remove(object);
            Ok(())
        })
    }

    fn totals(&self) -> BoxFuture<'_, Result<Totals, Fault>> {
        Box::pin(async move {
            let state = self.lock();
            Ok(Totals {
                blobs: state.blobs.len() as u64,
                objects: state.objects.len() as u64,
                bytes: state.objects.values().map(|object| object.bytes).sum(),
            })
        })
    }
}
