//! `ashlar.cache.v1.Leases`: leave to make something alone. What a lease is, is said in
//! [`ashlar_store::lease`].

use std::pin::Pin;

use ashlar_proto::convert::{duration_from_wire, duration_to_wire};
use ashlar_proto::wire::ext;
use ashlar_proto::wire::ext::acquire_response::Outcome;
use ashlar_proto::wire::ext::leases_server::Leases as LeasesApi;
use ashlar_store::lease::{Acquired, Held, LeaseKey};
use futures::{Stream, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, async_trait};

use crate::auth::Right;
use crate::stores::Stores;
use crate::stores::view::View;
use crate::{limits, status};

/// The service.
#[derive(Debug, Clone)]
pub struct LeasesService {
    /// What it serves from.
    pub stores: Stores,
    /// Ends those who watch, when the server is stopped.
    pub stopping: CancellationToken,
}

fn key(view: &View, key: String) -> Result<LeaseKey, Status> {
    if key.is_empty() || key.len() > limits::LEASE_KEY {
        return Err(Status::invalid_argument(format!(
            "the key of a lease has 1 to {} bytes",
            limits::LEASE_KEY
        )));
    }
    Ok(view.lease_key(key))
}

fn to_wire(held: Held) -> ext::Held {
    ext::Held {
        holder: held.holder,
        held_for: Some(duration_to_wire(held.held_for)),
        runs_out_in: Some(duration_to_wire(held.runs_out_in)),
    }
}

#[async_trait]
impl LeasesApi for LeasesService {
    async fn acquire(
        &self,
        request: Request<ext::AcquireRequest>,
    ) -> Result<Response<ext::AcquireResponse>, Status> {
        let instance = &request.get_ref().instance_name;
        let view = self.stores.open(&request, instance, Right::Lease)?;
        let request = request.into_inner();
        let key = key(&view, request.key)?;
        if request.holder.len() > limits::LEASE_HOLDER {
            return Err(Status::invalid_argument(format!(
                "the name of a holder has no more than {} bytes",
                limits::LEASE_HOLDER
            )));
        }
        let ttl = request.ttl.as_ref().and_then(duration_from_wire);
        let ttl = ttl.ok_or_else(|| Status::invalid_argument("ttl is not set, or negative"))?;
        let acquired = view.leases().acquire(&key, &request.holder, ttl).await;
        let outcome = match acquired.map_err(|fault| status::of_fault(&fault))? {
            Acquired::Granted(grant) => Outcome::Granted(ext::Lease {
                token: grant.token,
                fencing_number: grant.number,
                ttl: Some(duration_to_wire(grant.ttl)),
            }),
            Acquired::Held(held) => Outcome::Held(to_wire(held)),
        };
        Ok(Response::new(ext::AcquireResponse {
            outcome: Some(outcome),
        }))
    }

    async fn renew(
        &self,
        request: Request<ext::RenewRequest>,
    ) -> Result<Response<ext::RenewResponse>, Status> {
        let instance = &request.get_ref().instance_name;
        let view = self.stores.open(&request, instance, Right::Lease)?;
        let request = request.into_inner();
        let key = key(&view, request.key)?;
        let renewed = view.leases().renew(&key, &request.token).await;
        let ttl = renewed.map_err(|fault| status::of_fault(&fault))?;
        Ok(Response::new(ext::RenewResponse {
            ttl: Some(duration_to_wire(ttl)),
        }))
    }

    async fn release(
        &self,
        request: Request<ext::ReleaseRequest>,
    ) -> Result<Response<ext::ReleaseResponse>, Status> {
        let instance = &request.get_ref().instance_name;
        let view = self.stores.open(&request, instance, Right::Lease)?;
        let request = request.into_inner();
        let key = key(&view, request.key)?;
        let released = view.leases().release(&key, &request.token).await;
        released.map_err(|fault| status::of_fault(&fault))?;
        Ok(Response::new(ext::ReleaseResponse {}))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<ext::WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<ext::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let instance = &request.get_ref().instance_name;
        let view = self.stores.open(&request, instance, Right::Read)?;
        let key = key(&view, request.into_inner().key)?;
        let (leases, stopping) = (view.leases().clone(), self.stopping.clone());
        // The number of the holder that the client was told of; `None` once it knows of nobody.
        let answers = stream::unfold(Some(0), move |seen| {
            let (leases, stopping, key) = (leases.clone(), stopping.clone(), key.clone());
            async move {
                let seen = seen?;
                let held = tokio::select! {
                    held = leases.changed(&key, seen) => held,
                    () = stopping.cancelled() => {
                        let stop = Status::unavailable("the server is being stopped");
                        return Some((Err(stop), None));
                    }
                };
                let held = match held {
                    Ok(held) => held,
                    Err(fault) => return Some((Err(status::of_fault(&fault)), None)),
                };
                let next = held.as_ref().map(|held| held.number);
                let answer = ext::WatchResponse {
                    held: held.map(to_wire),
                };
                Some((Ok(answer), next))
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
