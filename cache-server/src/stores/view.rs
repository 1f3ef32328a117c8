//! What a request sees of the stores.
//!
//! A service gets at blobs, results and leases by [`Stores::open`] alone, with what its caller has to
//! be allowed. So none can forget whose namespace it serves:
//!
//! - blobs are those that the namespace holds, or one that it reads through to;
//! - results are looked up in the namespace first, then in those, and are complete for this view;
//! - what is stored, leased or pinned is the namespace's own.

use std::sync::Arc;

use ashlar_model::cas::{ActionKey, CasDigest, DigestFunction};
use ashlar_store::action_cache::{ActionCache as _, PutMode};
use ashlar_store::completeness::Completeness;
use ashlar_store::lease::{Committed, Fence, LeaseKey};
use ashlar_store::possessed::Possessed;
use ashlar_store::{BlobStore, Fault, LeaseStore};
use bytes::Bytes;
use tonic::{Request, Status};

use super::{Page, Stores, Upkeep};
use crate::auth::caller::require;
use crate::auth::{Caller, Right};
use crate::metrics::request::Notes;
use crate::namespaces::Place;
use crate::service::request::check_instance;

/// What is kept under the digests of actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Results of actions.
    Result,
    /// The latest snapshots of cache mounts.
    CacheMount,
    /// Which chunks a blob consists of.
    Chunks,
}

impl Kind {
    /// What the names begin with under which the stores know it. No client can name them: their
    /// first segment is a keyword.
    const fn prefix(self) -> Option<&'static str> {
        match self {
            Self::Result => None,
            Self::CacheMount => Some("operations/cache-mounts"),
            Self::Chunks => Some("operations/chunks"),
        }
    }

    /// The name under which the stores know what an instance keeps of it.
    fn instance(self, instance: &str) -> String {
        match self.prefix() {
            Some(prefix) if self == Self::Chunks && instance.is_empty() => prefix.to_owned(),
            Some(prefix) => format!("{prefix}/{instance}"),
            None => instance.to_owned(),
        }
    }

    /// What a name of the stores means: what is kept under it, and whose it is.
    pub fn of(name: &str) -> (Self, &str) {
        for kind in [Self::CacheMount, Self::Chunks] {
            let rest = kind.prefix().and_then(|prefix| name.strip_prefix(prefix));
            if let Some(rest) = rest {
                return (kind, rest.strip_prefix('/').unwrap_or(rest));
            }
        }
        (Self::Result, name)
    }
}

/// What a request sees.
#[derive(Debug, Clone)]
pub struct View {
    stores: Stores,
    caller: Caller,
    place: Arc<Place>,
    blobs: Arc<dyn BlobStore>,
    results: Arc<Completeness>,
}

impl Stores {
    /// What the sender of a request sees of an instance, if it may do what it wants to do there.
    pub fn open<T>(
        &self,
        request: &Request<T>,
        instance: &str,
        right: Right,
    ) -> Result<View, Status> {
        check_instance(instance)?;
        Notes::namespace(request, instance);
        require(request, right, instance)?;
        Ok(self.view(Caller::of(request), instance))
    }

    fn view(&self, caller: Caller, instance: &str) -> View {
        let Some(namespaces) = &self.namespaces else {
            return View {
                stores: self.clone(),
                caller,
                place: Arc::new(Place::shared(instance)),
                blobs: self.engines.blobs.clone(),
                results: self.results.clone(),
            };
        };
        let place = namespaces.load().place(instance);
        let mut holders = place.holders.iter().cloned();
        let own = holders.next().unwrap_or_default();
        let blobs: Arc<dyn BlobStore> = Arc::new(Possessed::new(
            self.engines.blobs.clone(),
            self.engines.possession.clone(),
            own,
            holders,
        ));
        // No name has an empty segment: this names the holders and nothing else.
        let sight = place.holders.join("//");
        View {
            stores: self.clone(),
            caller,
            place: Arc::new(place),
            results: Arc::new(self.results.of_view(sight.into(), blobs.clone())),
            blobs,
        }
    }
}

impl View {
    /// The instance that the request names.
    pub fn instance(&self) -> &str {
        self.place.instance()
    }

    /// Who sent the request.
    pub const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Whether the caller may do something else here, too.
    pub fn may(&self, right: Right) -> bool {
        self.caller.may(right, self.instance())
    }

    /// The blobs that can be seen. What is written is the namespace's own.
    pub const fn blobs(&self) -> &Arc<dyn BlobStore> {
        &self.blobs
    }

    /// Those that lists of chunks are shared with: everybody, or those who hold the same.
    fn key(&self, kind: Kind, instance: &str, action: &CasDigest) -> ActionKey {
        let is_shared = kind == Kind::Chunks && self.stores.namespaces.is_none();
        // What a blob consists of is the same in every instance.
        let instance = if is_shared { "" } else { instance };
        ActionKey {
            instance: kind.instance(instance),
            action: *action,
        }
    }

    fn own_key(&self, kind: Kind, action: &CasDigest) -> ActionKey {
        self.key(kind, self.instance(), action)
    }

    /// What is kept under each action, in the order asked for: the namespace's own if there is one
    /// that is complete, and else the first of those that it reads through to.
    pub async fn get(
        &self,
        kind: Kind,
        actions: &[CasDigest],
    ) -> Result<Vec<Option<Bytes>>, Fault> {
        let instances = &self.place.instances;
        let keys = actions.iter().flat_map(|action| {
            let instances = instances.iter();
            instances.map(move |instance| self.key(kind, instance, action))
        });
        let found = self.results.get(&keys.collect::<Vec<_>>()).await?;
        if instances.len() == 1 {
            return Ok(found);
        }
        let mut found = found.into_iter();
        let first = actions.iter().map(|_| {
            let of_action = found.by_ref().take(instances.len());
            // All of them are taken, so that those of the next action follow.
            of_action.fold(None, Option::or)
        });
        Ok(first.collect())
    }

    /// Like [`Self::get`], for one.
    pub async fn get_one(&self, kind: Kind, action: &CasDigest) -> Result<Option<Bytes>, Fault> {
        let found = self.get(kind, std::slice::from_ref(action)).await?;
        Ok(found.into_iter().next().flatten())
    }

    /// What the namespace itself keeps under an action, complete or not.
    pub async fn own(&self, kind: Kind, action: &CasDigest) -> Result<Option<Bytes>, Fault> {
        let keys = [self.own_key(kind, action)];
        let found = self.stores.engines.results.get(&keys).await?;
        Ok(found.into_iter().next().flatten())
    }

    /// The blobs that a result names and that are not there for this view.
    pub async fn missing_of(
        &self,
        result: &[u8],
        function: DigestFunction,
    ) -> Result<Vec<CasDigest>, Fault> {
        self.results.missing_of(result, function).await
    }

    /// Keeps something in the namespace, whatever was there.
    pub async fn put(&self, kind: Kind, action: &CasDigest, result: Bytes) -> Result<(), Fault> {
        let key = self.own_key(kind, action);
        let put = self.results.put(&key, result, PutMode::Replace).await;
        put.map(drop)
    }

    /// Keeps something in the namespace if `old` is there now. Whether it was so.
    pub async fn swap(
        &self,
        kind: Kind,
        action: &CasDigest,
        old: Option<&Bytes>,
        new: Bytes,
    ) -> Result<bool, Fault> {
        let key = self.own_key(kind, action);
        let results = &self.stores.engines.results;
        results.swap(&key, old, new).await
    }

    /// Stores a result in the namespace unless there is one, or the lease was granted to another:
    /// see [`LeaseStore::commit`].
    pub async fn commit(
        &self,
        action: &CasDigest,
        result: Bytes,
        fence: Option<&Fence>,
        hole: Option<&Bytes>,
    ) -> Result<Committed, Fault> {
        let key = self.own_key(Kind::Result, action);
        self.leases().commit(&key, result, fence, hole).await
    }

    /// The leases.
    pub fn leases(&self) -> &Arc<dyn LeaseStore> {
        &self.stores.engines.leases
    }

    /// A lease of the namespace.
    pub fn lease_key(&self, key: String) -> LeaseKey {
        LeaseKey {
            instance: self.instance().to_owned(),
            key,
        }
    }

    /// The results of the instance.
    pub async fn list(&self, after: Option<&str>, limit: usize) -> Result<Page, Fault> {
        self.upkeep().list(self.instance(), after, limit).await
    }

    /// Keeps a result of the instance until then, whatever else has to go.
    pub async fn pin(&self, action: &CasDigest, until: std::time::SystemTime) -> Result<(), Fault> {
        let key = self.own_key(Kind::Result, action);
        self.upkeep().pin(&key, until).await
    }

    /// Ends that.
    pub async fn unpin(&self, action: &CasDigest) -> Result<(), Fault> {
        let key = self.own_key(Kind::Result, action);
        self.upkeep().unpin(&key).await
    }

    /// What all of the stores hold; `None` if that is not for the caller to know.
    pub async fn usage(&self) -> Result<Option<super::Usage>, Fault> {
        let is_shared = self.stores.namespaces.is_none();
        if !is_shared && !self.caller.may(Right::Admin, "") {
            return Ok(None);
        }
        self.upkeep().usage().await.map(Some)
    }

    /// The bytes that the namespace holds, and how many it may hold; 0 where that is not counted.
    pub async fn own_usage(&self) -> Result<(u64, u64), Fault> {
        if self.stores.namespaces.is_none() {
            return Ok((0, 0));
        }
        let possession = &self.stores.engines.possession;
        let held = possession.bytes(self.place.holder()).await?;
        Ok((held, self.place.limits.held.unwrap_or(0)))
    }

    fn upkeep(&self) -> &dyn Upkeep {
        self.stores.upkeep()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_stores_say_what_is_kept_and_whose_it_is() {
        for kind in [Kind::Result, Kind::CacheMount, Kind::Chunks] {
            for instance in ["", "acme/web/main"] {
                assert_eq!(Kind::of(&kind.instance(instance)), (kind, instance));
            }
        }
    }
}
