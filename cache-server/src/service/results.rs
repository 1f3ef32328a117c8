//! `ashlar.cache.v1.Results`: results in batches, and lists of them.

use ashlar_proto::convert::{digest_to_wire, function_to_wire, time_to_wire};
use ashlar_proto::wire::ext;
use ashlar_proto::wire::ext::probe_response::Hit;
use ashlar_proto::wire::ext::results_server::Results;
use ashlar_store::lease::Fence;
use bytes::Bytes;
use prost::Message as _;
use tonic::{Request, Response, Status, async_trait};

use super::action_cache::{Gap, Inline, commit, decode, fill, gaps, note_written};
use super::request::{action, digests, function};
use crate::auth::Right;
use crate::metrics::Metrics;
use crate::stores::Stores;
use crate::stores::kind::Kind;
use crate::{limits, status};

/// Keys that are looked up at once.
const GROUP: usize = 256;

/// Results of a page, if the client has no wish, and at most.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1000;

/// The service.
#[derive(Debug, Clone)]
pub struct ResultsService {
    /// What it serves from.
    pub stores: Stores,
    /// Counts hits and misses.
    pub metrics: Metrics,
}

#[async_trait]
impl Results for ResultsService {
    async fn probe(
        &self,
        request: Request<ext::ProbeRequest>,
    ) -> Result<Response<ext::ProbeResponse>, Status> {
        let instance = &request.get_ref().instance_name;
        let view = self.stores.open(&request, instance, Right::Read)?;
        let request = request.into_inner();
        if request.actions.len() > limits::PROBE {
            return Err(Status::invalid_argument(format!(
                "{} actions are asked for; a probe may have {}",
                request.actions.len(),
                limits::PROBE
            )));
        }
        let actions = digests(&request.actions, function(request.digest_function)?)?;
        let wanted = Inline {
            files: &request.inline_output_files,
            ..Default::default()
        };
        let mut response = ext::ProbeResponse::default();
        let mut room = limits::BATCH;
        for group in actions.chunks(GROUP) {
            let found = view.get(Kind::Result, group).await;
            let found = found.map_err(|fault| status::of_fault(&fault))?;
            // All that is wanted from this group is read in one go.
            let mut wants: Vec<(usize, Gap)> = Vec::new();
            let mut is_full = false;
            for (action, encoded) in group.iter().zip(found) {
                if let Some(encoded) = encoded {
                    let size = encoded.len() as u64;
                    if size > room && !response.hits.is_empty() {
                        is_full = true;
                        break;
                    }
                    room = room.saturating_sub(size);
                    let result = decode(&encoded)?;
                    let gaps = gaps(&result, &wanted, action.function, &mut room);
                    let place = response.hits.len();
                    wants.extend(gaps.into_iter().map(|gap| (place, gap)));
                    response.hits.push(Hit {
                        index: response.looked_at,
                        result: Some(result),
                    });
                    self.metrics.hit(view.counted());
                } else {
                    self.metrics.missed(view.counted());
                }
                response.looked_at += 1;
            }
            let blobs: Vec<_> = wants.iter().map(|(_, gap)| gap.blob).collect();
            let read = view.read_named(&blobs).await;
            for ((place, gap), read) in wants.iter().zip(read) {
                let hit = response.hits.get_mut(*place);
                if let Some(result) = hit.and_then(|hit| hit.result.as_mut()) {
                    fill(result, gap, read);
                }
            }
            if is_full {
                break;
            }
        }
        view.charge(limits::BATCH.saturating_sub(room))?;
        Ok(Response::new(response))
    }

    async fn commit(
        &self,
        request: Request<ext::CommitRequest>,
    ) -> Result<Response<ext::CommitResponse>, Status> {
        let instance = &request.get_ref().instance_name;
        let view = self.stores.open(&request, instance, Right::Write)?;
        let request = request.into_inner();
        let action = action(request.digest_function, request.action.as_ref())?;
        let result = request
            .result
            .ok_or_else(|| Status::invalid_argument("result is not set"))?;
        let fence = (!request.lease_key.is_empty()).then(|| Fence {
            key: view.lease_key(request.lease_key),
            number: request.fencing_number,
        });
        let encoded = Bytes::from(result.encode_to_vec());
        view.charge(encoded.len() as u64)?;
        let now = commit(&view, &action, encoded.clone(), fence.as_ref()).await?;
        let already_there = now != encoded;
        let result = if already_there {
            decode(&now)?
        } else {
            note_written(&view, &action, &result).await;
            result
        };
        Ok(Response::new(ext::CommitResponse {
            result: Some(result),
            already_there,
        }))
    }

    async fn list(
        &self,
        request: Request<ext::ListRequest>,
    ) -> Result<Response<ext::ListResponse>, Status> {
        let instance = &request.get_ref().instance_name;
        let view = self.stores.open(&request, instance, Right::Read)?;
        let request = request.into_inner();
        let limit = match usize::try_from(request.page_size).unwrap_or(usize::MAX) {
            0 => PAGE,
            size => size.min(LARGEST_PAGE),
        };
        let after = (!request.page_token.is_empty()).then_some(request.page_token.as_str());
        let page = view.list(after, limit).await;
        let page = page.map_err(|fault| status::of_fault(&fault))?;
        let items = page.items.iter().map(|item| {
            Ok(ext::list_response::Item {
                digest_function: function_to_wire(item.key.action.function).into(),
                action: Some(digest_to_wire(&item.key.action)),
                last_used: Some(time_to_wire(item.last_used)),
                result: Some(decode(&item.result)?),
            })
        });
        Ok(Response::new(ext::ListResponse {
            items: items.collect::<Result<_, Status>>()?,
            next_page_token: page.next.unwrap_or_default(),
        }))
    }

    async fn usage(
        &self,
        request: Request<ext::UsageRequest>,
    ) -> Result<Response<ext::UsageResponse>, Status> {
        let instance = &request.get_ref().instance_name;
        let view = self.stores.open(&request, instance, Right::Read)?;
        let own = view.own_usage().await;
        let (instance_bytes, instance_limit_bytes) =
            own.map_err(|fault| status::of_fault(&fault))?;
        let mut response = ext::UsageResponse {
            // Pins are looked up when something has to go; nobody adds them up.
            pinned_bytes: 0,
            instance_bytes,
            instance_limit_bytes,
            ..Default::default()
        };
        // What others use is not for everybody to know.
        let usage = view.usage().await;
        if let Some(usage) = usage.map_err(|fault| status::of_fault(&fault))? {
            response.blobs = usage.blobs;
            response.blob_bytes = usage.blob_bytes;
            response.results = usage.results;
            response.limit_bytes = usage.limit_bytes;
            response.evicted_blobs = usage.evicted_blobs;
            response.hits = self.metrics.hits();
            response.misses = self.metrics.misses();
        }
        Ok(Response::new(response))
    }
}
