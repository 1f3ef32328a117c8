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
use ashlar_store::doubted::{self, Doubted};
use ashlar_store::lease::{Committed, Fence, LeaseKey};
use ashlar_store::possessed::Possessed;
use ashlar_store::{BlobStore, Fault, LeaseStore};
use bytes::Bytes;
use tonic::{Request, Status};

use super::kind::Kind;
use super::{Page, Stores, Upkeep};
use crate::audit::{Event, What};
use crate::auth::caller::require;
use crate::auth::{Caller, Right};
use crate::fair::Holder;
use crate::fair::quota::Quota;
use crate::metrics::request::Notes;
use crate::namespaces::{Limits, Place};
use crate::service::request::check_instance;
use crate::status;
use crate::tls::Peer;

/// What a request sees.
#[derive(Debug, Clone)]
pub struct View {
    stores: Stores,
    caller: Caller,
    peer: Option<Peer>,
    place: Arc<Place>,
    /// Whose use is counted; `None` if nothing is limited.
    holder: Option<Arc<Holder>>,
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
        let place = match &self.namespaces {
            Some(namespaces) => namespaces.load().place(instance),
            None => Place::shared(instance),
        };
        Notes::namespace(request, place.counted());
        require(request, right, instance).inspect_err(|refused| {
            let what = match right {
                Right::Read => What::Read,
                Right::Write => What::Write,
                Right::Lease => What::Lease,
                Right::Admin => What::Admin,
                Right::Queue => What::Execute,
                Right::Work => What::Attach,
            };
            let event = Event::of(what, request).in_namespace(instance);
            self.audit.note(event.ended(refused));
        })?;
        let caller = Caller::of(request);
        let peer = request.extensions().get().cloned();
        let mut view = if self.namespaces.is_none() {
            self.whole(caller, peer, place)
        } else {
            self.part(caller, peer, place)
        };
        if request.metadata().contains_key(doubted::HEADER) {
            view.doubt();
        }
        if let Some(holder) = &view.holder {
            let counted = holder.request(&view.place.limits);
            counted.map_err(|haste| status::of_haste(&holder.name, &haste))?;
        }
        Ok(view)
    }

    /// The same, for somebody who uploads blobs: whoever stores results may, and whoever has work
    /// done, which needs them.
    pub fn open_to_upload<T>(&self, request: &Request<T>, instance: &str) -> Result<View, Status> {
        let queues = Caller::of(request).may(Right::Queue, instance);
        let right = if queues { Right::Queue } else { Right::Write };
        self.open(request, instance, right)
    }

    /// Where all who come in trust each other.
    fn whole(&self, caller: Caller, peer: Option<Peer>, place: Place) -> View {
        View {
            stores: self.clone(),
            caller,
            peer,
            place: Arc::new(place),
            holder: None,
            blobs: self.engines.blobs.clone(),
            results: self.results.clone(),
        }
    }

    /// Where they do not.
    fn part(&self, caller: Caller, peer: Option<Peer>, place: Place) -> View {
        let mut holders = place.holders.iter().cloned();
        let own = holders.next().unwrap_or_default();
        let possession = &self.engines.possession;
        let is_limited = place.limits != Limits::default();
        let holder = is_limited.then(|| self.fair.of(&own));
        let mut blobs: Arc<dyn BlobStore> = Arc::new(Possessed::new(
            self.engines.blobs.clone(),
            possession.clone(),
            own,
            holders,
        ));
        if let (Some(holder), Some(limit)) = (&holder, place.limits.held) {
            blobs = Arc::new(Quota {
                blobs,
                possession: possession.clone(),
                holder: holder.clone(),
                limit,
            });
        }
        // No name has an empty segment: this names the holders and nothing else.
        let sight = place.holders.join("//");
        View {
            stores: self.clone(),
            caller,
            peer,
            place: Arc::new(place),
            holder,
            results: Arc::new(self.results.of_view(sight.into(), blobs.clone())),
            blobs,
        }
    }
}

impl View {
    /// Answers by a look at where blobs are kept: the caller found something gone.
    fn doubt(&mut self) {
        self.blobs = Arc::new(Doubted(self.blobs.clone()));
        let sight = "//doubted".into();
        let results = self.results.of_view(sight, self.blobs.clone());
        self.results = Arc::new(results.without_memory());
    }

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

    /// The name under which what the caller does is counted.
    pub fn counted(&self) -> &str {
        self.place.counted()
    }

    /// Counts bytes that come or go, if those that came before were not too many.
    pub fn charge(&self, bytes: u64) -> Result<(), Status> {
        let Some(holder) = &self.holder else {
            return Ok(());
        };
        let counted = holder.bytes(bytes, &self.place.limits);
        counted.map_err(|haste| status::of_haste(&holder.name, &haste))
    }

    /// Notes in the audit log what the caller did here, with what `say` adds.
    pub fn note(&self, what: What, say: impl FnOnce(Event) -> Event) {
        if self.is_audited() {
            let event = Event::new(what).by(&self.caller).from(self.peer.as_ref());
            self.stores
                .audit
                .note(say(event.in_namespace(self.instance())));
        }
    }

    /// Whether what is noted is read by anybody.
    pub const fn is_audited(&self) -> bool {
        self.stores.audit.is_on()
    }

    /// The blobs that can be seen. What is written is the namespace's own.
    pub const fn blobs(&self) -> &Arc<dyn BlobStore> {
        &self.blobs
    }

    /// Reads small files that results name which were just [got](Self::get).
    pub async fn read_named(&self, blobs: &[CasDigest]) -> Vec<Result<Bytes, Fault>> {
        self.results.read_named(blobs).await
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
