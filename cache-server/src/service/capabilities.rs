//! `Capabilities`: what the server can do.

use ashlar_model::cas::DigestFunction;
use ashlar_proto::convert::function_to_wire;
use ashlar_proto::wire::reapi::capabilities_server::Capabilities;
use ashlar_proto::wire::reapi::{
    ActionCacheUpdateCapabilities, CacheCapabilities, ExecutionCapabilities, FastCdc2020Params,
    GetCapabilitiesRequest, PriorityCapabilities, ServerCapabilities, compressor,
    priority_capabilities, symlink_absolute_path_strategy,
};
use ashlar_proto::wire::semver::SemVer;
use tonic::{Request, Response, Status, async_trait};

use super::chunks;
use super::execution::most_urgent;
use super::request::check_instance;
use crate::auth::{Caller, Right};
use crate::limits;

/// The service.
#[derive(Debug, Clone)]
pub struct CapabilitiesService {
    /// The largest blob that is taken; 0 for any.
    pub max_blob: u64,
    /// Whether there is a queue of work for workers.
    pub has_queue: bool,
}

fn version(minor: i32) -> Option<SemVer> {
    Some(SemVer {
        major: 2,
        minor,
        ..Default::default()
    })
}

#[async_trait]
impl Capabilities for CapabilitiesService {
    async fn get_capabilities(
        &self,
        request: Request<GetCapabilitiesRequest>,
    ) -> Result<Response<ServerCapabilities>, Status> {
        // Whoever was let in may know what the server can do; there is nothing of anybody's in it.
        let instance = &request.get_ref().instance_name;
        check_instance(instance)?;
        let rights = Caller::of(&request).rights(instance);
        let may_write = rights.has(Right::Write);
        let functions = [DigestFunction::Sha256, DigestFunction::Blake3];
        let functions = functions.map(|function| function_to_wire(function).into());
        let zstd = vec![compressor::Value::Zstd.into()];
        let cache = CacheCapabilities {
            digest_functions: functions.to_vec(),
            action_cache_update_capabilities: Some(ActionCacheUpdateCapabilities {
                update_enabled: may_write,
            }),
            cache_priority_capabilities: Some(PriorityCapabilities {
                priorities: vec![priority_capabilities::PriorityRange {
                    min_priority: 0,
                    max_priority: 0,
                }],
            }),
            max_batch_total_size_bytes: i64::try_from(limits::BATCH).unwrap_or_default(),
            symlink_absolute_path_strategy: symlink_absolute_path_strategy::Value::Allowed.into(),
            supported_compressors: zstd.clone(),
            supported_batch_update_compressors: zstd,
            max_cas_blob_size_bytes: i64::try_from(self.max_blob).unwrap_or_default(),
            split_blob_support: true,
            splice_blob_support: true,
            fast_cdc_2020_params: Some(FastCdc2020Params {
                avg_chunk_size_bytes: chunks::AVERAGE as u64,
                seed: 0,
            }),
            rep_max_cdc_params: None,
        };
        Ok(Response::new(ServerCapabilities {
            cache_capabilities: Some(cache),
            execution_capabilities: self.has_queue.then(|| ExecutionCapabilities {
                digest_function: function_to_wire(DigestFunction::Sha256).into(),
                exec_enabled: rights.has(Right::Queue),
                execution_priority_capabilities: Some(PriorityCapabilities {
                    priorities: vec![priority_capabilities::PriorityRange {
                        min_priority: most_urgent(rights.has(Right::Admin)),
                        max_priority: *limits::PRIORITIES.end(),
                    }],
                }),
                supported_node_properties: Vec::new(),
                digest_functions: functions.to_vec(),
            }),
            deprecated_api_version: None,
            // Old Bazels take no server that does not serve 2.0.
            low_api_version: version(0),
            high_api_version: version(13),
        }))
    }
}
