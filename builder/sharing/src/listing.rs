//! What a cache holds, for people: its results, and what each is.

use ashlar_model::cas::CasDigest;
use ashlar_proto::convert::required_digest;
use ashlar_proto::wire::reapi;
use ashlar_store::fault::{Fault, FaultKind};
use bytes::Bytes;
use prost::Message as _;

use crate::action::{ResultOutputs, step_of_command};
use crate::record::{LONGEST_RECORD, ResultOrigin, StepResult};
use crate::service::{Listed, Service};

/// The longest action or command that is looked at.
const LONGEST_MESSAGE: u64 = 64 << 10;

/// A result of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedResult {
    /// The action.
    pub action: CasDigest,
    /// What it is stored under: `definition`, `content` or `instruction`, and the key; `None` for
    /// what other programs than Ashlar have stored.
    pub key: Option<(String, String)>,
    /// How many layers it has; `None` if that cannot be told.
    pub layers: Option<usize>,
    /// Bytes of the tars of those layers that are in the cache.
    pub bytes: Option<u64>,
    /// When it was last used, in seconds since 1970.
    pub last_used: Option<i64>,
}

/// The results of a cache, those used last first, no more than `most`.
pub async fn list(service: &Service, most: usize) -> Result<Vec<ListedResult>, Fault> {
    let Some(extension) = &service.extension else {
        return Err(Fault::new(
            FaultKind::Unsupported,
            "the server keeps no list",
        ));
    };
    let mut results = Vec::new();
    let mut page = String::new();
    loop {
        let listed = extension.list(&page).await?;
        let mut items = listed.items;
        items.truncate(most.saturating_sub(results.len()));
        results.extend(describe(service, &items).await);
        if listed.next.is_empty() || results.len() >= most || listed.next == page {
            return Ok(results);
        }
        page = listed.next;
    }
}

/// Reads some blobs, none longer than `longest`. `None` for each that cannot be had.
async fn read(service: &Service, blobs: &[Option<CasDigest>], longest: u64) -> Vec<Option<Bytes>> {
    let wanted: Vec<CasDigest> = blobs
        .iter()
        .flatten()
        .filter(|blob| blob.size <= longest)
        .copied()
        .collect();
    let mut found = std::collections::HashMap::new();
    for (blob, bytes) in wanted.iter().zip(service.blobs.read_many(&wanted).await) {
        if let Ok(bytes) = bytes {
            found.insert(*blob, bytes);
        }
    }
    blobs
        .iter()
        .map(|blob| found.get(&(*blob)?).cloned())
        .collect()
}

async fn describe(service: &Service, items: &[Listed]) -> Vec<ListedResult> {
    let actions: Vec<_> = items.iter().map(|item| Some(item.action)).collect();
    let actions = read(service, &actions, LONGEST_MESSAGE).await;
    let commands: Vec<_> = items
        .iter()
        .zip(&actions)
        .map(|(item, action)| {
            let action = reapi::Action::decode(action.clone()?).ok()?;
            let function = item.action.function;
            required_digest(action.command_digest.as_ref(), function, "command").ok()
        })
        .collect();
    let commands = read(service, &commands, LONGEST_MESSAGE).await;
    let records: Vec<_> = items
        .iter()
        .map(|item| {
            let outputs = ResultOutputs::read(&item.result, item.action.function).ok()?;
            Some(outputs.record)
        })
        .collect();
    let records = read(service, &records, LONGEST_RECORD as u64).await;
    let described = items.iter().zip(commands).zip(records);
    let described = described.map(|((item, command), record)| {
        let record = record.and_then(|bytes| StepResult::read(&bytes).ok());
        let bytes = record.as_ref().map(|record| {
            let sizes = record.layers.iter().map(|layer| match layer.origin {
                ResultOrigin::Step { tar_size, .. } => tar_size,
                ResultOrigin::Image { .. } => 0,
            });
            sizes.fold(0, u64::saturating_add)
        });
        ListedResult {
            action: item.action,
            key: command.and_then(|command| step_of_command(&command)),
            layers: record.map(|record| record.layers.len()),
            bytes,
            last_used: item.last_used,
        }
    });
    described.collect()
}
