//! `ashlar.cache.v1` over gRPC.

use std::sync::Arc;
use std::time::Duration;

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_model::executor::BoxFuture;
use ashlar_proto::convert::{
    digest_from_wire, digest_to_wire, duration_from_wire, duration_to_wire, function_from_wire,
    function_to_wire,
};
use ashlar_proto::wire::ext;
use ashlar_proto::wire::ext::cache_mounts_client::CacheMountsClient;
use ashlar_proto::wire::ext::leases_client::LeasesClient;
use ashlar_proto::wire::ext::results_client::ResultsClient;
use ashlar_proto::wire::reapi;
use ashlar_store::fault::{Fault, FaultKind};
use ashlar_store::grpc::channel::GrpcChannel;
use ashlar_store::grpc::{GrpcEndpoint, fault_of};
use bytes::Bytes;
use futures::StreamExt as _;
use prost::Message as _;

use crate::service::{
    Acquired, Changes, Extension, Fence, Held, Lease, Listed, MountSnapshot, Page, Usage,
};

/// Actions that are asked for in one message (the most that the protocol allows).
const MOST_ACTIONS: usize = 10_000;
/// The longest message that is read.
const LONGEST_MESSAGE: usize = 32 << 20;
/// How many results a page of a list has.
const PAGE: u32 = 200;

/// The services of `ashlar.cache.v1`. As with those of REAPI, a call that fails because a server
/// went away is made again, with another one if there is one.
#[derive(Debug, Clone)]
pub(super) struct GrpcExtension {
    endpoint: Arc<GrpcEndpoint>,
    results: ResultsClient<GrpcChannel>,
    leases: LeasesClient<GrpcChannel>,
    mounts: CacheMountsClient<GrpcChannel>,
    instance: String,
    function: DigestFunction,
}

impl GrpcExtension {
    pub(super) fn new(endpoint: Arc<GrpcEndpoint>) -> Self {
        let channel = endpoint.channel();
        let instance = endpoint.instance().to_owned();
        let function = endpoint.function();
        Self {
            endpoint,
            results: ResultsClient::new(channel.clone())
                .max_decoding_message_size(LONGEST_MESSAGE)
                .max_encoding_message_size(LONGEST_MESSAGE),
            leases: LeasesClient::new(channel.clone()),
            mounts: CacheMountsClient::new(channel),
            instance,
            function,
        }
    }

    fn wire_function(&self) -> i32 {
        function_to_wire(self.function).into()
    }

    async fn probe_some(
        &self,
        actions: &[CasDigest],
        inline: &[&str],
    ) -> Result<(Vec<Option<Bytes>>, usize), Fault> {
        let request = ext::ProbeRequest {
            instance_name: self.instance.clone(),
            digest_function: self.wire_function(),
            actions: actions.iter().map(digest_to_wire).collect(),
            inline_output_files: inline.iter().map(|path| (*path).to_owned()).collect(),
        };
        let answer = self
            .endpoint
            .call("look results up", || {
                let (mut client, request) = (self.results.clone(), request.clone());
                async move { client.probe(request).await }
            })
            .await?;
        let mut found = vec![None; actions.len()];
        for hit in answer.hits {
            let place = usize::try_from(hit.index).ok();
            let slot = place.and_then(|place| found.get_mut(place));
            let (Some(slot), Some(result)) = (slot, hit.result) else {
                return Err(Fault::new(FaultKind::Invalid, "an answer to no question"));
            };
            *slot = Some(result.encode_to_vec().into());
        }
        let looked_at = usize::try_from(answer.looked_at).unwrap_or(usize::MAX);
        Ok((found, looked_at.min(actions.len())))
    }

    fn snapshot(&self, snapshot: &ext::Snapshot) -> Result<MountSnapshot, Fault> {
        let trees = snapshot.trees.iter().map(|tree| self.digest(tree));
        Ok(MountSnapshot {
            trees: trees.collect::<Result<_, _>>()?,
            generation: snapshot.generation,
        })
    }

    fn digest(&self, digest: &reapi::Digest) -> Result<CasDigest, Fault> {
        digest_from_wire(digest, self.function).map_err(invalid)
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Fault {
    Fault::new(FaultKind::Invalid, "an answer is none").caused_by(error)
}

fn duration(duration: Option<&prost_types::Duration>) -> Duration {
    duration.and_then(duration_from_wire).unwrap_or_default()
}

fn held(held: &ext::Held) -> Held {
    Held {
        holder: held.holder.clone(),
        held_for: duration(held.held_for.as_ref()),
        runs_out_in: duration(held.runs_out_in.as_ref()),
    }
}

fn decoded(result: &Bytes) -> Result<reapi::ActionResult, Fault> {
    reapi::ActionResult::decode(result.clone()).map_err(invalid)
}

impl Extension for GrpcExtension {
    fn probe<'a>(
        &'a self,
        actions: &'a [CasDigest],
        inline: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, Fault>> {
        Box::pin(async move {
            let mut found = Vec::with_capacity(actions.len());
            while let Some(rest) = actions.get(found.len()..).filter(|rest| !rest.is_empty()) {
                let some = &rest[..rest.len().min(MOST_ACTIONS)];
                let (answers, looked_at) = self.probe_some(some, inline).await?;
                // A server that looks at none would be asked for ever.
                if looked_at == 0 {
                    return Err(Fault::new(FaultKind::Invalid, "an answer to nothing"));
                }
                found.extend(answers.into_iter().take(looked_at));
            }
            Ok(found)
        })
    }

    fn commit<'a>(
        &'a self,
        action: &'a CasDigest,
        result: Bytes,
        fence: Option<&'a Fence>,
    ) -> BoxFuture<'a, Result<Bytes, Fault>> {
        Box::pin(async move {
            let request = ext::CommitRequest {
                instance_name: self.instance.clone(),
                digest_function: self.wire_function(),
                action: Some(digest_to_wire(action)),
                result: Some(decoded(&result)?),
                lease_key: fence.map(|fence| fence.key.clone()).unwrap_or_default(),
                fencing_number: fence.map_or(0, |fence| fence.number),
            };
            let answer = self
                .endpoint
                .call("store a result", || {
                    let (mut client, request) = (self.results.clone(), request.clone());
                    async move { client.commit(request).await }
                })
                .await?;
            Ok(answer
                .result
                .map_or(result, |there| there.encode_to_vec().into()))
        })
    }

    fn acquire<'a>(
        &'a self,
        key: &'a str,
        holder: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Acquired, Fault>> {
        Box::pin(async move {
            let request = ext::AcquireRequest {
                instance_name: self.instance.clone(),
                key: key.to_owned(),
                holder: holder.to_owned(),
                ttl: Some(duration_to_wire(ttl)),
            };
            let answer = self
                .endpoint
                .call_singly("ask for a lease", || {
                    let (mut client, request) = (self.leases.clone(), request.clone());
                    async move { client.acquire(request).await }
                })
                .await?;
            match answer.outcome {
                Some(ext::acquire_response::Outcome::Granted(lease)) => {
                    let ttl = duration(lease.ttl.as_ref());
                    Ok(Acquired::Granted(Lease {
                        token: lease.token,
                        fencing_number: lease.fencing_number,
                        ttl,
                    }))
                }
                Some(ext::acquire_response::Outcome::Held(other)) => {
                    Ok(Acquired::Held(held(&other)))
                }
                None => Err(Fault::new(FaultKind::Invalid, "an answer without outcome")),
            }
        })
    }

    fn renew<'a>(&'a self, key: &'a str, token: &'a str) -> BoxFuture<'a, Result<Duration, Fault>> {
        Box::pin(async move {
            let request = ext::RenewRequest {
                instance_name: self.instance.clone(),
                key: key.to_owned(),
                token: token.to_owned(),
            };
            let answer = self
                .endpoint
                .call("renew a lease", || {
                    let (mut client, request) = (self.leases.clone(), request.clone());
                    async move { client.renew(request).await }
                })
                .await?;
            Ok(duration(answer.ttl.as_ref()))
        })
    }

    fn release<'a>(&'a self, key: &'a str, token: &'a str) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let request = ext::ReleaseRequest {
                instance_name: self.instance.clone(),
                key: key.to_owned(),
                token: token.to_owned(),
            };
            self.endpoint
                .call("give a lease back", || {
                    let (mut client, request) = (self.leases.clone(), request.clone());
                    async move { client.release(request).await }
                })
                .await
                .map(drop)
        })
    }

    fn watch<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Changes, Fault>> {
        Box::pin(async move {
            let request = ext::WatchRequest {
                instance_name: self.instance.clone(),
                key: key.to_owned(),
            };
            let changes = self
                .endpoint
                .call("watch a lease", || {
                    let (mut client, request) = (self.leases.clone(), request.clone());
                    async move { client.watch(request).await }
                })
                .await?;
            let changes = changes.map(|change| match change {
                Ok(change) => Ok(change.held.as_ref().map(held)),
                Err(status) => Err(fault_of("watch a lease", status)),
            });
            Ok(changes.boxed())
        })
    }

    fn usage(&self) -> BoxFuture<'_, Result<Usage, Fault>> {
        Box::pin(async move {
            let request = ext::UsageRequest {
                instance_name: self.instance.clone(),
            };
            let answer = self
                .endpoint
                .call("ask what the cache holds", || {
                    let (mut client, request) = (self.results.clone(), request.clone());
                    async move { client.usage(request).await }
                })
                .await?;
            Ok(Usage {
                blobs: answer.blobs,
                blob_bytes: answer.blob_bytes,
                results: answer.results,
                limit_bytes: answer.limit_bytes,
                pinned_bytes: answer.pinned_bytes,
                evicted_blobs: answer.evicted_blobs,
                hits: answer.hits,
                misses: answer.misses,
            })
        })
    }

    fn list<'a>(&'a self, page: &'a str) -> BoxFuture<'a, Result<Page, Fault>> {
        Box::pin(async move {
            let request = ext::ListRequest {
                instance_name: self.instance.clone(),
                page_size: PAGE,
                page_token: page.to_owned(),
            };
            let answer = self
                .endpoint
                .call("list results", || {
                    let (mut client, request) = (self.results.clone(), request.clone());
                    async move { client.list(request).await }
                })
                .await?;
            let items = answer.items.into_iter().map(|item| {
                let function = function_from_wire(item.digest_function).map_err(invalid)?;
                let action = item.action.unwrap_or_default();
                Ok(Listed {
                    action: digest_from_wire(&action, function).map_err(invalid)?,
                    last_used: item.last_used.map(|time| time.seconds),
                    result: item.result.unwrap_or_default().encode_to_vec().into(),
                })
            });
            Ok(Page {
                items: items.collect::<Result<_, Fault>>()?,
                next: answer.next_page_token,
            })
        })
    }

    fn latest_mount<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<MountSnapshot>, Fault>> {
        Box::pin(async move {
            let request = ext::LatestRequest {
                instance_name: self.instance.clone(),
                digest_function: self.wire_function(),
                name: name.to_owned(),
            };
            let answer = self
                .endpoint
                .call("look a cache mount up", || {
                    let (mut client, request) = (self.mounts.clone(), request.clone());
                    async move { client.latest(request).await }
                })
                .await;
            match answer {
                Ok(answer) => self.snapshot(&answer).map(Some),
                Err(fault) if fault.kind == FaultKind::NotFound => Ok(None),
                Err(fault) => Err(fault),
            }
        })
    }

    fn save_mount<'a>(
        &'a self,
        name: &'a str,
        trees: &'a [CasDigest],
        replaces: u64,
    ) -> BoxFuture<'a, Result<MountSnapshot, Fault>> {
        Box::pin(async move {
            let request = ext::SaveRequest {
                instance_name: self.instance.clone(),
                digest_function: self.wire_function(),
                name: name.to_owned(),
                trees: trees.iter().map(digest_to_wire).collect(),
                replaces,
            };
            let answer = self
                .endpoint
                .call("save a cache mount", || {
                    let (mut client, request) = (self.mounts.clone(), request.clone());
                    async move { client.save(request).await }
                })
                .await?;
            self.snapshot(&answer)
        })
    }
}
