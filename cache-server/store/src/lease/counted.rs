//! Leases whose outcomes are counted, for stores that do not count by themselves.

use std::sync::Arc;
use std::time::Duration;

use ashlar_model::cas::ActionKey;
use ashlar_model::executor::BoxFuture;
use bytes::Bytes;

use super::{Acquired, Committed, Fence, Held, LeaseKey, LeaseStore};
use crate::counters::Counters;
use crate::fault::Fault;

/// Leases that are counted.
#[derive(Debug)]
pub struct CountedLeases<L> {
    leases: L,
    counters: Arc<Counters>,
}

impl<L> CountedLeases<L> {
    /// Counts what becomes of leases.
    pub const fn new(leases: L, counters: Arc<Counters>) -> Self {
        Self { leases, counters }
    }
}

impl<L: LeaseStore> LeaseStore for CountedLeases<L> {
    fn acquire<'a>(
        &'a self,
        key: &'a LeaseKey,
        holder: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Acquired, Fault>> {
        Box::pin(async move {
            let acquired = self.leases.acquire(key, holder, ttl).await?;
            match &acquired {
                Acquired::Granted(_) => self.counters.leasing.granted.one(),
                Acquired::Held(_) => self.counters.leasing.refused.one(),
            }
            Ok(acquired)
        })
    }

    fn renew<'a>(
        &'a self,
        key: &'a LeaseKey,
        token: &'a str,
    ) -> BoxFuture<'a, Result<Duration, Fault>> {
        self.leases.renew(key, token)
    }

    fn release<'a>(
        &'a self,
        key: &'a LeaseKey,
        token: &'a str,
    ) -> BoxFuture<'a, Result<bool, Fault>> {
        self.leases.release(key, token)
    }

    fn held<'a>(&'a self, key: &'a LeaseKey) -> BoxFuture<'a, Result<Option<Held>, Fault>> {
        self.leases.held(key)
    }

    fn changed<'a>(
        &'a self,
        key: &'a LeaseKey,
        seen: u64,
    ) -> BoxFuture<'a, Result<Option<Held>, Fault>> {
        self.leases.changed(key, seen)
    }

    fn commit<'a>(
        &'a self,
        key: &'a ActionKey,
        result: Bytes,
        fence: Option<&'a Fence>,
        hole: Option<&'a Bytes>,
    ) -> BoxFuture<'a, Result<Committed, Fault>> {
        Box::pin(async move {
            let committed = self.leases.commit(key, result, fence, hole).await?;
            if committed == Committed::Superseded {
                self.counters.leasing.superseded.one();
            }
            Ok(committed)
        })
    }

    fn count(&self) -> Option<u64> {
        self.leases.count()
    }
}

#[cfg(test)]
mod tests {
    use super::super::local::LocalLeases;
    use super::*;
    use crate::memory::MemoryStore;

    #[tokio::test]
    async fn what_becomes_of_leases_is_counted() {
        let counters = Arc::<Counters>::default();
        let store = Arc::new(MemoryStore::new(1 << 20));
        let leases = CountedLeases::new(LocalLeases::new(1, store), counters.clone());
        let key = LeaseKey {
            instance: String::new(),
            key: "step".to_owned(),
        };
        let ttl = Duration::from_secs(10);
        for holder in ["one", "two"] {
            leases.acquire(&key, holder, ttl).await.unwrap();
        }
        let leasing = &counters.leasing;
        assert_eq!((leasing.granted.get(), leasing.refused.get()), (1, 1));
        assert_eq!(leases.count(), Some(1));
    }
}
