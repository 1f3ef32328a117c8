//! `ashlar.cache.v1.Admin`: what only those may do who look after the cache.
//!
//! | module | subject |
//! |---|---|
//! | [`wanted`] | which results somebody wants to be rid of |
//! | here | looking for them and removing them |

pub mod wanted;

use ashlar_model::cas::{ActionKey, CasDigest};
use ashlar_proto::wire::ext::admin_server::Admin;
use ashlar_proto::wire::{ext, reapi};
use ashlar_store::Fault;
use futures::{StreamExt as _, stream};
use prost::Message as _;
use tonic::{Request, Response, Status, async_trait};

use self::wanted::Wanted;
use super::signers::{Place, envelope_of, signers, signers_of};
use crate::audit::{Audit, Event, What};
use crate::stores::oversight::Oversight;
use crate::stores::{Item, Stores};
use crate::{limits, status};

/// Results that are looked at together.
const PAGE: usize = 256;

/// Results that are removed at once.
const AT_ONCE: usize = 32;

/// The service.
#[derive(Debug, Clone)]
pub struct AdminService {
    /// What it looks after.
    pub stores: Stores,
}

#[async_trait]
impl Admin for AdminService {
    async fn invalidate(
        &self,
        request: Request<ext::InvalidateRequest>,
    ) -> Result<Response<ext::InvalidateResponse>, Status> {
        let oversight = self.stores.oversee(&request)?;
        let event = Event::of(What::Invalidate, &request);
        let request = request.into_inner();
        if request.reason.len() > limits::REASON {
            return Err(Status::invalid_argument(format!(
                "a reason has no more than {} bytes",
                limits::REASON
            )));
        }
        let wanted = Wanted::read(request.what)?;
        let (by, which) = wanted.describe();
        let mut record = Record {
            audit: oversight.audit().clone(),
            event: Some(
                event
                    .to_key(which)
                    .with("by", by)
                    .with("why", request.reason)
                    .with("dry_run", request.dry_run),
            ),
            counts: ext::InvalidateResponse::default(),
        };
        let done = invalidate(&oversight, &wanted, request.dry_run, &mut record.counts).await;
        record.end(&done);
        done?;
        Ok(Response::new(record.counts))
    }
}

/// What is noted in the end, also if the caller does not wait for it.
struct Record {
    audit: Audit,
    event: Option<Event>,
    counts: ext::InvalidateResponse,
}

impl Record {
    fn end(&mut self, outcome: &Result<(), Status>) {
        if let Some(event) = self.event.take() {
            let event = event
                .with("removed", self.counts.removed)
                .with("looked_at", self.counts.looked_at);
            self.audit.note(match outcome {
                Ok(()) => event,
                Err(status) => event.ended(status),
            });
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.end(&Err(Status::cancelled("the caller left before the end")));
    }
}

/// Removes what is wanted of what the caller looks after, page by page.
async fn invalidate(
    oversight: &Oversight,
    wanted: &Wanted,
    dry_run: bool,
    counts: &mut ext::InvalidateResponse,
) -> Result<(), Status> {
    let failed = |fault: Fault| status::of_fault(&fault);
    if let Wanted::One(key) = wanted {
        if !oversight.may(key) {
            return Err(Status::permission_denied(format!(
                "you do not look after `{}`",
                key.instance
            )));
        }
        counts.looked_at = 1;
        let removed = if dry_run {
            oversight.is_there(key).await
        } else {
            oversight.remove(key).await
        };
        counts.removed = removed.map_err(failed)?.into();
        return Ok(());
    }
    let mut after = None;
    loop {
        let page = oversight.walk(after.as_deref(), PAGE).await;
        let page = page.map_err(failed)?;
        counts.looked_at += page.items.len() as u64;
        let meant = meant(oversight, wanted, &page.items).await;
        let mut keys = Vec::new();
        for (item, is_meant) in page.items.into_iter().zip(meant.map_err(failed)?) {
            if is_meant {
                keys.push(item.key);
            }
        }
        if dry_run {
            counts.removed += keys.len() as u64;
        } else {
            let remove = |key: ActionKey| async move { oversight.remove(&key).await };
            let mut removed = stream::iter(keys).map(remove).buffer_unordered(AT_ONCE);
            while let Some(is_removed) = removed.next().await {
                counts.removed += u64::from(is_removed.map_err(failed)?);
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Which of some results are wanted.
async fn meant(oversight: &Oversight, wanted: &Wanted, items: &[Item]) -> Result<Vec<bool>, Fault> {
    let Wanted::Signer(id) = wanted else {
        let names = items.iter().map(|item| wanted.names(&item.key));
        return Ok(names.map(|named| named == Some(true)).collect());
    };
    let mut meant = vec![false; items.len()];
    let mut blobs: Vec<(usize, CasDigest)> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        // One that cannot be read is given to nobody.
        let Ok(result) = reapi::ActionResult::decode(&*item.result) else {
            continue;
        };
        if wanted.names(&item.key).is_some() {
            continue;
        }
        match envelope_of(&result, item.key.action.function) {
            Place::Nowhere => {}
            Place::Here(envelope) => {
                if let Some(is_meant) = meant.get_mut(index) {
                    *is_meant = signers(&envelope).contains(id);
                }
            }
            Place::Blob(blob) => blobs.push((index, blob)),
        }
    }
    let asked: Vec<CasDigest> = blobs.iter().map(|(_, blob)| *blob).collect();
    let read = oversight.read_many(&asked).await;
    for ((index, _), read) in blobs.into_iter().zip(read) {
        let signers = signers_of(read)?;
        if let Some(is_meant) = meant.get_mut(index) {
            *is_meant = signers.contains(id);
        }
    }
    Ok(meant)
}
