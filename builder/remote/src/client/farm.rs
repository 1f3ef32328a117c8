//! What a farm is made of, as it says.

use std::collections::BTreeMap;

use ashlar_model::platform::Platform;
use ashlar_proto::wire::farm as wire;
use ashlar_proto::wire::farm::farm_client::FarmClient as Wire;
use ashlar_store::grpc::channel::GrpcChannel;

use super::{FarmClient, FarmError};
use crate::seal::Recipient;

/// Workers that are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerKind {
    /// What they have: `os`, `arch`, `variant`, `isolation`, and labels.
    pub properties: BTreeMap<String, String>,
    /// How many.
    pub workers: u32,
    /// How many segments they run at once, all together.
    pub slots: u32,
    /// How many more they would take now.
    pub free_slots: u32,
}

impl WorkerKind {
    /// How steps are isolated there, as far as it matters to results.
    pub fn isolation(&self) -> Option<&str> {
        self.properties.get("isolation").map(String::as_str)
    }

    /// Whether these workers have all that is required.
    pub fn meets(&self, requirements: &BTreeMap<String, String>) -> bool {
        let has = |(name, value): (&String, &String)| self.properties.get(name) == Some(value);
        requirements.iter().all(has)
    }
}

/// A farm, at some moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Farm {
    /// The workers of the instance, the most slots first.
    pub kinds: Vec<WorkerKind>,
    /// Whom secrets are sealed to.
    pub recipients: Vec<Recipient>,
    /// Versions of orders that all workers read.
    pub order_versions: Vec<u32>,
    /// How much waits.
    pub queued: u32,
}

impl Farm {
    /// The largest kind of workers that have all that is required.
    pub fn kind(&self, requirements: &BTreeMap<String, String>) -> Option<&WorkerKind> {
        let mut fitting = self.kinds.iter().filter(|kind| kind.meets(requirements));
        fitting.find(|kind| kind.workers > 0)
    }
}

/// What a worker must have to run steps of a platform.
pub fn requirements(platform: &Platform) -> BTreeMap<String, String> {
    let mut requirements = BTreeMap::from([
        ("os".to_owned(), platform.os.clone()),
        ("arch".to_owned(), platform.arch.clone()),
    ]);
    if let Some(variant) = &platform.variant {
        requirements.insert("variant".to_owned(), variant.clone());
    }
    requirements
}

impl FarmClient {
    pub(super) fn wire(&self) -> Wire<GrpcChannel> {
        Wire::new(self.endpoint.channel())
    }

    /// Asks the farm what it is.
    pub async fn describe(&self) -> Result<Farm, FarmError> {
        let request = wire::DescribeRequest {
            instance_name: self.instance().to_owned(),
        };
        let answer = self
            .endpoint
            .call("ask the farm what it is", || {
                let (mut client, request) = (self.wire(), request.clone());
                async move { client.describe(request).await }
            })
            .await
            .map_err(FarmError::of_fault)?;
        let kinds = answer.kinds.into_iter().map(|kind| WorkerKind {
            properties: kind.properties.into_iter().collect(),
            workers: kind.workers,
            slots: kind.slots,
            free_slots: kind.free_slots,
        });
        // One that cannot be read is not known here: the secrets are sealed to the others.
        let recipients = answer.recipients.iter().filter_map(|key| key.parse().ok());
        Ok(Farm {
            kinds: kinds.collect(),
            recipients: recipients.collect(),
            order_versions: answer.order_versions,
            queued: answer.queued,
        })
    }
}
