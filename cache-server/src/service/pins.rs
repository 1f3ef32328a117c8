//! `ashlar.cache.v1.Pins`: results that are not evicted.

use std::fmt;
use std::time::Duration;

use ashlar_proto::convert::{duration_from_wire, time_to_wire};
use ashlar_proto::wire::ext;
use ashlar_proto::wire::ext::pins_server::Pins;
use ashlar_store::clock::Clock;
use tonic::{Request, Response, Status, async_trait};

use super::request::action;
use crate::audit::What;
use crate::auth::Right;
use crate::status;
use crate::stores::Stores;
use crate::stores::kind::Kind;

/// The longest that anything is pinned for.
const LONGEST: Duration = Duration::from_secs(400 * 24 * 3600);

/// The service.
#[derive(Clone)]
pub struct PinsService {
    /// What it serves from.
    pub stores: Stores,
    /// Tells when a pin ends.
    pub clock: Clock,
}

impl fmt::Debug for PinsService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinsService")
            .field("stores", &self.stores)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Pins for PinsService {
    async fn pin(
        &self,
        request: Request<ext::PinRequest>,
    ) -> Result<Response<ext::PinResponse>, Status> {
        let instance = &request.get_ref().instance_name;
        let view = self.stores.open(&request, instance, Right::Admin)?;
        let request = request.into_inner();
        let action = action(request.digest_function, request.action.as_ref())?;
        let ttl = request.ttl.as_ref().and_then(duration_from_wire);
        let ttl = ttl.filter(|ttl| !ttl.is_zero() && *ttl <= LONGEST);
        let ttl = ttl.ok_or_else(|| {
            Status::invalid_argument("ttl is not set, or not between a moment and 400 days")
        })?;
        let until = (self.clock)() + ttl;
        // Only what is its own can be pinned by a namespace, if it is whole.
        let found = match view.own(Kind::Result, &action).await {
            Ok(Some(found)) => view.missing_of(&found, action.function).await,
            Ok(None) => return Err(Status::not_found("the action has no result here")),
            Err(fault) => Err(fault),
        };
        if !found.map_err(|fault| status::of_fault(&fault))?.is_empty() {
            return Err(Status::not_found("the action has no result here"));
        }
        let pinned = view.pin(&action, until).await;
        pinned.map_err(|fault| status::of_fault(&fault))?;
        view.note(What::Pin, |event| {
            event.to_key(action).with("seconds", ttl.as_secs())
        });
        Ok(Response::new(ext::PinResponse {
            until: Some(time_to_wire(until)),
        }))
    }

    async fn unpin(
        &self,
        request: Request<ext::UnpinRequest>,
    ) -> Result<Response<ext::UnpinResponse>, Status> {
        let instance = &request.get_ref().instance_name;
        let view = self.stores.open(&request, instance, Right::Admin)?;
        let request = request.into_inner();
        let action = action(request.digest_function, request.action.as_ref())?;
        let unpinned = view.unpin(&action).await;
        unpinned.map_err(|fault| status::of_fault(&fault))?;
        view.note(What::Unpin, |event| event.to_key(action));
        Ok(Response::new(ext::UnpinResponse {}))
    }
}
