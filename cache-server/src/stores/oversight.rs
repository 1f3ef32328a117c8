//! What those see who look after results: those of all namespaces that they may look after.

use ashlar_model::cas::{ActionKey, CasDigest};
use ashlar_store::Fault;
use bytes::Bytes;
use tonic::{Request, Status};

use super::kind::Kind;
use super::{Page, Stores};
use crate::audit::{Audit, Event, What};
use crate::auth::caller::require;
use crate::auth::{Caller, Right};

/// The results that somebody looks after.
#[derive(Debug, Clone)]
pub struct Oversight {
    stores: Stores,
    caller: Caller,
}

impl Stores {
    /// The results that the sender of a request looks after; fails if there is no namespace in which
    /// it may.
    pub fn oversee<T>(&self, request: &Request<T>) -> Result<Oversight, Status> {
        let caller = Caller::of(request);
        if !caller.may_somewhere(Right::Admin) {
            require(request, Right::Admin, "").inspect_err(|refused| {
                let event = Event::of(What::Invalidate, request);
                self.audit.note(event.ended(refused));
            })?;
        }
        Ok(Oversight {
            stores: self.clone(),
            caller,
        })
    }
}

impl Oversight {
    /// Whether the caller looks after what the stores know under this key.
    pub fn may(&self, key: &ActionKey) -> bool {
        let (_, namespace) = Kind::of(&key.instance);
        self.caller.may(Right::Admin, namespace)
    }

    /// Results behind the place that `after` names, without those that are others' to look after.
    pub async fn walk(&self, after: Option<&str>, limit: usize) -> Result<Page, Fault> {
        let mut page = self.stores.upkeep().walk(after, limit).await?;
        page.items.retain(|item| self.may(&item.key));
        Ok(page)
    }

    /// Whether there is a result that the caller looks after.
    pub async fn is_there(&self, key: &ActionKey) -> Result<bool, Fault> {
        if !self.may(key) {
            return Ok(false);
        }
        let keys = std::slice::from_ref(key);
        let found = self.stores.engines.results.get(keys).await?;
        Ok(found.iter().any(Option::is_some))
    }

    /// Small blobs that results name which the caller looks after.
    pub async fn read_many(&self, blobs: &[CasDigest]) -> Vec<Result<Bytes, Fault>> {
        self.stores.engines.blobs.read_many(blobs).await
    }

    /// Removes a result. Whether there was one that the caller looks after.
    pub async fn remove(&self, key: &ActionKey) -> Result<bool, Fault> {
        if !self.may(key) {
            return Ok(false);
        }
        self.stores.engines.results.remove(key).await
    }

    /// Where it is noted who did what.
    pub const fn audit(&self) -> &Audit {
        &self.stores.audit
    }
}
