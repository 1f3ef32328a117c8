//! `ashlar.cache.v1.Pins`: results that are not evicted.

use std::fmt;
use std::time::Duration;

use ashlar_proto::convert::{duration_from_wire, time_to_wire};
use ashlar_proto::wire::ext;
use ashlar_proto::wire::ext::pins_server::Pins;
use ashlar_store::action_cache::ActionCache as _;
use ashlar_store::clock::Clock;
use tonic::{Request, Response, Status, async_trait};

use super::request::action_key;
use crate::stores::Stores;
use crate::{auth, status};

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
        auth::require_write(&request)?;
        let request = request.into_inner();
        let key = action_key(
            &request.instance_name,
            request.digest_function,
            request.action.as_ref(),
        )?;
        let ttl = request.ttl.as_ref().and_then(duration_from_wire);
        let ttl = ttl.filter(|ttl| !ttl.is_zero() && *ttl <= LONGEST);
        let ttl = ttl.ok_or_else(|| {
            Status::invalid_argument("ttl is not set, or not between a moment and 400 days")
        })?;
        let until = (self.clock)() + ttl;
        let keys = [key];
        let found = self.stores.results.get(&keys).await;
        let found = found.map_err(|fault| status::of_fault(&fault))?;
        if found.iter().all(Option::is_none) {
            return Err(Status::not_found("the action has no result here"));
        }
        let pinned = self.stores.upkeep.pin(&keys[0], until).await;
        pinned.map_err(|fault| status::of_fault(&fault))?;
        Ok(Response::new(ext::PinResponse {
            until: Some(time_to_wire(until)),
        }))
    }

    async fn unpin(
        &self,
        request: Request<ext::UnpinRequest>,
    ) -> Result<Response<ext::UnpinResponse>, Status> {
        auth::require_write(&request)?;
        let request = request.into_inner();
        let key = action_key(
            &request.instance_name,
            request.digest_function,
            request.action.as_ref(),
        )?;
        let unpinned = self.stores.upkeep.unpin(&key).await;
        unpinned.map_err(|fault| status::of_fault(&fault))?;
        Ok(Response::new(ext::UnpinResponse {}))
    }
}
