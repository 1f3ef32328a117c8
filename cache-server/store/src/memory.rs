//! A store in memory, for tests and for little things in front of a slower store.
//!
//! It holds so many bytes and forgets what was used least recently: blobs and results alike. One
//! lock guards everything; nothing is awaited while it is held. What is being written is in no
//! list and counts for nothing until it is whole.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ashlar_model::cas::{ActionKey, CasDigest};
use ashlar_model::executor::BoxFuture;
use bytes::Bytes;

use crate::action_cache::{ActionCache, PutMode};
use crate::blob_store::{
    BlobStore, ByteRange, ByteStream, collect, is_empty_blob, nothing, once, slice,
};
use crate::checked::check;
use crate::fault::{Fault, FaultKind};
use crate::possession::Possession;

/// What an entry costs besides its bytes.
const ENTRY: u64 = 128;

/// Keeps blobs and results in memory.
#[derive(Debug)]
pub struct MemoryStore {
    limit: u64,
    state: Mutex<State>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Name {
    Blob(CasDigest),
    Result(ActionKey),
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Name, Entry>,
    /// The names in the order of their last use.
    order: BTreeMap<u64, Name>,
    uses: u64,
    bytes: u64,
    /// The bytes that namespaces hold.
    held: HashMap<String, u64>,
}

#[derive(Debug)]
struct Entry {
    bytes: Bytes,
    /// Its key in `order`.
    used: u64,
    /// The namespaces that have shown a blob.
    holders: Vec<String>,
}

impl Entry {
    fn cost(&self) -> u64 {
        self.bytes.len() as u64 + ENTRY
    }
}

impl State {
    /// The bytes under a name, which are used now.
    fn touch(&mut self, name: &Name) -> Option<Bytes> {
        let entry = self.entries.get_mut(name)?;
        self.uses += 1;
        self.order.remove(&entry.used);
        entry.used = self.uses;
        self.order.insert(entry.used, name.clone());
        Some(entry.bytes.clone())
    }

    fn remove(&mut self, name: &Name) -> bool {
        let Some(entry) = self.entries.remove(name) else {
            return false;
        };
        self.order.remove(&entry.used);
        self.bytes -= entry.cost();
        for holder in &entry.holders {
            if let Some(held) = self.held.get_mut(holder) {
                *held = held.saturating_sub(entry.bytes.len() as u64);
                if *held == 0 {
                    self.held.remove(holder);
                }
            }
        }
        true
    }

    fn insert(&mut self, name: Name, bytes: Bytes, limit: u64) -> Result<(), Fault> {
        self.uses += 1;
        let used = self.uses;
        let entry = Entry {
            bytes,
            used,
            holders: Vec::new(),
        };
        let cost = entry.cost();
        if cost > limit {
            return Err(Fault::new(
                FaultKind::Exhausted,
                format!("{cost} bytes do not fit into a store of {limit}"),
            ));
        }
        self.remove(&name);
        while self.bytes + cost > limit {
            let Some((_, oldest)) = self.order.pop_first() else {
                break;
            };
            self.remove(&oldest);
        }
        self.bytes += cost;
        self.order.insert(used, name.clone());
        self.entries.insert(name, entry);
        Ok(())
    }
}

impl MemoryStore {
    /// An empty store that holds `limit` bytes at most.
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            state: Mutex::default(),
        }
    }

    /// How many bytes are held, the price of the entries themselves included.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// A panic elsewhere leaves whole entries behind: the lock's poison says nothing.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlobStore for MemoryStore {
    fn missing<'a>(
        &'a self,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        Box::pin(async move {
            let mut state = self.lock();
            let is_missing = |blob: &&CasDigest| {
                !is_empty_blob(blob) && state.touch(&Name::Blob(**blob)).is_none()
            };
            Ok(blobs.iter().filter(is_missing).copied().collect())
        })
    }

    fn read<'a>(
        &'a self,
        blob: &'a CasDigest,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<ByteStream, Fault>> {
        Box::pin(async move {
            if is_empty_blob(blob) {
                slice(blob, &Bytes::new(), range)?;
                return Ok(nothing());
            }
            let bytes = self
                .lock()
                .touch(&Name::Blob(*blob))
                .ok_or_else(|| Fault::not_found(blob))?;
            Ok(once(slice(blob, &bytes, range)?))
        })
    }

    fn write<'a>(
        &'a self,
        blob: &'a CasDigest,
        bytes: ByteStream,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            if self.lock().touch(&Name::Blob(*blob)).is_some() {
                return Ok(());
            }
            if blob.size > self.limit {
                return Err(Fault::new(
                    FaultKind::Exhausted,
                    format!("{blob} does not fit into a store of {} bytes", self.limit),
                ));
            }
            let bytes = collect(bytes, blob.size).await?;
            check(blob, &bytes)?;
            if is_empty_blob(blob) {
                return Ok(());
            }
            let mut state = self.lock();
            let name = Name::Blob(*blob);
            // Another may have come first: who holds it stays noted.
            if state.touch(&name).is_some() {
                return Ok(());
            }
            state.insert(name, bytes, self.limit)
        })
    }
}

impl Possession for MemoryStore {
    fn held<'a>(
        &'a self,
        namespaces: &'a [String],
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<bool>, Fault>> {
        Box::pin(async move {
            let mut state = self.lock();
            let mut is_held = |blob: &CasDigest| {
                if is_empty_blob(blob) {
                    return true;
                }
                let name = Name::Blob(*blob);
                let entry = state.entries.get(&name);
                let is_held = entry.is_some_and(|entry| {
                    let mut holders = entry.holders.iter();
                    holders.any(|holder| namespaces.contains(holder))
                });
                if is_held {
                    state.touch(&name);
                }
                is_held
            };
            Ok(blobs.iter().map(&mut is_held).collect())
        })
    }

    fn note<'a>(
        &'a self,
        namespace: &'a str,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let mut state = self.lock();
            let mut came = 0;
            for blob in blobs {
                let entry = state.entries.get_mut(&Name::Blob(*blob));
                if let Some(entry) = entry
                    && !entry.holders.iter().any(|holder| holder == namespace)
                {
                    entry.holders.push(namespace.to_owned());
                    came += blob.size;
                }
            }
            if came > 0 {
                *state.held.entry(namespace.to_owned()).or_default() += came;
            }
            Ok(())
        })
    }

    fn bytes<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Result<u64, Fault>> {
        Box::pin(async move { Ok(self.lock().held.get(namespace).copied().unwrap_or(0)) })
    }

    fn largest(&self, most: usize) -> BoxFuture<'_, Result<Vec<(String, u64)>, Fault>> {
        Box::pin(async move {
            let mut all: Vec<_> = self.lock().held.clone().into_iter().collect();
            all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            all.truncate(most);
            Ok(all)
        })
    }

    fn implies_presence(&self) -> bool {
        true
    }
}

impl ActionCache for MemoryStore {
    fn get<'a>(
        &'a self,
        keys: &'a [ActionKey],
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, Fault>> {
        Box::pin(async move {
            let mut state = self.lock();
            let result = |key: &ActionKey| state.touch(&Name::Result(key.clone()));
            Ok(keys.iter().map(result).collect())
        })
    }

    fn put<'a>(
        &'a self,
        key: &'a ActionKey,
        result: Bytes,
        mode: PutMode,
    ) -> BoxFuture<'a, Result<Bytes, Fault>> {
        Box::pin(async move {
            let mut state = self.lock();
            let name = Name::Result(key.clone());
            if mode == PutMode::IfAbsent
                && let Some(there) = state.touch(&name)
            {
                return Ok(there);
            }
            state.insert(name, result.clone(), self.limit)?;
            Ok(result)
        })
    }

    fn remove<'a>(&'a self, key: &'a ActionKey) -> BoxFuture<'a, Result<bool, Fault>> {
        Box::pin(async move { Ok(self.lock().remove(&Name::Result(key.clone()))) })
    }

    fn swap<'a>(
        &'a self,
        key: &'a ActionKey,
        old: Option<&'a Bytes>,
        new: Bytes,
    ) -> BoxFuture<'a, Result<bool, Fault>> {
        Box::pin(async move {
            let mut state = self.lock();
            let name = Name::Result(key.clone());
            if state.touch(&name).as_ref() != old {
                return Ok(false);
            }
            state.insert(name, new, self.limit)?;
            Ok(true)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ashlar_model::cas::DigestFunction;

    use super::*;
    use crate::conformance;

    fn fresh() -> ((), Arc<MemoryStore>) {
        ((), Arc::new(MemoryStore::new(1 << 30)))
    }

    conformance::blob_store_tests!(blobs, std::future::ready(fresh()));
    conformance::action_cache_tests!(results, std::future::ready(fresh()));
    conformance::exact_action_cache_tests!(exact, std::future::ready(fresh()));
    conformance::possession_tests!(possession, std::future::ready(fresh()));

    #[tokio::test]
    async fn the_least_recently_used_goes_first() {
        let store = MemoryStore::new(3 * (100 + ENTRY));
        let blob = |n: u8| {
            let bytes = Bytes::from(vec![n; 100]);
            (CasDigest::of(DigestFunction::Blake3, &bytes), bytes)
        };
        let digests: Vec<_> = (0..5).map(|n| blob(n).0).collect();
        for n in 0..3 {
            let (digest, bytes) = blob(n);
            store.write(&digest, once(bytes)).await.unwrap();
        }
        // The first is asked for: the second has gone unused for longest.
        store.missing(&digests[..1]).await.unwrap();
        store.write(&digests[3], once(blob(3).1)).await.unwrap();
        let missing = store.missing(&digests).await.unwrap();
        assert_eq!(missing, vec![digests[1], digests[4]]);
        assert_eq!(store.bytes(), 3 * (100 + ENTRY));
    }

    #[tokio::test]
    async fn what_cannot_fit_is_refused_and_costs_nothing_else() {
        let store = MemoryStore::new(1000);
        let small = Bytes::from_static(b"small");
        let digest = CasDigest::of(DigestFunction::Blake3, &small);
        store.write(&digest, once(small)).await.unwrap();
        let large = Bytes::from(vec![1; 1000]);
        let blob = CasDigest::of(DigestFunction::Blake3, &large);
        let fault = store.write(&blob, once(large)).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Exhausted);
        assert!(store.missing(&[digest]).await.unwrap().is_empty());
    }
}
